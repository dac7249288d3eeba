"""Chapter 10. Splits: what is trained on, what decides, and what is reported.

A split keeps together what belongs together, and says how it came about. Each class
is cut by itself (the split is *stratified*), so that a rare one is in every part.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from minigpt.labelled import (
    PARTS,
    Example,
    Examples,
    Kind,
    Span,
    Task,
    shuffled,
)

# Kinds whose labels have names; the others have numbers, texts or positions.
NAMED = ("classes", "multilabel", "tags", "spans")


def make_task(
    name: str,
    kind: Kind,
    parts: Mapping[str, Sequence[Example]],
    *,
    held_out: float = 0.1,
    seed: int = 0,
    note: str = "",
) -> Task:
    """Split what is not split yet, and give every label its index.

    A part "all" is cut in three. Where there is no validation part, it is cut from
    train; where there is no test part, the validation part becomes it. Test examples
    never move. A test part alone is for models that are not fine-tuned.

    Raises:
        ValueError: other parts, an empty one, one label only, a label that is in no
            training example, or too few examples to cut.
    """
    if not 0 < held_out < 0.5:
        raise ValueError(f"expected held_out between 0 and 0.5, got {held_out}")
    train, validation, test, said = _three(name, kind, parts, held_out, seed)
    labels = _label_names(name, kind, train, validation, test)
    index = {label: i for i, label in enumerate(labels)}

    def indexed(part: Examples) -> Examples:
        return [_indexed(example, kind, index) for example in part]

    note = "; ".join(filter(None, (note, said)))
    three = indexed(train), indexed(validation), indexed(test)
    return Task(three[0], three[1], three[2], labels, name, kind, note)


def _three(
    name: str,
    kind: Kind,
    parts: Mapping[str, Sequence[Example]],
    held_out: float,
    seed: int,
) -> tuple[Examples, Examples, Examples, str]:
    empty = [part for part, examples in parts.items() if not examples]
    if empty or not parts:
        raise ValueError(f"expected examples in {name}, got none: it is empty")
    given = {part: list(examples) for part, examples in parts.items()}
    shares, cut = (held_out, held_out), f"cut by hash of the text, seed {seed}"
    if given.keys() == {"all"}:
        train, validation, test = split(given["all"], shares, kind, name, seed=seed)
        return train, validation, test, f"no published split: {cut}"
    if given.keys() == {"test"}:
        return [], [], given["test"], "nothing to train on: for testing only"
    if not {"train"} < given.keys() <= set(PARTS):
        raise ValueError(
            f"expected parts named train, validation and test in {name}, got "
            f"{', '.join(given)}: rename them, or give one part alone"
        )
    if len(given) == 3:
        return given["train"], given["validation"], given["test"], ""
    said = f"validation from train, {cut}"
    if "test" not in given:
        given["test"] = given["validation"]
        said = f"test is the published validation part, {said}"
    train, validation = split(given["train"], shares[:1], kind, name, seed=seed)
    return train, validation, given["test"], said


def split(
    examples: Sequence[Example],
    held_out: Sequence[float],
    kind: Kind,
    name: str,
    *,
    seed: int = 0,
) -> list[Examples]:
    """Cut into a first part and held-out ones, alike in their labels.

    Examples with the same text stay together: the questions about one paragraph, the
    hypotheses about one premise. A text's hash decides, so that the order of the rows
    does not, and each class gives every part at least one text. Where an example has
    several labels, the rarest of them counts; one that is too rare stays in train.

    Raises:
        ValueError: a class with fewer texts than there are parts.
    """
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.text.strip(), []).append(example)
    strata = _strata(groups, kind)
    n_parts = 1 + len(held_out)
    small = {label: len(texts) for label, texts in strata.items()}
    small = {label: n for label, n in small.items() if n < n_parts}
    if small and (kind == "classes" or len(small) == len(strata)):
        raise ValueError(_too_few(name, n_parts, small, kind))
    part_of: dict[str, int] = {}
    for texts in (texts for label, texts in strata.items() if label not in small):
        ordered = [texts[i] for i in shuffled(texts, seed)]
        for part, share in enumerate(held_out, start=1):
            # One for each part that is still to come, train among them.
            most = len(ordered) - (n_parts - part)
            n = min(max(1, round(share * len(texts))), most)
            part_of |= dict.fromkeys(ordered[:n], part)
            ordered = ordered[n:]
    parts: list[Examples] = [[] for _ in range(n_parts)]
    for example in examples:
        parts[part_of.get(example.text.strip(), 0)].append(example)
    return parts


def _strata(groups: Mapping[str, Examples], kind: Kind) -> dict[str, list[str]]:
    """The texts of each label, every text once."""
    often = Counter(n for some in groups.values() for e in some for n in _raw_names(e))
    strata: dict[str, list[str]] = {}
    for text, members in groups.items():
        names = [name for e in members for name in _raw_names(e)] or [""]
        first = names[0] if kind == "classes" else min(names, key=lambda n: often[n])
        label = first if kind in NAMED else ""
        strata.setdefault(label, []).append(text)
    return strata


def _too_few(name: str, n_parts: int, small: Mapping[str, int], kind: Kind) -> str:
    label, n = min(small.items(), key=lambda item: (item[1], item[0]))
    what = f"with label {label!r}" if kind in NAMED else "in it"
    more = f" (and of {len(small) - 1} other labels)" if len(small) > 1 else ""
    return (
        f"expected at least {n_parts} different texts of each label in {name}, one for "
        f"each part, got {n} {what}{more}: bring more, leave it out, or, if labels are "
        f'numbers, say kind="number"'
    )


def _label_names(
    name: str, kind: Kind, train: Examples, validation: Examples, test: Examples
) -> tuple[str, ...]:
    if kind not in NAMED:
        return ()
    parts = zip(PARTS, (train, validation, test), strict=True)
    found = {part: {n for e in some for n in _raw_names(e)} for part, some in parts}
    labels = set[str]().union(*found.values())
    for part in PARTS[1:] if train else ():
        unseen = sorted(found[part] - found["train"], key=_natural)
        if unseen:
            raise ValueError(
                f"expected every label of {part} in the training part of {name} too, "
                f"got {unseen[0]!r} in {part} only: train on some, or leave it out"
            )
    if len(labels) < (2 if kind == "classes" else 1):
        raise ValueError(
            f"expected at least 2 labels in {name}, got "
            f"{', '.join(map(repr, labels)) or 'none'}: there is nothing to tell apart"
        )
    return tuple(sorted(labels, key=_natural))


def _raw_names(example: Example) -> Iterable[str]:
    some = example.label if isinstance(example.label, tuple) else (example.label,)
    return (one.label if isinstance(one, Span) else str(one) for one in some)


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers by their size, and before words.

    >>> sorted(["b", "10", "9", "a"], key=_natural)
    ['9', '10', 'a', 'b']
    """
    try:
        number = float(name)
    except ValueError:
        return (1, 0.0, name)
    return (1, 0.0, name) if math.isnan(number) else (0, number, name)


def _indexed(example: Example, kind: Kind, index: Mapping[str, int]) -> Example:
    label = example.label
    if kind == "classes":
        return example._replace(label=index[str(label)])
    if kind == "multilabel" and isinstance(label, tuple):
        return example._replace(label=tuple(sorted({index[str(n)] for n in label})))
    if kind == "tags" and isinstance(label, tuple):
        return example._replace(label=tuple(index[str(n)] for n in label))
    return example
