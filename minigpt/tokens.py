"""Chapter 5. Tokens on disk: a text larger than memory, encoded once, read in place.

A file that `encode_file` writes is a safetensors file with two rows of numbers, `train`
and `validation`, in 16 bits each where the vocabulary allows it. It is mapped into
memory, not read: the system fetches the pages that a batch touches, and drops them
again when memory is short. Its name and header carry the digests of the text and of the
tokenizer, so that the same text is encoded once, and another one never mistaken for it.

Nothing here holds more than a few blocks of the text at a time.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Integer
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minigpt.data import end_mark
from minigpt.files import BLOCK, TABLES, Piece, blocks, hold_out, rows
from minigpt.overlap import Overlap, Watch
from minigpt.storage import replacing
from minigpt.texts import END_OF_TEXT
from minigpt.tokenizer import Tokenizer

# Bytes from which a file is encoded to disk: below it, text, ids and the runs of eight
# words that are compared take about a gigabyte of memory in all.
LARGE = 50_000_000
# Bytes of a large text, in blocks spread evenly over it, on which merges are counted.
SAMPLE = 32 * BLOCK
HEADER = 4096  # bytes kept free for the header, which is known last

# Told the bytes of text encoded so far, and how many there are.
Progress = Callable[[int, int], object]
Metadata = dict[str, str]


class TokenFile(NamedTuple):
    """The tokens of a file, mapped, and what its header says about them."""

    path: Path
    train: Integer[Tensor, " N"]
    validation: Integer[Tensor, " M"]
    overlap: Overlap
    metadata: Metadata


def is_large(source: object) -> bool:
    """Whether a source is a file that is encoded to disk."""
    path = Path(source) if isinstance(source, (str, Path)) else None
    return path is not None and path.is_file() and path.stat().st_size >= LARGE


def pieces(path: Path, *, block: int = BLOCK) -> Iterator[Piece]:
    """The documents of a table, or the blocks of a running text."""
    return rows(path) if path.suffix in TABLES else blocks(path, size=block)


def held_apart(path: Path, *, block: int = BLOCK) -> Iterator[tuple[bool, Piece]]:
    """Every piece of a file, and whether it is held out for validation.

    Raises:
        ValueError: one piece or none, so that there is nothing to hold out.
    """
    size, count = path.stat().st_size, 0
    for held, piece in hold_out(pieces(path, block=block), size):
        count += 1
        if held and count == 1:
            raise ValueError(
                f"expected at least 2 pieces of text in {path}, one to hold out, got "
                f"1: bring more text"
            )
        yield held, piece
    if not count:
        raise ValueError(f"expected text in {path}, got none: the file is empty")


def sample(path: Path, *, most: int = SAMPLE, block: int = BLOCK) -> Iterator[str]:
    """Training text from all over a file, about `most` bytes of it."""
    every = -(-path.stat().st_size // most)
    for held, piece in held_apart(path, block=block):
        if not held and piece.start // block % every == 0:
            yield piece.text


def encoded(
    texts: Iterable[str], tokenizer: Tokenizer, *, documents: bool
) -> Iterator[Sequence[int]]:
    """The ids of documents with end marks between them, or of one text in pieces."""
    if documents:
        end = end_mark(tokenizer, END_OF_TEXT, packed=True)
        yield end
        for text in texts:
            yield [*tokenizer.encode(text), *end]
    else:
        yield from map(tokenizer.encode, texts)


def encode_file(
    path: Path,
    tokenizer: Tokenizer,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    block: int = BLOCK,
) -> TokenFile:
    """The tokens of a .txt, .jsonl or .csv file of any size, from a file beside it.

    The file is written if it is not there, and `progress` told how far that has come.

    Raises:
        ValueError: text that cannot be read or cut, or a damaged file of tokens.
        OSError: the folder cannot be written to.
    """
    digests = {"text": file_digest(path), "tokenizer": tokenizer_digest(tokenizer)}
    name = ".".join((path.stem, *(d[:8] for d in digests.values()), "safetensors"))
    into = (folder or path.parent) / name
    into.parent.mkdir(parents=True, exist_ok=True)
    if not into.is_file():
        with replacing(into) as temporary:
            try:
                with temporary.open("wb") as file:
                    _write(file, path, tokenizer, digests, progress, block)
            except BaseException:  # an interrupt too: gigabytes would be left behind
                temporary.unlink(missing_ok=True)
                raise
    found = open_tokens(into)
    for what, digest in digests.items():
        if found.metadata.get(what) != digest:
            raise ValueError(
                f"expected the tokens of {path} in {into}, got those of another "
                f"{what}: delete that file, and it is made again"
            )
    return found


def _write(
    file: BinaryIO,
    path: Path,
    tokenizer: Tokenizer,
    digests: Metadata,
    progress: Progress | None,
    block: int,
) -> None:
    """A safetensors file, its header last: only then the counts are known."""
    documents, size = path.suffix in TABLES, path.stat().st_size
    held_out = (p.text.strip() for held, p in held_apart(path, block=block) if held)
    watch = Watch(held_out, running=not documents)
    kind = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
    table: dict[str, Any] = {}

    def texts(some: Iterable[tuple[bool, Piece]]) -> Iterator[str]:
        for _, piece in some:
            if progress is not None:
                progress(piece.start, size)
            yield piece.text.strip() if documents else piece.text

    file.write(bytes(HEADER))
    begin = 0
    parts = groupby(held_apart(path, block=block), key=lambda pair: pair[0])
    for held, some in parts:
        text = texts(some) if held else watch.through(texts(some))
        for ids in encoded(text, tokenizer, documents=documents):
            file.write(np.asarray(ids, dtype=kind).tobytes())
        end = file.tell() - HEADER
        table["validation" if held else "train"] = {
            "dtype": f"U{8 * kind.itemsize}",
            "shape": [(end - begin) // kind.itemsize],
            "data_offsets": [begin, end],
        }
        begin = end
    found = {"overlap": json.dumps(watch.result())}
    header = json.dumps({"__metadata__": digests | found, **table}).encode()
    file.seek(0)
    # The format's first eight bytes say how long the header is; it may end in spaces.
    file.write((HEADER - 8).to_bytes(8, "little") + header.ljust(HEADER - 8))


def open_tokens(path: Path) -> TokenFile:
    """Map a file of tokens into memory.

    Raises:
        ValueError: the file is truncated, or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            train, validation = map(file.get_tensor, ("train", "validation"))
            said = file.metadata() or {}
            overlap = Overlap(*json.loads(said["overlap"]))
    except (SafetensorError, KeyError) as error:
        raise ValueError(
            f"expected a file of tokens, got {path} ({error}): delete it, and it is "
            f"made again"
        ) from None
    return TokenFile(path, train, validation, overlap, said)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of all that a tokenizer saves: two that agree encode alike."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        for file in sorted(Path(folder).iterdir()):
            digest.update(file.name.encode() + b"\n" + file.read_bytes())
    return digest.hexdigest()


def token_digest(*parts: Integer[Tensor, "..."]) -> str:
    """SHA-256 of rows of tokens, without a second copy of any of them."""
    digest = hashlib.sha256()
    for tokens in parts:
        for some in tokens.split(BLOCK):
            digest.update(some.contiguous().view(-1).numpy())
    return digest.hexdigest()
