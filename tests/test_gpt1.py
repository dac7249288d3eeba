"""GPT-1's tokenizer against transformers, and what OpenAI's own program cut."""

import json
import os
import random
import sys
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from transformers import OpenAIGPTTokenizer

from minigpt.subword import GPT1Tokenizer

HOSTILE = (
    "",
    " ",
    "   \n\n\t ",
    "a  b",
    "we'll WE'LL we’ll 'l 'll ' l",
    "燕鸥港的渡轮晚点了。\u3000灯笼",
    "e\u0301 é \u200b\u200d\ufeff\x00\x1f",
    "👩‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "١٢٣ ½ Ⅷ 12３",
    "\u2028\u2029\u0085\xa0 x",
    "مرحبا שלום नमस्ते ไทย",
    "a" * 300,
    "x" + " " * 200 + "y",
    "<|endoftext|> <|endoftext",
    "\U0010ffff\ufffe\ue000",
)


def small_gpt1() -> GPT1Tokenizer:
    merges = [("t", "h"), ("th", "e</w>"), ("f", "e"), ("fe", "r"), ("r", "y</w>")]
    letters = "abcdefghijklmnopqrstuvwxyz.,!'"
    symbols = [*letters, *(c + "</w>" for c in letters), *map("".join, merges)]
    table = {"<unk>": 0} | {symbol: i + 1 for i, symbol in enumerate(symbols)}
    return GPT1Tokenizer(table, merges)


def test_gpt1_merges_up_to_the_end_of_a_word() -> None:
    tokenizer = small_gpt1()
    ids = tokenizer.encode("The ferry!")
    names = {i: name for name, i in tokenizer.table.items()}
    assert [names[i] for i in ids] == ["the</w>", "fer", "ry</w>", "!</w>"]
    assert tokenizer.decode(ids) == "the ferry !"
    assert list(tokenizer.decode_stream(ids)) == ["the", " fer", "ry", " !"]
    assert tokenizer.encode("é 燕") == [tokenizer.table["e</w>"], 0]
    with pytest.raises(ValueError, match="from 0 to 65, got 66"):
        tokenizer.decode([66])


# Python and `tokenizers` read different versions of the Unicode tables, in which newer
# accents are unassigned or letters: only characters that have not changed since 3.2.
OLD = [
    c
    for c in map(chr, range(sys.maxunicode))
    if unicodedata.ucd_3_2_0.category(c) == unicodedata.category(c)
    and unicodedata.category(c) not in ("Cn", "Cs")
]


def check_gpt1(ours: GPT1Tokenizer, folder: Path, n: int) -> None:
    ours.save(folder)
    theirs = OpenAIGPTTokenizer.from_pretrained(folder)
    pipeline = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    draw = random.Random(0)
    common = [*"aAeé Σ\u3000燕.'\t\n\x0b\x1f1$", " ", " ", "the", "Ferry", "I\u0307"]
    texts = [*HOSTILE[:9], *HOSTILE[11:14], "ΌΔΟΣ İstanbul ﬁ"]
    for _ in range(n):
        pools = draw.choices([OLD, common], weights=[1, 3], k=draw.randint(1, 20))
        texts.append("".join(draw.choice(pool) for pool in pools))
    for text in texts:
        ids = ours.encode(text)
        assert ids == theirs.encode(text) == pipeline.encode(text).ids, ascii(text)
        assert ours.decode(ids) == theirs.decode(ids)


def test_gpt1_ids_equal_transformers(tmp_path: Path) -> None:
    check_gpt1(small_gpt1(), tmp_path, 2000)


def published() -> tuple[Path, Path]:
    folder = Path(os.environ["MINIGPT_DATA"]) / "tokenizer-gpt1"
    return folder / "encoder_bpe_40000.json", folder / "vocab_40000.bpe"


@pytest.mark.data
def test_published_gpt1_ids_equal_transformers(tmp_path: Path) -> None:
    ours = GPT1Tokenizer.from_files(*published())
    assert ours.vocab_size == 40478
    check_gpt1(ours, tmp_path, 20_000)


@pytest.mark.data
def test_the_recorded_cuts_of_gpt1_are_what_we_cut() -> None:
    ours = GPT1Tokenizer.from_files(*published())
    path = Path(__file__).parents[1] / "results" / "gpt1_tokens.json"
    cuts = json.loads(path.read_text(encoding="utf-8"))["cuts"]
    assert len(cuts) >= 4
    for text, programs in cuts.items():
        assert ours.encode(text) == programs["transformers"]["ids"]
        for cut in programs.values():
            assert ours.decode(cut["ids"]) == cut["comes back as"]
