"""minigpt-base against counting: Kneser–Ney on the very text that it was trained on.

    MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/base.py

Modified, interpolated Kneser–Ney counts the training books as bytes (orders 5 to 8) and
as the model's own tokens (orders 3 to 5), and both score the three books that neither
has read. Every byte of a book is paid for, each book from its own beginning. The
difference is to the order that turned out best on that very book, which the model is
not granted: nothing was chosen for it. Its interval is Student's, over three books.
Needs 6 GB of memory.
"""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigpt import load_pretrained, load_text
from minigpt.hardware import choose
from minigpt.ngram import NGram, bits
from minigpt.scoring import score_text
from minigpt.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
COMMAND = "MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/base.py"
MODEL, DATA = "minigpt-base", "gutenberg-prose"
BYTE_ORDERS, TOKEN_ORDERS = (5, 6, 7, 8), (3, 4, 5)
T = 4.302653  # Student's 97.5 % with two degrees of freedom: three books
BOOKS = ("Alice in Wonderland", "Dorian Gray", "The Time Machine")


class Counted(NamedTuple):
    """Documents as sequences of one kind of unit."""

    unit: str
    orders: tuple[int, ...]
    size: int
    train: list[np.ndarray]
    books: list[np.ndarray]


def scores(counted: Counted, n_bytes: list[int]) -> Iterator[tuple[str, list[float]]]:
    """Bits per byte of each book at each order, from one count of the highest."""
    highest = NGram.train(
        counted.train, order=counted.orders[-1], vocab_size=counted.size
    )
    for order in counted.orders:
        model = NGram(highest.levels[:order])
        yield (
            f"{counted.unit}, order {order}",
            [
                bits(float(model.surprisal(book).sum())) / size
                for book, size in zip(counted.books, n_bytes, strict=True)
            ],
        )


def row(found: list[float]) -> dict[str, float]:
    """A figure of each book, and their mean."""
    named = dict(zip(BOOKS, (round(one, 4) for one in found), strict=True))
    return {**named, "mean": round(statistics.mean(found), 4)}


def with_interval(found: list[float]) -> dict[str, Any]:
    """The mean over the books, and where it would lie over others of this kind."""
    mean, half = statistics.mean(found), T * statistics.stdev(found) / math.sqrt(3)
    ends = [round(mean - half, 4), round(mean + half, 4)]
    return {"mean": round(mean, 4), "interval": ends, "books": len(found)}


def as_bytes(texts: list[str]) -> list[np.ndarray]:
    """UTF-8 bytes of each text."""
    return [np.frombuffer(one.encode(), dtype=np.uint8) for one in texts]


def as_tokens(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    """Tokens of each text."""
    return [np.array(tokenizer.encode(one)) for one in texts]


def main() -> int:
    begun = time.perf_counter()
    model, tokenizer = load_pretrained(MODEL)
    if tokenizer is None:
        raise ValueError(f"expected a tokenizer with {MODEL}, found none")
    text = load_text(DATA)
    train, books = text.documents(text.train), text.documents(text.validation)
    n_bytes = [len(book.encode()) for book in books]

    counted = (
        Counted("bytes", BYTE_ORDERS, 256, as_bytes(train), as_bytes(books)),
        Counted(
            "tokens",
            TOKEN_ORDERS,
            tokenizer.vocab_size,
            as_tokens(tokenizer, train),
            as_tokens(tokenizer, books),
        ),
    )
    kneser_ney = {}
    for one in counted:
        for name, found in scores(one, n_bytes):
            kneser_ney[name] = found
            print(name, row(found), flush=True)
    base = [score_text(model, tokenizer, book) for book in books]
    assert [one.n_bytes for one in base] == n_bytes
    ours = [one.bits_per_byte for one in base]
    best = [min(of) for of in zip(*kneser_ney.values(), strict=True)]
    below = [b - a for a, b in zip(ours, best, strict=True)]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    result: dict[str, Any] = {
        "command": COMMAND,
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": choose("cpu", "float32").describe(),
        "seconds": round(time.perf_counter() - begun),
        "training documents": len(train),
        "training bytes": sum(len(one.encode()) for one in train),
        "training tokens": sum(map(len, counted[1].train)),
        "bytes": dict(zip(BOOKS, n_bytes, strict=True)),
        "stride": base[0].stride,
        "bits per byte": {
            **{f"Kneser–Ney, {name}": row(of) for name, of in kneser_ney.items()},
            "`minigpt-base`": row(ours),
            "best Kneser–Ney less `minigpt-base`": row(below),
        },
        "below the best": with_interval(below),
    }
    path = ROOT / "results" / "base.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    print(json.dumps(result["below the best"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
