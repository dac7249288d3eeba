"""Tokens on disk are the tokens in memory, in a file that others can read too."""

import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from minigpt import stories, tokens
from minigpt.data import Windows, encode_text, make_batches
from minigpt.overlap import overlap
from minigpt.subword import BPETokenizer, GPT1Tokenizer
from minigpt.texts import Text, load_text
from minigpt.tokenizer import CharTokenizer, Tokenizer, WordTokenizer
from minigpt.tokens import (
    encode_file,
    file_digest,
    open_tokens,
    token_digest,
    tokenizer_digest,
)

TOLD = "\n\n".join(story.text for story in stories.corpus(60))
BPE = BPETokenizer.train([TOLD], vocab_size=300)
GPT1 = GPT1Tokenizer({"<unk>": 0, **{c: i for i, c in enumerate("abcde", 1)}}, [])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "told.txt"
    path.write_text(TOLD, encoding="utf-8")
    return path


def parts_of(path: Path, block: int) -> Text:
    """The text of a file, cut where `encode_file` cuts it."""
    found: dict[bool, str] = {False: "", True: ""}
    for held, piece in tokens.held_apart(path, block=block):
        found[held] += piece.text
    return Text(path.stem, found[False], found[True])


@pytest.mark.parametrize(
    "tokenizer",
    [BPE, CharTokenizer.train(TOLD), WordTokenizer(), GPT1],
    ids=lambda tokenizer: type(tokenizer).__name__,
)
@pytest.mark.parametrize("block", [100, 3000])
def test_a_running_text_on_disk_has_the_tokens_and_batches_of_one_in_memory(
    text, tokenizer, block
):
    cut = parts_of(text, block)
    assert cut.train + cut.validation == TOLD
    assert len(TOLD) // 10 - block <= len(cut.validation) <= len(TOLD) // 10 + block
    found = encode_file(text, tokenizer, block=block)
    expected = [encode_text(cut, p, tokenizer) for p in (cut.train, cut.validation)]
    assert found.train.tolist() == expected[0].tolist()
    assert found.validation.tolist() == expected[1].tolist()
    assert found.overlap == overlap(cut)
    streams = [
        make_batches(some, context_length=5, batch_size=4, seed=3)
        for some in (found.train, expected[0])
    ]
    for _ in range(3):
        assert_close(next(streams[0]), next(streams[1]), rtol=0, atol=0)


@pytest.mark.parametrize("tokenizer", [BPE, CharTokenizer.train(f"{TOLD}\n")])
@pytest.mark.parametrize("name", ["told.jsonl", "told.csv"])
def test_documents_on_disk_are_those_in_memory(tmp_path, tokenizer, name):
    told = [*(s.text for s in stories.corpus(30)), "Ada lights the lamp."] * 2
    rows = [json.dumps({"text": s}) for s in told]
    if name.endswith("csv"):
        rows = ["text", *('"' + s.replace('"', '""') + '"' for s in told)]
    path = tmp_path / name
    path.write_text("\n".join(rows), encoding="utf-8")
    found, text = encode_file(path, tokenizer), load_text(path)
    expected = [encode_text(text, p, tokenizer) for p in (text.train, text.validation)]
    assert found.train.tolist() == expected[0].tolist()
    assert found.validation.tolist() == expected[1].tolist()
    # Every held-out story was told before, and is counted.
    assert found.overlap == overlap(text)
    assert found.overlap.duplicates == found.overlap.documents > 1


def test_a_stream_from_disk_goes_on_where_it_stood(text):
    found = encode_file(text, BPE)
    first = Windows(found.train, context_length=5, batch_size=3)
    next(first)
    state, expected = first.state(), [next(first) for _ in range(3)]
    again = Windows(encode_file(text, BPE).train, context_length=5, batch_size=3)
    again.restore(state)
    assert_close([next(again) for _ in range(3)], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("largest", "dtype"), [(2**16, torch.uint16), (2**16 + 1, torch.uint32)]
)
def test_two_bytes_a_token_where_they_suffice(text, monkeypatch, largest, dtype):
    monkeypatch.setattr(BPETokenizer, "vocab_size", largest)
    found = encode_file(text, BPE)
    assert found.train.dtype == found.validation.dtype == dtype
    whole = "".join(BPE.decode(part.tolist()) for part in found[1:3])
    assert whole == TOLD
    batch = next(Windows(found.train, context_length=5, batch_size=3))
    assert batch.inputs.dtype == torch.int64


def test_the_file_is_a_safetensors_file_whose_header_says_what_it_is(text):
    found = encode_file(text, BPE)
    # The format's own library is the judge.
    assert_close(load_file(found.path), {"train": found[1], "validation": found[2]})
    assert found.metadata["text"] == hashlib.sha256(text.read_bytes()).hexdigest()
    assert found.metadata["tokenizer"] == tokenizer_digest(BPE)
    assert (found.path.stat().st_size - tokens.HEADER) == 2 * (
        len(found.train) + len(found.validation)
    )


def test_the_same_text_is_encoded_once_and_another_again(text, monkeypatch):
    first, heard = encode_file(text, BPE), []
    assert encode_file(text, BPE, progress=lambda *at: heard.append(at))[0] == first[0]
    assert heard == []
    other = BPETokenizer.train([TOLD], vocab_size=299)
    second = encode_file(text, other, progress=lambda *at: heard.append(at))
    assert heard[0] == (0, text.stat().st_size)
    text.write_text(TOLD[:-1] + "!")
    third = encode_file(text, BPE)
    assert len({first.path, second.path, third.path}) == 3
    assert third.validation[-1] == BPE.encode("!")[0]
    # Names carry eight digits of each digest; the header has all of them.
    monkeypatch.setattr(tokens, "file_digest", lambda path: file_digest(path)[:8])
    with pytest.raises(ValueError, match="got those of another text: delete that file"):
        encode_file(text, BPE)


def test_a_file_that_is_cut_off_or_foreign_is_refused(text):
    path = encode_file(text, BPE).path
    whole = path.read_bytes()
    for wrong in (whole[:-1], whole[:100], b"", b"text" * 9):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"a file of tokens, got .*: delete it"):
            open_tokens(path)
    path.write_bytes(whole.replace(b'"overlap"', b'"overlip"'))
    with pytest.raises(ValueError, match=r"a file of tokens, got .*: delete it"):
        open_tokens(path)


def test_a_full_disk_leaves_nothing_behind_and_is_said(text, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tokens, "_write", full)
    with pytest.raises(OSError, match=r"expected to write .*told.*No space left"):
        encode_file(text, BPE)
    assert list(text.parent.iterdir()) == [text]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.txt", "", r"expected text in .*e\.txt, got none: the file is empty"),
        ("o.txt", "one", r"at least 2 pieces of text in .*o\.txt, one to hold out"),
        ("o.csv", "text\none\n", r"at least 2 pieces of text in .*o\.csv"),
    ],
)
def test_a_text_with_nothing_to_hold_out_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        encode_file(path, BPE)
    assert list(tmp_path.iterdir()) == [path]


def test_two_tokenizers_share_a_digest_only_if_they_save_the_same():
    def digest(tokenizer: Tokenizer) -> str:
        return tokenizer_digest(tokenizer)

    same = BPETokenizer.train([TOLD], vocab_size=300)
    assert digest(BPE) == digest(same)
    marked = BPETokenizer.train([TOLD], vocab_size=300, special_tokens=[])
    others = [marked, CharTokenizer.train(TOLD), CharTokenizer.train("ab"), GPT1]
    assert len({digest(BPE), *map(digest, others)}) == 5


def test_the_digest_of_tokens_is_that_of_their_bytes_in_a_row():
    rows = torch.arange(12, dtype=torch.int32).view(3, 4)
    expected = hashlib.sha256(rows.numpy().tobytes() + b"\1\0").hexdigest()
    assert token_digest(rows, torch.tensor([1], dtype=torch.uint16)) == expected


def test_a_sample_comes_from_all_over_the_training_text(text):
    some = list(tokens.sample(text, most=len(TOLD) // 4, block=100))
    assert 0.15 < sum(map(len, some)) / len(TOLD) < 0.35
    places = [TOLD.index(piece) / len(TOLD) for piece in some]
    assert min(places) < 0.05
    assert 0.8 < max(places) < 0.9
    assert all(piece in TOLD for piece in some)


SCRIPT = """
import json, sys, threading
from pathlib import Path
import torch
from minigpt.corpus import load_corpus
from minigpt.data import Windows
from minigpt.model import GPT, GPTConfig
from minigpt.run import TrainConfig
from minigpt.train import fit

def memory(name):
    # Linux alone says which of a process's pages belong to files.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(l.split()[1]) for l in lines if l.startswith(name)) * 1024

path, out = Path(sys.argv[1]), Path(sys.argv[2])
# What torch's first steps cost has nothing to do with the text.
shape = GPTConfig(vocab_size=512, context_length=64, n_layer=1, n_head=2, d_model=8)
config = TrainConfig(steps=3, eval_every=3, device="cpu", precision="float32")
fit(GPT(shape), torch.arange(500), torch.arange(100), config, out=out / "first")
before, own = memory("VmRSS"), memory("RssAnon")
corpus = load_corpus(path, vocab_size=512)
peak = memory("VmHWM") - before
batches = Windows(corpus.train, context_length=64, batch_size=16)
for _ in range(500):
    next(batches)
fit(GPT(shape), corpus.train, corpus.validation[:10_000], config, out=out / "run")
kept = memory("RssAnon") - own
n = len(corpus.train) + len(corpus.validation)
print(json.dumps({"encoding": peak, "training": kept, "tokens": n}))
"""


@pytest.mark.slow
def test_a_text_of_200_megabytes_is_encoded_and_trained_on_in_100(tmp_path):
    told = " ".join(story.text for story in stories.corpus(1000)).split(" ")
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        while file.tell() < 200_000_000:
            # Each time another start, so that no block is like another.
            told = told[101:] + told[:101]
            file.write(" ".join([*told, "\n"]).encode())
    command = [sys.executable, "-c", SCRIPT, str(path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    used = json.loads(done.stdout.splitlines()[-1])
    assert used["tokens"] > 40_000_000
    # While it encodes: all memory, pages of files included.
    assert used["encoding"] < 100_000_000, used
    # While it trains, the file's pages come and go; this is what the process holds.
    assert used["training"] < 100_000_000, used
