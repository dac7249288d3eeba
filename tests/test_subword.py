"""GPT-2's tokenizer against tiktoken, Hugging Face and round trips."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiktoken
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext.openai_public import r50k_pat_str

from minigpt import stories
from minigpt.subword import END_OF_TEXT, BPETokenizer, GPT1Tokenizer

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
TEXT = " ".join(stories.generate(seed).text for seed in range(60)) + (
    " 燕鸥港的渡轮晚点了。艾达点亮灯塔。" * 3 + " café naïve 12 123 we'll they'll"
)
QUICK = settings(max_examples=300, deadline=None, derandomize=True, database=None)
ANY = st.text(st.characters(codec="utf-8"), max_size=40)
# Text in which the hard cases are frequent: marks, spaces, endings, pieces of words.
PIECES = st.lists(
    st.sampled_from(
        (
            "'·l·ll·ve· ·  ·\n·<|endoftext|>·<|·é·e\u0301·燕·。·the· the·12·\u3000·"
            "👩\u200d👧·\x00·A·!?"
        ).split("·")
    ),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def trained() -> BPETokenizer:
    return BPETokenizer.train([TEXT], vocab_size=600)


@pytest.fixture(scope="module")
def hf(
    trained: BPETokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tokenizers.Tokenizer:
    folder = tmp_path_factory.mktemp("bpe")
    trained.save(folder)
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_every_text_comes_back(trained: BPETokenizer) -> None:
    @QUICK
    @given(ANY | PIECES)
    def check(text: str) -> None:
        assert trained.decode(trained.encode(text)) == text
        allowed = trained.encode(text, allowed_special="all")
        assert trained.decode(allowed) == text

    check()
    for text in HOSTILE:
        assert trained.decode(trained.encode(text)) == text


def test_all_bytes_come_back(trained: BPETokenizer) -> None:
    @QUICK
    @given(st.binary(max_size=40))
    def check(raw: bytes) -> None:
        assert trained.decode_bytes(trained.encode_bytes(raw)) == raw

    check()
    assert trained.encode_bytes("渡轮 ok".encode()) == trained.encode("渡轮 ok")


def test_ids_equal_hugging_faces_on_what_we_write(
    trained: BPETokenizer, hf: tokenizers.Tokenizer
) -> None:
    @QUICK
    @given(ANY | PIECES)
    def check(text: str) -> None:
        assert trained.encode(text, allowed_special="all") == hf.encode(text).ids

    check()
    for text in (*HOSTILE, TEXT):
        assert trained.encode(text, allowed_special="all") == hf.encode(text).ids


def test_ids_equal_tiktokens_with_our_trained_vocabulary(trained: BPETokenizer) -> None:
    theirs = as_tiktoken(trained)

    @QUICK
    @given(ANY | PIECES)
    def check(text: str) -> None:
        assert trained.encode(text) == theirs.encode_ordinary(text)

    check()
    for text in HOSTILE:
        assert trained.encode(text) == theirs.encode_ordinary(text)


@pytest.mark.slow
def test_every_code_point_is_cut_as_tiktoken_cuts_it(trained: BPETokenizer) -> None:
    # `regex` and tiktoken bring Unicode tables of their own; a character that is a
    # letter, a digit or a space to one of them only would change where words end.
    theirs = as_tiktoken(trained)
    # No version of Unicode assigns anything between plane 3 and plane 14.
    points = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000)]
    every = [*map(chr, points)]
    for i in range(0, len(every), 256):
        text = "".join(f"a{c}b1{c}2 {c}\n" for c in every[i : i + 256])
        assert trained.encode(text) == theirs.encode_ordinary(text), ascii(every[i])


def test_training_finds_the_tokens_that_hugging_face_finds() -> None:
    # xy 16 times, then xy·z 7, pq 3, w·xyz 2: no ties, which each breaks its own way.
    texts = ["xy\n" * 9 + "xyz\n" * 5, "wxyz\n" * 2 + "pq\n" * 3]
    ours = BPETokenizer.train(texts, vocab_size=260, special_tokens=())
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    cut = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.pre_tokenizer = cut
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=260, initial_alphabet=cut.alphabet(), show_progress=False
    )
    theirs.train_from_iterator(texts, trainer)
    made = {token.decode() for token in ours.vocabulary if len(token) > 1}
    assert made == {token for token in theirs.get_vocab() if len(token) > 1}
    assert made == {"xy", "xyz", "pq", "wxyz"}


def test_special_tokens_are_ordinary_text_unless_allowed(trained: BPETokenizer) -> None:
    text = f"one{END_OF_TEXT}two"
    end = trained.special_tokens[END_OF_TEXT]
    assert end == trained.end_id == trained.vocab_size - 1
    assert end not in trained.encode(text)
    allowed = [*trained.encode("one"), end, *trained.encode("two")]
    assert trained.encode(text, allowed_special=(END_OF_TEXT,)) == allowed
    assert trained.encode(text, allowed_special="all") == allowed
    assert trained.decode(allowed) == text


def test_the_longest_special_token_wins() -> None:
    tokenizer = BPETokenizer.train(
        ["x"], vocab_size=260, special_tokens=("<a>", "<a><b>", "<b>")
    )
    special = tokenizer.special_tokens
    ids = tokenizer.encode("<a><b><a><c>", allowed_special="all")
    assert ids[:2] == [special["<a><b>"], special["<a>"]]


def test_a_stream_of_chunks_gives_the_ids_of_the_joined_text() -> None:
    special = ("<|endoftext|>", "<|", "<|endoftext|>é")
    tokenizer = BPETokenizer.train([TEXT], vocab_size=500, special_tokens=special)

    @QUICK
    @given(st.lists(PIECES | st.text(max_size=3), max_size=8), st.booleans())
    def check(chunks: list[str], allow: bool) -> None:
        chunks = [c for c in chunks if c.isascii() or c.encode("utf-8", "ignore")]
        allowed = special if allow else ()
        whole = tokenizer.encode("".join(chunks), allowed_special=allowed)
        stream = tokenizer.encode_stream(chunks, allowed_special=allowed)
        assert list(stream) == whole
        letters = tokenizer.encode_stream("".join(chunks), allowed_special=allowed)
        assert list(letters) == whole

    check()


def test_a_stream_holds_back_no_more_than_a_word_or_two(trained: BPETokenizer) -> None:
    taken = 0

    def chunks() -> Iterator[str]:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield "the ferry "

    stream = trained.encode_stream(chunks())
    assert "the ferry".startswith(trained.decode([next(stream)]))
    assert taken <= 2


def test_decoding_a_stream_never_shows_half_a_character(trained: BPETokenizer) -> None:
    ids = trained.encode("渡é👩 ok")
    pieces = list(trained.decode_stream(ids))
    assert len(pieces) == len(ids)
    assert "".join(pieces) == "渡é👩 ok"
    assert "\ufffd" not in "".join(pieces)

    @QUICK
    @given(st.lists(st.integers(0, trained.vocab_size - 1), max_size=20))
    def check(ids: list[int]) -> None:
        assert "".join(trained.decode_stream(ids)) == trained.decode(ids)

    check()


def test_batches_are_the_texts_one_by_one(trained: BPETokenizer) -> None:
    texts = ["the ferry", "", "灯笼"]
    batch = trained.encode_batch(texts)
    assert batch == [trained.encode(text) for text in texts]
    assert trained.decode_batch(batch) == texts


def test_ids_may_come_as_a_tensor(trained: BPETokenizer) -> None:
    ids = torch.tensor(trained.encode("the ferry"))
    assert trained.decode(ids) == "the ferry"


def test_every_token_of_a_trained_vocabulary_is_reached(trained: BPETokenizer) -> None:
    for token, i in trained.vocabulary.items():
        assert trained.encode_word(token) == [i]


def test_forgetting_the_memo_changes_nothing(
    trained: BPETokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained.encode(TEXT)
    monkeypatch.setattr("minigpt.subword.MEMO_WORDS", 3)
    fresh = BPETokenizer(trained.vocabulary, trained.merges)
    assert fresh.encode(TEXT) == whole
    assert len(fresh._memo) <= 3


def test_small_texts_give_a_smaller_vocabulary() -> None:
    assert BPETokenizer.train(["ab"], vocab_size=1000).vocab_size == 258


ERRORS: dict[str, tuple[str, Callable[[BPETokenizer], object]]] = {
    "surrogate": (
        r"half a surrogate pair, '\\ud800', at position 2",
        lambda t: t.encode("ab\ud800"),
    ),
    "surrogate in a stream": (
        "half a surrogate pair",
        lambda t: list(t.encode_stream(["a", "\udfff"])),
    ),
    "surrogate in training": (
        "half a surrogate pair",
        lambda t: BPETokenizer.train(["\ud800"], vocab_size=300),
    ),
    "unknown special": (
        r"expected special tokens among <\|endoftext\|>, got '<pad>'",
        lambda t: t.encode("a", allowed_special=("<pad>",)),
    ),
    "id too large": (r"from 0 to 599, got 600: decode", lambda t: t.decode([0, 600])),
    "negative id": ("from 0 to 599, got -1", lambda t: t.decode([-1])),
    "too small": (
        "vocab_size of at least 257 .* got 256",
        lambda t: BPETokenizer.train(["a"], vocab_size=256),
    ),
    "one text": (
        "expected several texts, got one str",
        lambda t: BPETokenizer.train("a", vocab_size=300),
    ),
    "missing product": (
        "got none for b'ab'",
        lambda t: BPETokenizer(
            {bytes([b]): b for b in range(256)}, [(b"a", b"b")], special_tokens={}
        ),
    ),
    "not bytes": (
        "expected merges of bytes in GPT-2's alphabet, got '燕' and 'a'",
        lambda t: BPETokenizer.from_written({}, [("燕", "a")]),
    ),
    "gpt1 without unk": (
        "got none for '<unk>'",
        lambda t: GPT1Tokenizer({"a</w>": 0}, []),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_named(name: str, trained: BPETokenizer) -> None:
    message, call = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call(trained)


def as_tiktoken(tokenizer: BPETokenizer) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        "ours",
        pat_str=r50k_pat_str,
        mergeable_ranks=tokenizer.vocabulary,
        special_tokens=tokenizer.special_tokens,
    )


def published() -> tuple[Path, Path]:
    folder = Path(os.environ["MINIGPT_DATA"]) / "tokenizer-gpt2"
    return folder / "encoder.json", folder / "vocab.bpe"


@pytest.mark.data
def test_gpt2_ids_equal_tiktokens_on_a_hundred_thousand_texts() -> None:
    ours = BPETokenizer.from_gpt2_files(*published())
    theirs = as_tiktoken(ours)
    assert ours.vocab_size == theirs.n_vocab == 50257
    assert ours.end_id == 50256
    for text in HOSTILE:
        assert ours.encode(text) == theirs.encode_ordinary(text)
        both = ours.encode(text, allowed_special="all")
        assert both == theirs.encode(text, allowed_special="all")

    @settings(QUICK, max_examples=100_000)
    @given(ANY | PIECES)
    def check(text: str) -> None:
        ids = ours.encode(text)
        assert ids == theirs.encode_ordinary(text)
        assert ours.decode(ids) == text

    check()


@pytest.mark.data
def test_gpt2_ids_of_the_paper_stand() -> None:
    ours = BPETokenizer.from_gpt2_files(*published())
    assert ours.encode("Hello world") == [15496, 995]
