"""Chapter 10. Metrics: how good, on how many examples, and how sure that is.

Each example becomes a row of numbers, and a metric is a function of all rows. An
interval comes from drawing n of the n rows again and again, with replacement (the
bootstrap; Efron, 1979): 95 % of the figures that come out lie within it. It says how
much another test part of the same size would have changed the figure; how much another
seed would have, `over_seeds` says.

Two systems are compared on the same examples: if both were equally good, it would not
matter which of two answers is whose, so they are exchanged at random and we count how
often the difference gets as large as it is (Noreen, 1989; Yeh, 2000).
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from minigpt.labelled import Example, Kind, Span

Rows = Float[np.ndarray, "n k"]
Metric = Callable[[np.ndarray], float]
RESAMPLES = 1000
# The quantile 0.975 of Student's t for 1, 2, 3 … degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Score(NamedTuple):
    """A figure, its 95 % interval, and the number of examples (or seeds) behind it."""

    name: str
    value: float
    low: float
    high: float
    n: int
    of: str = "examples"

    def __str__(self) -> str:
        spread = f"95 %: {self.low:.3f} to {self.high:.3f}"
        return f"{self.name} {self.value:.3f} ({spread}, n = {self.n} {self.of})"


class Difference(NamedTuple):
    """How much better the first of two systems is, and how often chance does that."""

    name: str
    value: float
    low: float
    high: float
    p: float
    n: int

    def __str__(self) -> str:
        spread = f"95 %: {self.low:+.3f} to {self.high:+.3f}"
        return (
            f"{self.name} {self.value:+.3f} ({spread}, p = {self.p:.3f}, n = {self.n})"
        )


# From examples to rows.
def rows_of(
    kind: Kind,
    examples: Sequence[Example],
    said: Sequence[object],
    n_labels: int = 0,
) -> Rows:
    """What each example adds to the metrics of its kind.

    Raises:
        ValueError: no examples, or not one label said for each.
    """
    if not examples or len(examples) != len(said):
        raise ValueError(
            f"expected one label said for each of {len(examples)} examples, got "
            f"{len(said)}: score them together"
        )
    row = _ROWS[kind]
    pairs = zip(examples, said, strict=True)
    return np.array([row(e, s, n_labels) for e, s in pairs], dtype=float)


def _both(example: Example, said: object, n: int) -> Sequence[float]:
    return (float(example.label), float(said))  # type: ignore[arg-type]


def _bits(example: Example, said: object, n: int) -> Sequence[float]:
    gold, got = set(_tuple(example.label)), set(_tuple(said))
    counts = np.zeros((n, 3))
    for i in range(n):
        counts[i] = (i in gold & got, i in got - gold, i in gold - got)
    return counts.flatten().tolist()


def _tuple(label: object) -> tuple[object, ...]:
    return label if isinstance(label, tuple) else (label,)


def _words(example: Example, said: object, n: int) -> Sequence[float]:
    """For each label: words that have it and got it, got it only, have it only."""
    counts = np.zeros((n, 3))
    gold, got = (_indices(label) for label in (example.label, said))
    for right, other in zip(gold, got, strict=True):
        if right == other:
            counts[right, 0] += 1
            continue
        counts[right, 2] += 1
        if other >= 0:  # a word that was cut off got no tag
            counts[other, 1] += 1
    return counts.flatten().tolist()


def _indices(label: object) -> list[int]:
    return [one for one in _tuple(label) if isinstance(one, int)]


def _spans(example: Example, said: object, n: int) -> Sequence[float]:
    gold = {one for one in _tuple(example.label) if isinstance(one, Span)}
    got = {one for one in _tuple(said) if isinstance(one, Span)}
    texts = [" ".join(example.text[s:e] for s, e, _ in sorted(x)) for x in (gold, got)]
    hits = len(gold & got)
    counts = (hits, len(got) - hits, len(gold) - hits)
    return (float(gold == got), overlap(*texts), *map(float, counts))


def _texts(example: Example, said: object, n: int) -> Sequence[float]:
    gold, got = str(example.label), str(said)
    return (float(gold.split() == got.split()), overlap(gold, got))


def overlap(gold: str, said: str) -> float:
    """F1 of the words of two texts, as SQuAD has it (Rajpurkar et al., 2016, §6.1).

    >>> round(overlap("the old mill", "the mill"), 3)
    0.8
    """
    one, two = (Counter(re.findall(r"\w+", text.casefold())) for text in (gold, said))
    if not one or not two:
        return float(one == two)
    return 2 * (one & two).total() / (one.total() + two.total())


_ROWS: Mapping[Kind, Callable[[Example, object, int], Sequence[float]]] = {
    "classes": _both,
    "multilabel": _bits,
    "number": _both,
    "choice": _both,
    "tags": _words,
    "spans": _spans,
    "text": _texts,
}


# From rows to a figure.
def accuracy(rows: Rows) -> float:
    """The share of examples whose label was said."""
    return float((rows[:, 0] == rows[:, 1]).mean())


def confusion(rows: Rows, n_labels: int) -> Int[np.ndarray, "L L"]:
    """How often each label (row) was called each (column)."""
    pairs = rows[:, 0].astype(int) * n_labels + rows[:, 1].astype(int)
    return np.bincount(pairs, minlength=n_labels**2).reshape(n_labels, n_labels)


def _table(rows: Rows) -> Float[np.ndarray, "L L"]:
    n = int(rows.max()) + 1
    return confusion(rows, n).astype(float)


def macro_f1(rows: Rows) -> float:
    """The mean over labels of F1, so that a rare one counts as much as a common one."""
    table = _table(rows)
    hits = table.diagonal()
    return _mean_f1(hits, table.sum(0) - hits, table.sum(1) - hits)


def _mean_f1(hits: np.ndarray, extra: np.ndarray, missed: np.ndarray) -> float:
    """The mean F1 of labels that occur or were said; 1 where none was due or said."""
    seen = hits + extra + missed > 0
    if not seen.any():
        return 1.0
    return float((2 * hits[seen] / (2 * hits + extra + missed)[seen]).mean())


def matthews(rows: Rows) -> float:
    """The correlation of labels with what was said; 0 for a constant answer.

    For more than two labels as Gorodkin (2004) has it.
    """
    table = _table(rows)
    n, said, gold = table.sum(), table.sum(0), table.sum(1)
    covariance = n * table.trace() - said @ gold
    spread = math.sqrt((n**2 - said @ said) * (n**2 - gold @ gold))
    return float(covariance / spread) if spread else 0.0


def pearson(rows: Rows) -> float:
    """The correlation of two columns; no number where one of them is constant."""
    one, two = rows.T - rows.mean(0)[:, None]
    # The mean of equals may be rounded to another number than theirs.
    spread = math.sqrt((one @ one) * (two @ two)) * bool(np.ptp(rows, 0).all())
    return float(one @ two / spread) if spread else math.nan


def spearman(rows: Rows) -> float:
    """The correlation of the ranks of two columns; equals share theirs."""
    return pearson(np.stack([_ranks(column) for column in rows.T], 1))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def absolute_error(rows: Rows) -> float:
    """The mean distance of what was said."""
    return float(np.abs(rows[:, 0] - rows[:, 1]).mean())


def _by_label(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hits, extra, missed = rows.sum(0).reshape(-1, 3).T
    return hits, extra, missed


def _macro_of_counts(rows: Rows) -> float:
    return _mean_f1(*_by_label(rows))


def _micro_of_counts(rows: Rows) -> float:
    hits, extra, missed = (part.sum() for part in _by_label(rows))
    whole = 2 * hits + extra + missed
    return float(2 * hits / whole) if whole else 1.0


def _exact_of_counts(rows: Rows) -> float:
    counts = rows.reshape(len(rows), -1, 3)
    return float((counts[:, :, 1:].sum((1, 2)) == 0).mean())


def _word_accuracy(rows: Rows) -> float:
    hits, _, missed = _by_label(rows)
    return float(hits.sum() / (hits.sum() + missed.sum()))


def _first(rows: Rows) -> float:
    return float(rows[:, 0].mean())


def _second(rows: Rows) -> float:
    return float(rows[:, 1].mean())


def _span_f1(rows: Rows) -> float:
    return _micro_of_counts(rows[:, 2:])


# The first of each kind decides which weights are kept.
METRICS: Mapping[Kind, Mapping[str, Metric]] = {
    "classes": {"accuracy": accuracy, "macro-F1": macro_f1, "Matthews": matthews},
    "multilabel": {
        "micro-F1": _micro_of_counts,
        "macro-F1": _macro_of_counts,
        "exact match": _exact_of_counts,
    },
    "number": {
        "Pearson": pearson,
        "Spearman": spearman,
        "absolute error": absolute_error,
    },
    "choice": {"accuracy": accuracy},
    "tags": {"macro-F1": _macro_of_counts, "accuracy of words": _word_accuracy},
    "spans": {"exact match": _first, "overlap F1": _second, "span F1": _span_f1},
    "text": {"overlap F1": _second, "exact match": _first},
}


# How sure.
def scores(
    kind: Kind, rows: Rows, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Score]:
    """Every metric of a kind with its interval.

    Where every example is right the interval is a point, for no draw holds a wrong
    one; up to 3 / n of all others may still be wrong (the rule of three).
    """
    found = {}
    for name, metric in METRICS[kind].items():
        generator = np.random.default_rng(seed)
        drawn = [metric(rows[_draw(generator, len(rows))]) for _ in range(resamples)]
        low, high = _middle(drawn)
        found[name] = Score(name, metric(rows), low, high, len(rows))
    return found


def _draw(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.integers(n, size=n)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return math.nan, math.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def compare(
    kind: Kind,
    one: Rows,
    two: Float[np.ndarray, "m j"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Difference]:
    """By how much the first system's figures exceed the second's on the same examples.

    Raises:
        ValueError: rows of other examples.
    """
    same = one.shape == two.shape
    if not same or (_ROWS[kind] is _both and (one[:, 0] != two[:, 0]).any()):
        raise ValueError(
            f"expected rows of the same examples, got {one.shape} and {two.shape}"
            f"{', or other labels' * same}: score both systems on one test part"
        )
    found = {}
    for name, metric in METRICS[kind].items():
        generator = np.random.default_rng(seed)
        value = metric(one) - metric(two)
        drawn, reached = [], 1
        for _ in range(resamples):
            at = _draw(generator, len(one))
            drawn.append(metric(one[at]) - metric(two[at]))
            swap = generator.random((len(one), 1)) < 0.5
            chance = metric(np.where(swap, two, one)) - metric(np.where(swap, one, two))
            # What is no number is never less, so that it proves nothing.
            reached += not abs(chance) < abs(value) - 1e-12
        low, high = _middle(drawn)
        p = reached / (resamples + 1)
        found[name] = Difference(name, value, low, high, p, len(one))
    return found


def over_seeds(found: Sequence[Score]) -> Score:
    """The mean of one metric over runs with other seeds, by Student's t.

    Raises:
        ValueError: fewer than two runs, or other metrics.
    """
    names = sorted({score.name for score in found})
    if len(found) < 2 or len(names) > 1:
        raise ValueError(
            f"expected one metric from at least 2 seeds, got {len(found)} of "
            f"{', '.join(names) or 'none'}: run more seeds"
        )
    values = [score.value for score in found]
    n, mean = len(values), fmean(values)
    half = _student(n - 1) * stdev(values) / math.sqrt(n)
    return Score(names[0], mean, mean - half, mean + half, n, "seeds")


def _student(freedom: int) -> float:
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    return 1.96 + 2.372 / freedom + 2.823 / freedom**2  # within 0.1 %


class Calibration(NamedTuple):
    """Whether it is right as often as it is sure, for each tenth of sureness."""

    sure: tuple[float, ...]  # the mean probability of what was said
    right: tuple[float, ...]  # how often that was right
    counts: tuple[int, ...]

    @property
    def error(self) -> float:
        """The mean distance of the two, each tenth by its count (ECE)."""
        parts = zip(self.sure, self.right, self.counts, strict=True)
        gaps = (abs(sure - right) * n for sure, right, n in parts)
        return sum(gaps) / max(1, sum(self.counts))


def calibration(
    sure: Sequence[float], right: Sequence[bool], *, bins: int = 10
) -> Calibration:
    """Group answers by their probability (Guo et al., 2017, §2); no group is empty."""
    p, hit = np.array(sure, dtype=float), np.array(right, dtype=float)
    place = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
    some = [place == b for b in range(bins) if (place == b).any()]
    return Calibration(
        tuple(float(p[here].mean()) for here in some),
        tuple(float(hit[here].mean()) for here in some),
        tuple(int(here.sum()) for here in some),
    )
