"""Chapter 5. Overlap: what the training text and the held-out text have in common.

A held-out document that also stands in the training text is learnt by heart, and so is
a run of eight words (the unit in which GPT-2's authors counted: Radford et al., 2019,
§4). Both are counted and said, not removed.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt64

from minigpt.texts import Text

# A number for each word, or for each run of words.
Words = UInt64[np.ndarray, "..."]


class Overlap(NamedTuple):
    """What two splits share: whole documents, and runs of eight words."""

    duplicates: int
    documents: int
    shared: int
    runs: int

    def __str__(self) -> str:
        return (
            f"{self.duplicates} of {self.documents} validation documents and "
            f"{self.shared} of {self.runs} of their runs of eight words also stand in "
            f"the training text"
        )


def overlap(text: Text, *, n: int = 8) -> Overlap:
    """Count validation documents, and runs of n words, that training text also has."""
    train, held = text.documents(text.train), text.documents(text.validation)
    watch = Watch(held, running=text.end is None, n=n)
    for _ in watch.through(train):
        pass
    return watch.result()


class Watch:
    """What a held-out part consists of, and how much of it has gone by.

    Kept are one number for each run and document of the held-out part, and nothing of
    the training text, which may be larger than memory. A running text comes in pieces
    that are one document.
    """

    def __init__(self, held: Iterable[str], *, running: bool, n: int = 8) -> None:
        self.running, self.n = running, n
        self.documents: list[int] = []
        runs = list(self._runs(self._noted(held)))
        self.runs, self.counts = np.unique(
            np.concatenate([np.empty(0, np.uint64), *runs]), return_counts=True
        )
        self.known = np.zeros(len(self.runs), dtype=bool)
        self.whole, self.seen = set(self.documents), set[int]()

    def _noted(self, held: Iterable[str]) -> Iterator[str]:
        for document in held:
            self.documents.append(hash(document))
            yield document

    def through(self, train: Iterable[str]) -> Iterator[str]:
        """The training text as it is, document by document, while it is watched."""
        before: Words = np.empty(0, np.uint64)
        for document in train:
            self.seen |= {hash(document)} & self.whole
            found, before = self._hashed(document, before)
            at = np.searchsorted(self.runs, found)
            inside = at < len(self.runs)
            at, found = at[inside], found[inside]
            self.known[at[self.runs[at] == found]] = True
            yield document

    def _runs(self, pieces: Iterable[str]) -> Iterator[Words]:
        before: Words = np.empty(0, np.uint64)
        for piece in pieces:
            found, before = self._hashed(piece, before)
            yield found

    def _hashed(self, piece: str, before: Words) -> tuple[Words, Words]:
        """A hash of every n words in a row, and the words that go before the next."""
        words = np.fromiter(map(hash, piece.split()), np.int64).view(np.uint64)
        words = np.concatenate((before, words)) if self.running else words
        count = max(0, len(words) - self.n + 1)
        run = np.zeros(count, np.uint64)
        for i in range(self.n):
            # The wrap-around is meant: a hash, whose rare collisions only over-count.
            run = run * np.uint64(0x9E3779B97F4A7C15) + words[i : i + count]
        return run, words[len(words) - min(len(words), self.n - 1) :]

    def result(self) -> Overlap:
        """The counts, once all of the training text has gone by."""
        again = [document in self.seen for document in self.documents]
        return Overlap(
            duplicates=0 if self.running else sum(again),
            documents=1 if self.running else len(self.documents),
            shared=int(self.counts[self.known].sum()),
            runs=int(self.counts.sum()),
        )
