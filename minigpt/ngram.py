"""Chapter 1. Counting: the next token is predicted from how often it came before.

An n-gram model of order N reads only the last N − 1 tokens h:

    add-k        p(w | h) = (c(h w) + k) / (c(h) + k V)              k = 0: plain counts
    Kneser–Ney   p(w | h) = max(a(h w) − D, 0) / a(h) + γ(h) · p(w | shorter h)

a(·) counts occurrences at order N and below it *different predecessors* (Kneser and Ney
1995); D is estimated from the counts (Chen and Goodman 1999); γ(h) hands on exactly the
mass that D took away; the last step falls back to 1 / V. Every sequence is read after a
silent start mark, which is a context and never a prediction. Losses are in nats.

All n-grams of one order lie in one sorted array, as (number of the context, token), so
order 8 over bytes or 5 over 50,000 tokens fits: about 40 bytes for each different
n-gram of each order, and twice that while counting. Letters: V vocabulary, N tokens.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray
Tokens = Sequence[int] | Array


@dataclass(frozen=True)
class Level:
    """Every different n-gram of one order, numbered in sorted order.

    Attributes:
        keys: number of the context (the n-gram without its last token) · base + token.
        counts: how often it occurred.
        adjusted: how many different tokens came before it; its count where nothing can.
        base: V + 1; the extra token is the start mark.
    """

    keys: Int[Array, " n"]
    counts: Int[Array, " n"]
    adjusted: Int[Array, " n"]
    base: int

    @property
    def contexts(self) -> Int[Array, " n"]:
        """The number of each n-gram's context."""
        return self.keys // self.base

    def find(self, contexts: Int[Array, " q"], tokens: Int[Array, " q"]) -> Array:
        """Numbers of the n-grams (context, token); -1 where one never occurred."""
        wanted = contexts * self.base + tokens
        if not len(self.keys):  # every sequence was shorter than this order
            return np.full_like(wanted, -1)
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where((contexts >= 0) & (self.keys[at] == wanted), at, -1)


@dataclass(frozen=True)
class Row:
    """Sequences in one row: each after a start mark, with positions inside it."""

    tokens: Int[Array, " N"]
    positions: Int[Array, " N"]


@runtime_checkable
class Smoothing(Protocol):
    """How counts become probabilities: p = alpha[n-gram] + gamma[context] · lower."""

    @property
    def backs_off(self) -> bool:
        """Whether `lower` is p after the next shorter context, or else 1 / V."""

    def tables(self, levels: Sequence[Level], n: int) -> tuple[Array, Array]:
        """Alpha for each n-gram of levels[n], gamma for each of its contexts."""


@dataclass(frozen=True)
class AddK:
    """Pretend that every token was seen k times more in every context.

    k = 0 is maximum likelihood, plain relative frequencies. A context that never
    occurred says nothing: 1 / V for every token, the limit of add-k as k goes to 0.

    Raises:
        ValueError: k below 0.
    """

    k: float = 1.0
    backs_off: bool = False

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"expected k of at least 0, got {self.k}: use 0 or more")

    def tables(self, levels: Sequence[Level], n: int) -> tuple[Array, Array]:
        """Alpha c / (C + kV) and gamma kV / (C + kV)."""
        level, contexts = levels[n], levels[n].contexts
        counts = _predicted(level, level.counts)
        extra = self.k * (level.base - 1)
        total = _totals(levels, n, counts) + extra
        gamma = np.divide(extra, total, out=np.ones_like(total), where=total > 0)
        return counts / np.maximum(total[contexts], 1e-300), gamma


@dataclass(frozen=True)
class KneserNey:
    """Interpolated Kneser–Ney: discount every count, hand the mass to shorter contexts.

    Attributes:
        discounts: one for each order, unigrams first; None estimates them.
        modified: estimate three for each order, for counts of 1, 2 and 3 or more.

    Raises:
        ValueError: a discount outside [0, 1].
    """

    discounts: tuple[float, ...] | None = None
    modified: bool = True
    backs_off: bool = True

    def __post_init__(self) -> None:
        for d in self.discounts or ():
            if not 0 <= d <= 1:
                raise ValueError(
                    f"expected discounts between 0 and 1, got {d}: a count of 1 cannot "
                    f"give away more"
                )

    def tables(self, levels: Sequence[Level], n: int) -> tuple[Array, Array]:
        """Alpha (a − D) / A, and gamma: what was taken away, over A."""
        level, contexts = levels[n], levels[n].contexts
        raw = level.counts if n == len(levels) - 1 else level.adjusted
        counts = _predicted(level, raw)
        taken = np.array((0, *self.discount(counts, n)))[np.minimum(counts, 3)]
        total = _totals(levels, n, counts)
        safe = np.maximum(total, 1)
        gamma = np.bincount(contexts, weights=taken, minlength=len(total)) / safe
        return (counts - taken) / safe[contexts], np.where(total > 0, gamma, 1.0)

    def discount(self, counts: Int[Array, " n"], n: int) -> tuple[float, float, float]:
        """What counts of 1, 2 and 3 or more lose at levels[n].

        Raises:
            ValueError: fewer discounts were given than there are orders.
        """
        if self.discounts is None:
            of = np.bincount(np.minimum(counts, 5), minlength=6)
            return estimate_discounts(*of[1:5].tolist(), modified=self.modified)
        if n >= len(self.discounts):
            raise ValueError(
                f"expected a discount for each order, got {len(self.discounts)}: give "
                f"at least {n + 1}"
            )
        return (self.discounts[n],) * 3


def estimate_discounts(
    n1: int, n2: int, n3: int, n4: int, *, modified: bool = True
) -> tuple[float, float, float]:
    """Discounts from how many n-grams occurred 1, 2, 3 and 4 times.

    Y = n1 / (n1 + 2 n2), and D_i = i − (i + 1) Y n_(i+1) / n_i (Chen and
    Goodman 1999); unmodified, D = Y for all. Counts that break the formula (no n-gram
    occurred once, say) get 0.5, 1 and 1.5 instead.

    >>> estimate_discounts(4, 2, 1, 1, modified=False)
    (0.5, 0.5, 0.5)
    """
    y = n1 / (n1 + 2 * n2) if n1 else 0.5
    if not modified:
        return (y, y, y)
    of = (n1, n2, n3, n4)
    d = [i - (i + 1) * y * of[i] / of[i - 1] if of[i - 1] else 0 for i in (1, 2, 3)]
    one, two, three = (x if 0 < x < i else i / 2 for i, x in enumerate(d, 1))
    return (one, two, three)


def _predicted(level: Level, counts: Int[Array, " n"]) -> Int[Array, " n"]:
    # The start mark is a context; it takes no share of any prediction.
    return np.where(level.keys % level.base == level.base - 1, 0, counts)


def _totals(levels: Sequence[Level], n: int, counts: Array) -> Float[Array, " m"]:
    size = len(levels[n - 1].keys) if n else 1
    totals = np.bincount(levels[n].contexts, weights=counts, minlength=size)
    return totals.astype(float)  # of nothing at all, numpy makes integers


class NGram:
    """A language model that remembers how often each n-gram occurred.

    >>> counts = AddK(0.0)
    >>> model = NGram.train([[0, 1, 0, 1, 2]], order=2, vocab_size=3, smoothing=counts)
    >>> model.next_distribution([0]), model.next_distribution([1])
    (array([0., 1., 0.]), array([0.5, 0. , 0.5]))
    """

    def __init__(
        self, levels: Sequence[Level], *, smoothing: Smoothing | None = None
    ) -> None:
        self.levels = tuple(levels)
        self.order = len(levels)
        self.vocab_size = levels[0].base - 1
        self.smoothing = smoothing or KneserNey()
        tables = [self.smoothing.tables(levels, n) for n in range(self.order)]
        self.alpha, self.gamma = zip(*tables, strict=True)

    @classmethod
    def train(
        cls,
        sequences: Iterable[Tokens],
        *,
        order: int,
        vocab_size: int,
        smoothing: Smoothing | None = None,
    ) -> "NGram":
        """Count every n-gram of 1 to `order` tokens; Kneser–Ney unless told otherwise.

        Raises:
            ValueError: an order below 1, no tokens, or a token outside the vocabulary.
        """
        if order < 1:
            raise ValueError(f"expected an order of at least 1, got {order}: use 1, 2…")
        row = _row(sequences, vocab_size)
        if row.positions.max() < 1:
            raise ValueError("expected at least one token to count, got none")
        levels = count_ngrams(row, order=order, base=vocab_size + 1)
        return cls(levels, smoothing=smoothing)

    def smoothed(self, smoothing: Smoothing) -> "NGram":
        """The same counts, turned into probabilities another way."""
        return NGram(self.levels, smoothing=smoothing)

    def count(self, ngram: Tokens) -> int:
        """How often this run of 1 to `order` tokens occurred."""
        number = self._find(list(ngram))
        return int(self.levels[len(ngram) - 1].counts[number]) if number >= 0 else 0

    def surprisal(self, tokens: Tokens) -> Float[Array, " N"]:
        """−ln p of every token given those before it, in nats; infinite where p = 0."""
        return self.surprisals([tokens])

    def surprisals(self, sequences: Iterable[Tokens]) -> Float[Array, " N"]:
        """The same for many sequences, one after the other in one array."""
        row = _row(sequences, self.vocab_size)
        p = np.full(len(row.tokens), 1 / self.vocab_size)
        numbers = np.zeros_like(row.tokens)
        for n, level in enumerate(self.levels):
            contexts = np.roll(numbers, 1)  # the n-gram that ends one token earlier
            numbers = level.find(contexts, row.tokens)
            # The zero and the one at the end are what the number -1 finds.
            alpha = np.append(self.alpha[n], 0.0)[numbers]
            gamma = np.append(self.gamma[n], 1.0)[contexts]
            lower = p if self.smoothing.backs_off else 1 / self.vocab_size
            p = np.where(row.positions >= n, alpha + gamma * lower, p)
        with np.errstate(divide="ignore"):
            return -np.log(p[row.positions > 0])

    def next_distribution(self, prefix: Tokens = ()) -> Float[Array, " V"]:
        """Probability of every next token after `prefix`, a sequence from its start.

        Raises:
            ValueError: a token outside the vocabulary.
        """
        start = self.vocab_size
        past = _row([prefix], start).tokens
        past = past[max(len(past) - self.order + 1, 0) :]
        p = uniform = np.full(start, 1 / start)
        for n, level in enumerate(self.levels[: len(past) + 1]):
            context = self._find(past[len(past) - n :].tolist())
            gamma = self.gamma[n][context] if context >= 0 else 1.0
            p = gamma * (p if self.smoothing.backs_off else uniform)
            if context >= 0:
                # The tokens seen after one context lie side by side.
                first = context * level.base
                low, high = np.searchsorted(level.keys, (first, first + start))
                p[level.keys[low:high] - first] += self.alpha[n][low:high]
        return p

    def _find(self, ngram: list[int]) -> int:
        if len(ngram) > self.order:
            raise ValueError(
                f"expected at most {self.order} tokens (the model's order), got "
                f"{len(ngram)}: longer runs were not counted"
            )
        number = np.zeros(1, dtype=np.int64)
        for level, token in zip(self.levels, ngram, strict=False):
            number = level.find(number, np.array([token]))
        return int(number[0])


def _row(sequences: Iterable[Tokens], vocab_size: int) -> Row:
    parts = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
    if not parts:
        raise ValueError("expected at least one sequence of tokens, got none")
    for tokens in parts:
        bad = tokens[(tokens < 0) | (tokens >= vocab_size)]
        if len(bad):
            raise ValueError(
                f"expected tokens from 0 to {vocab_size - 1}, got {bad[0]}: give the "
                f"vocab_size of the tokenizer that made them"
            )
    starts = np.array([vocab_size])
    row = [part for tokens in parts for part in (starts, tokens)]
    positions = [np.arange(len(tokens) + 1) for tokens in parts]
    return Row(np.concatenate(row), np.concatenate(positions))


def count_ngrams(row: Row, *, order: int, base: int) -> list[Level]:
    """One level per order, each made from the one below it by one sort.

    An n-gram is its context's number and its last token, so that it fits one integer
    at every order; two tokens have the same n-gram exactly where those two agree.
    """
    levels: list[Level] = []
    numbers = np.zeros_like(row.tokens)  # of the n-gram that ends at each token
    for n in range(order):
        inside = np.flatnonzero(row.positions >= n)
        keys = (np.roll(numbers, 1) * base + row.tokens)[inside]
        keys, first, inverse, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        if levels:
            # Grouped by what they become without their first token, n-grams tell how
            # many different tokens came before each (n − 1)-gram. None came before
            # one that begins with the start mark: it keeps its count.
            shorter, below = numbers[inside[first]], levels[-1]
            before = np.bincount(shorter, minlength=len(below.keys))
            adjusted = np.where(before > 0, before, below.counts)
            levels[-1] = replace(below, adjusted=adjusted)
        numbers = np.full_like(row.tokens, -1)
        numbers[inside] = inverse
        levels.append(Level(keys, counts, counts, base))
    return levels


def cross_entropy(model: NGram, sequences: Iterable[Tokens]) -> float:
    """Mean surprisal in nats per token: the loss on text the model has not seen."""
    return float(model.surprisals(sequences).mean())


def perplexity(nats: float) -> float:
    """Among how many equally likely tokens a model with this loss hesitates, e^loss.

    >>> round(perplexity(math.log(8)), 6)
    8.0
    """
    return math.exp(nats)


def bits(nats: float) -> float:
    """The same loss in answers to yes-or-no questions; one bit is ln 2 nats."""
    return nats / math.log(2)


def bits_per_byte(nats: float, *, tokens: int, n_bytes: int) -> float:
    """A loss per token as bits per byte of text, whatever the tokens were.

    Models with different tokenizers are compared by this alone: a longer token is
    harder to guess, and there are fewer of them.

    Raises:
        ValueError: fewer than one token or byte.
    """
    if tokens < 1 or n_bytes < 1:
        raise ValueError(
            f"expected at least one token and one byte, got {tokens} and {n_bytes}: "
            f"count both on the same text"
        )
    return bits(nats) * tokens / n_bytes


def sample(
    model: NGram,
    *,
    generator: np.random.Generator,
    prefix: Tokens = (),
    max_new_tokens: int = 100,
    stop: int | None = None,
) -> list[int]:
    """Draw tokens after `prefix`, each from the model's own distribution.

    Returns prefix and new tokens; ends with `stop` where that token is drawn.
    """
    tokens = list(prefix)
    for _ in range(max_new_tokens):
        p = model.next_distribution(tokens)
        tokens.append(int(generator.choice(model.vocab_size, p=p / p.sum())))
        if tokens[-1] == stop:
            break
    return tokens
