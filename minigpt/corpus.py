"""Chapter 5. Corpora: from a name or a path to tokens, whatever the size.

A text that fits into memory is read, cut and encoded there. A larger file, from 50 MB
on, is never read whole: its merges are counted on 32 MB from all over it, and its
tokens are written to a file and mapped (`tokens.py`). What comes out is the same.
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple

from jaxtyping import Integer
from torch import Tensor

from minigpt.data import IGNORE, encode_text
from minigpt.files import TABLES
from minigpt.overlap import Overlap, overlap
from minigpt.subword import BPETokenizer
from minigpt.texts import END_OF_TEXT, Text, load_text
from minigpt.tokenizer import CharTokenizer, Tokenizer, WordTokenizer
from minigpt.tokens import Progress, encode_file, held_apart, is_large, sample

Kind = Literal["auto", "char", "word", "bpe"]
KINDS: tuple[Kind, ...] = ("auto", "char", "word", "bpe")


class Corpus(NamedTuple):
    """A text as a model is trained on it; `file` holds its tokens if it is large."""

    name: str
    tokenizer: Tokenizer
    train: Integer[Tensor, "..."]
    validation: Integer[Tensor, "..."]
    overlap: Overlap
    file: Path | None = None

    def __str__(self) -> str:
        sizes = (
            # Only padded stories hold anything but tokens.
            part.numel() if part.ndim == 1 else int((part != IGNORE).sum())
            for part in (self.train, self.validation)
        )
        counts = "{:,} tokens, and {:,} to validate on".format(*sizes)
        where = "" if self.file is None else f", in {self.file}"
        return f"{self.name}: {counts}{where}"


def load_corpus(
    source: str | Path,
    *,
    tokenizer: Kind = "auto",
    vocab_size: int = 4096,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """A text by name or path, its tokenizer and its tokens.

    The tokens of a large file are kept beside it, or in `folder` where nothing can be
    written there; `progress` is told how far their encoding has come.

    Raises:
        FileNotFoundError: the name or path leads nowhere.
        ValueError: text that cannot be read or cut.
        OSError: no folder for the tokens of a large file can be written to.
    """
    if not is_large(source):
        text = load_text(source)
        chosen = choose_tokenizer(text, tokenizer, vocab_size)
        train, validation = (
            encode_text(text, part, chosen) for part in (text.train, text.validation)
        )
        return Corpus(text.name, chosen, train, validation, overlap(text))
    path = Path(source)
    chosen = tokenizer_of(path, tokenizer, vocab_size)
    beside = os.access(path.parent, os.W_OK)
    found = encode_file(
        path, chosen, folder=None if beside else folder, progress=progress
    )
    return Corpus(
        path.stem, chosen, found.train, found.validation, found.overlap, found.path
    )


def choose_tokenizer(text: Text, kind: Kind, vocab_size: int) -> Tokenizer:
    """The tokenizer asked for; for "auto" the words of stories, else characters.

    Characters suit a short text: a larger vocabulary would see each token too seldom.
    """
    whole = text.train + text.validation
    if text.packed and text.end is not None:
        # A tokenizer without the mark parts documents by a line break.
        whole = f"{whole}\n".replace(text.end, "\n")
    if kind == "auto":
        small = len(whole) < 5_000_000 and len(set(whole)) <= 512
        kind = "word" if text.name == "stories" else "char" if small else "bpe"
    if kind == "word":
        return WordTokenizer()
    if kind == "char":
        return CharTokenizer.train(whole)
    # Merges are counted on the training part alone; every other byte has its token.
    marks = () if text.end is None else (text.end,)
    documents = text.documents(text.train)
    return BPETokenizer.train(documents, vocab_size=vocab_size, special_tokens=marks)


def tokenizer_of(path: Path, kind: Kind, vocab_size: int) -> Tokenizer:
    """The same for a large file, where "auto" is byte pairs, counted on a sample."""
    documents = path.suffix in TABLES
    if kind == "word":
        return WordTokenizer()
    if kind == "char":
        seen = {"\n"} if documents else set[str]()
        for _, piece in held_apart(path):
            seen.update(piece.text)
        return CharTokenizer(sorted(seen))
    marks = (END_OF_TEXT,) if documents else ()
    return BPETokenizer.train(sample(path), vocab_size=vocab_size, special_tokens=marks)
