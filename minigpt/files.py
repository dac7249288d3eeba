"""Chapter 5. Files: a text read from the disk, all at once or piece by piece.

A file of rows (.jsonl, .csv) is a collection of documents, any other is running text.
Read in pieces it may be larger than memory; `hold_out` says which of them are for
validation while they go by.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import regex

# Files whose rows are documents; any other is running text.
TABLES = (".jsonl", ".csv")
# Of a very large text a tenth would take longer to validate on than to train on.
MOST_HELD_OUT = 5_000_000
# Bytes of running text that are read at once.
BLOCK = 2**20
WHITE = regex.compile(r"\s")  # as GPT-2's tokenizer sees it


class Piece(NamedTuple):
    """A document, or a stretch of running text, and the byte that it starts at."""

    start: int
    text: str


def hold_out(pieces: Iterable[Piece], size: int) -> Iterator[tuple[bool, Piece]]:
    """Say of each piece whether it is held out, holding no more than one of them.

    Held out is what starts in the last tenth, or the last 5 MB of a large file, and
    always the last piece.
    """
    border = size - min(size // 10, MOST_HELD_OUT)
    before: Piece | None = None
    for piece in pieces:
        if before is not None:
            yield before.start >= border, before
        before = piece
    if before is not None:
        yield True, before


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        ValueError: not UTF-8.
    """
    # "utf-8-sig" drops the mark that Windows programs put at the start of a file.
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(not_utf8(path, error.start)) from None


def not_utf8(path: Path, position: int) -> str:
    """What is wrong with a file that no one can read."""
    return (
        f"expected UTF-8 text in {path}, got a byte that is not (position {position}): "
        f"convert the file first"
    )


def rows(path: Path) -> Iterator[Piece]:
    """The documents of a .jsonl or .csv file, its column `text`, one at a time.

    Raises:
        ValueError: not UTF-8, not valid JSON, or no column `text`.
    """
    read = _json_rows if path.suffix == ".jsonl" else _csv_rows
    try:
        for start, row in read(_lines_of(path)):
            text = row.get("text") if isinstance(row, dict) else None
            if text is None:
                raise ValueError(
                    f'expected a column "text" in {path}, got {row!r}: rename the '
                    f"column that holds the text"
                )
            if str(text).strip():
                yield Piece(start, str(text))
    except (json.JSONDecodeError, csv.Error) as error:
        raise ValueError(
            f"expected a table in {path}, got {error}: check that each row is whole"
        ) from None


def _lines_of(path: Path) -> Iterator[Piece]:
    start = 0
    with path.open("rb") as file:
        for line in file:
            try:
                text = line.decode("utf-8-sig" if start == 0 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(not_utf8(path, start + error.start)) from None
            yield Piece(start, text.replace("\r\n", "\n"))
            start += len(line)


def _json_rows(lines: Iterable[Piece]) -> Iterator[tuple[int, Any]]:
    return ((line.start, json.loads(line.text)) for line in lines if line.text.strip())


def _csv_rows(lines: Iterable[Piece]) -> Iterator[tuple[int, Any]]:
    starts: list[int] = []

    def read() -> Iterator[str]:
        for line in lines:
            starts.append(line.start)
            yield line.text

    # A quoted text may go over several lines; the row starts at the first of them.
    for row in csv.DictReader(read()):
        yield starts[0], row
        starts.clear()


def last_space(text: str) -> int:
    """Where the last white space begins that is surely all there; else 0."""
    at = max(text.rfind(" "), text.rfind("\n"))
    while at > 0 and WHITE.match(text[at - 1]):
        at -= 1
    return max(at, 0)


def blocks(path: Path, *, size: int = BLOCK) -> Iterator[Piece]:
    """Running text in pieces that end with a word; space belongs to the next.

    No token of any tokenizer here is a letter and then a space, so that the pieces'
    tokens are the text's. (A word longer than `size` is cut all the same.)

    Raises:
        ValueError: not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    # "\r\n" is one line break even where a read ends between the two.
    lines = io.IncrementalNewlineDecoder(decoder, translate=True)
    held, start, read = "", 0, 0
    with path.open("rb") as file:
        more = True
        while more:
            raw = file.read(size)
            more = bool(raw)
            try:
                text = lines.decode(raw, final=not more)
            except UnicodeDecodeError as error:
                at = read + len(raw) - len(error.object) + error.start
                raise ValueError(not_utf8(path, at)) from None
            held += text
            read += len(raw)
            cut = last_space(held) if more else len(held)
            if not cut and len(held) >= size:
                cut = len(held)
            if cut:
                yield Piece(start, held[:cut])
                held = held[cut:]
                start = read - len(held.encode())
