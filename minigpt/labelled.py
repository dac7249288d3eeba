"""Chapter 10. Labelled examples: one shape for every task, one split, one report.

An example is a text, perhaps a second one, and what a model should say about them.
What that is, is the kind of the task:

    classes     the index of a name in `labels`
    multilabel  some of those indices, ascending; perhaps none
    number      a float: how similar, how many stars
    choice      the index of the right one among the example's `choices`
    tags        the index of a name for each word of text.split()
    spans       where in `text` something stands, and what it is; none: no answer
    text        what is to be written: a summary, a translation

The training part alone teaches. The validation part decides when to stop and what to
keep, and the test part is looked at once: `leaks` says what the parts share.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Literal, NamedTuple, get_args

Kind = Literal["classes", "multilabel", "number", "choice", "tags", "spans", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PARTS = ("train", "validation", "test")


class Span(NamedTuple):
    """The characters text[start:end], and the name of what they are."""

    start: int
    end: int
    label: str = "answer"


# Names as they are read; in a `Task`, indices where `labels` names them.
Names = tuple[str, ...]
Label = int | float | str | Names | tuple[int, ...] | tuple[Span, ...]


class Example(NamedTuple):
    """A text, what is true of it, and for some kinds a second text or choices."""

    text: str
    label: Label
    text_pair: str | None = None
    choices: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All that a model gets to read."""
        pair = () if self.text_pair is None else (self.text_pair,)
        return (self.text, *pair, *self.choices)


Examples = list[Example]


class Leak(NamedTuple):
    """What a part shares with those that come before it."""

    part: str
    examples: int
    duplicates: int  # whole examples, whatever their label
    shared: int  # examples of which at least one run of eight words

    def __str__(self) -> str:
        before = "train" if self.part == "validation" else "train or validation"
        return (
            f"{self.part}: of {self.examples} examples, {self.duplicates} also stand "
            f"in {before}, and {self.shared} share a run of eight words with it"
        )


@dataclass(frozen=True)
class Task:
    """A labelled task: its three parts, the names of its labels, and what was done.

    Attributes:
        train: what the model learns from; empty where a set is for testing only.
        validation: what decides when to stop, and between settings.
        test: what is reported; never trained on, never chosen by.
        labels: the names that indices stand for, sorted; none for some kinds.
        name: what the task is called.
        kind: what the label of an example is.
        note: how the parts came about, for beside a figure.
    """

    train: Examples
    validation: Examples
    test: Examples
    labels: tuple[str, ...]
    name: str = "task"
    kind: Kind = "classes"
    note: str = ""

    @cached_property
    def leaks(self) -> tuple[Leak, Leak]:
        """What validation shares with train, and test with either."""
        return (
            _leak("validation", self.validation, self.train),
            _leak("test", self.test, [*self.train, *self.validation]),
        )

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """How many examples of each part have each label."""
        parts = (self.train, self.validation, self.test)
        found = [Counter(n for e in part for n in self._names(e)) for part in parts]
        return {
            name: (found[0][name], found[1][name], found[2][name])
            for name in self.labels
        }

    def _names(self, example: Example) -> set[str]:
        label = example.label
        some = label if isinstance(label, tuple) else (label,)
        indices = {one for one in some if isinstance(one, int) and self.labels}
        spans = {one.label for one in some if isinstance(one, Span)}
        return {self.labels[i] for i in indices} | spans

    def few(self, per_class: int, *, seed: int = 0) -> "Task":
        """The same task with at most so many training examples of each class.

        Five are among the ten of the same seed, so that a curve shows more examples
        and not other ones.

        Raises:
            ValueError: the task is no classification.
        """
        if self.kind != "classes":
            raise ValueError(
                f"expected a task of kind 'classes', got {self.kind!r}: slice its "
                f"training part instead"
            )
        seen: Counter[Label] = Counter()
        chosen = set()
        for i in shuffled([e.text for e in self.train], seed):
            seen[self.train[i].label] += 1
            if seen[self.train[i].label] <= per_class:
                chosen.add(i)
        return replace(self, train=[self.train[i] for i in sorted(chosen)])

    def __str__(self) -> str:
        sizes = (len(part) for part in (self.train, self.validation, self.test))
        parts = ", ".join(f"{n} {p}" for n, p in zip(sizes, PARTS, strict=True))
        lines = [f"{self.name}: {self.kind}, {parts}"]
        counts = self.counts()
        if counts:
            rare = min(counts, key=counts.__getitem__)
            often = max(counts, key=counts.__getitem__)
            lines.append(
                f"{len(counts)} labels, from {rare} {counts[rare]} to {often} "
                f"{counts[often]}"
            )
        lines += [str(leak) for leak in self.leaks if self.train]
        return "\n  ".join([*lines, *([self.note] if self.note else [])])


def _runs(example: Example, n: int) -> Iterator[int]:
    for text in example.texts:
        words = text.split()
        # Hashes, not strings: eight times less memory, and a collision over-counts.
        yield from (hash(tuple(words[i : i + n])) for i in range(len(words) - n + 1))


def _leak(part: str, held: Examples, before: Examples, *, n: int = 8) -> Leak:
    def whole(example: Example) -> tuple[str, ...]:
        # A line break more or less round a text makes no other text.
        return tuple(text.strip() for text in example.texts)

    known = {whole(e) for e in before}
    runs = {run for e in before for run in _runs(e, n)}
    return Leak(
        part,
        examples=len(held),
        duplicates=sum(whole(e) in known for e in held),
        shared=sum(any(run in runs for run in _runs(e, n)) for e in held),
    )


def shuffled(texts: Sequence[str], seed: int) -> list[int]:
    """Indices in an order that depends on the texts and the seed alone."""

    def key(i: int) -> bytes:
        numbered = f"{seed}\n{texts[i].strip()}"
        return sha256(numbered.encode("utf-8", "surrogatepass")).digest()

    return sorted(range(len(texts)), key=key)


# What an example must be.
def check_example(example: Example, kind: Kind, where: str) -> Example:
    """Say in one sentence what is wrong with an example, or return it.

    Raises:
        ValueError: no text, or a label that the kind cannot have.
    """
    if not example.text.strip():
        raise ValueError(f"expected a text in {where}, got none: fill it or remove it")
    complaint = _COMPLAINTS[kind](example)
    if complaint:
        raise ValueError(f"expected {complaint} in {where}, got {example.label!r}")
    return example


def _number(example: Example) -> str:
    fine = isinstance(example.label, float) and math.isfinite(example.label)
    return "" if fine else "a finite number as label"


def _name(example: Example) -> str:
    fine = isinstance(example.label, str) and example.label
    return "" if fine else "the name of a class as label"


def _some_names(example: Example) -> str:
    some = example.label if isinstance(example.label, tuple) else (0,)
    fine = all(isinstance(one, str) and one for one in some)
    return "" if fine else "a list of names as labels"


def _choice(example: Example) -> str:
    n = len(example.choices)
    if n < 2 or not all(choice.strip() for choice in example.choices):
        return "at least two choices, none of them empty,"
    fine = isinstance(example.label, int) and 0 <= example.label < n
    return (
        "" if fine else f"the index of one of {n} choices as label, from 0 to {n - 1}"
    )


def _tags(example: Example) -> str:
    n = len(example.text.split())
    fine = isinstance(example.label, tuple) and len(example.label) == n
    return _some_names(example) if fine else f"one tag for each of {n} words"


def _spans(example: Example) -> str:
    some = example.label if isinstance(example.label, tuple) else (0,)
    n = len(example.text)
    fine = all(isinstance(one, Span) and 0 <= one.start < one.end <= n for one in some)
    return "" if fine else f"spans of start < end within {n} characters"


def _written(example: Example) -> str:
    fine = isinstance(example.label, str) and example.label.strip()
    return "" if fine else "a text to write"


_COMPLAINTS: Mapping[Kind, Callable[[Example], str]] = {
    "classes": _name,
    "multilabel": _some_names,
    "number": _number,
    "choice": _choice,
    "tags": _tags,
    "spans": _spans,
    "text": _written,
}
