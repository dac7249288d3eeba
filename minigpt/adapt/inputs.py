"""Chapter 10. Inputs: how a labelled example becomes rows of tokens.

GPT-1 (Radford et al., 2018, §3.3) changes the text and leaves the decoder as it is.
Three tokens that pretraining never saw mark a row's start, the borders between texts,
and the place from which the head reads, by when the decoder has read everything:

    one text       start text extract
    a pair         start text delimiter pair extract      a similarity: both orders
    choices        start text delimiter choice extract    one row for each choice
    tags           start text extract                     read after each word
    spans          start question delimiter text extract  read at each token of the text
    text           start text delimiter target extract    the target is predicted

The question stands before the text, or no token of the text could know of it. What is
longer than the context is cut on the side that the layout names, and counted.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from minigpt.labelled import Example, Kind, Label, Span
from minigpt.tokenizer import Tokenizer

Side = Literal["left", "right"]
Read = Literal["last", "first"]
# The characters text[start:end] that a token stands for; of a tag, the word's number.
Place = tuple[int, int]
# Kinds of which a row has one vector that counts.
SINGLE: tuple[Kind, ...] = ("classes", "multilabel", "number", "choice")


class Marks(NamedTuple):
    """The ids of GPT-1's three tokens; a row may go without a start."""

    start: int | None
    delimiter: int
    extract: int

    @property
    def padding(self) -> int:
        """The token that fills rows up; it never stands last in a row of its own."""
        return self.delimiter


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All that decides which tokens an example becomes, and what its label means.

    Attributes:
        kind: what the label of an example is.
        labels: the names that indices stand for.
        marks: the three added tokens.
        context_length: most tokens of a row.
        cut: the side on which a text that is too long loses tokens.
        both_orders: a pair is read in both, and what was read is added: it does not
            matter which text comes first.
        read: the token whose vector the head gets, where it gets one.
        room: tokens kept free for what is to be written.
        centre: subtracted from a number before it is learnt.
        spread: divides it then.

    Raises:
        ValueError: a context too short for a row, a spread that is not above 0, or
            both orders of what is no pair.
    """

    kind: Kind
    labels: tuple[str, ...]
    marks: Marks
    context_length: int
    cut: Side = "right"
    both_orders: bool = False
    read: Read = "last"
    room: int = 32
    centre: float = 0.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        least = 8 + (self.room if self.kind == "text" else 0)
        if self.context_length < least:
            raise ValueError(
                f"expected a context of at least {least} tokens, got "
                f"{self.context_length}: choose a model with a longer one"
            )
        if not self.spread > 0:
            raise ValueError(f"expected a spread above 0, got {self.spread}")
        if self.both_orders and self.kind not in ("classes", "multilabel", "number"):
            raise ValueError(
                f"expected both_orders with classes, multilabel or number, got "
                f"{self.kind!r}: leave it off"
            )


class Item(NamedTuple):
    """An example as the model gets it."""

    rows: tuple[tuple[int, ...], ...]
    reads: tuple[int, ...]  # positions, where more than one of the row is read
    places: tuple[Place, ...]  # what each of them stands for
    target: "Target | None"  # what is right; None while predicting
    cut: int  # tokens that there was no room for

    @property
    def length(self) -> int:
        """Tokens in its longest row."""
        return max(map(len, self.rows))


# A class, a choice; 0 and 1 for each label; a number; a class for each word; the first
# and the last token of each label's span; tokens to write.
Target = int | float | tuple[float, ...] | tuple[int, ...] | tuple[Place, ...]


# One example.
def lay_out(
    example: Example, tokenizer: Tokenizer, layout: Layout, *, labelled: bool = True
) -> Item:
    """The rows of an example, what is read of them, and, if labelled, what is right.

    Raises:
        ValueError: an empty text, a pair where none or one is due, or a label that the
            layout does not know.
    """
    if layout.both_orders and example.text_pair is None:
        raise ValueError(
            "expected a text_pair to read in both orders, got one text: leave "
            "both_orders off"
        )
    if layout.kind in ("tags", "spans"):
        return _each_token(example, tokenizer, layout, labelled)
    if layout.kind == "text":
        return _written(example, tokenizer, layout, labelled)
    texts = [t for t in (example.text, example.text_pair) if t is not None]
    every = [[*texts, choice] for choice in example.choices] or [texts]
    if layout.both_orders:
        every.append(every[0][::-1])
    rows, cut = [], 0
    for some in every:
        parts = [_ids(text, tokenizer) for text in some]
        kept = _fitted(parts, layout)
        rows.append(_row(kept, layout))
        cut += sum(map(len, parts)) - sum(map(len, kept))
    target = _TARGETS[layout.kind](example, layout) if labelled else None
    return Item(tuple(rows), (), (), target, cut)


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    ids = tokenizer.encode(text) if text.strip() else []
    if not ids:
        raise ValueError(f"expected a text, got {text!r}: fill it or remove it")
    return ids


def _fitted(parts: Sequence[Sequence[int]], layout: Layout) -> list[Sequence[int]]:
    """What there is room for of each part; the longest loses first."""
    marks = 1 + (layout.marks.start is not None) + len(parts) - 1
    shares = fair_shares([len(p) for p in parts], layout.context_length - marks)
    return [_kept(p, n, layout.cut) for p, n in zip(parts, shares, strict=True)]


def fair_shares(lengths: Sequence[int], room: int) -> list[int]:
    """Shares of a room: nobody gets more than he needs, and the longest lose first.

    >>> fair_shares([50, 3, 40], 63)
    [30, 3, 30]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    shares = [0] * len(lengths)
    for done, i in enumerate(order):
        shares[i] = min(lengths[i], room // (len(lengths) - done))
        room -= shares[i]
    return shares


def _kept(ids: Sequence[int], n: int, cut: Side) -> Sequence[int]:
    return ids[:n] if cut == "right" else ids[len(ids) - n :]


def _row(parts: Sequence[Sequence[int]], layout: Layout) -> tuple[int, ...]:
    marks = layout.marks
    row = [] if marks.start is None else [marks.start]
    for i, part in enumerate(parts):
        row += [*([marks.delimiter] if i else []), *part]
    return (*row, marks.extract)


# Examples that are read at many tokens.
def aligned(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[Place]]:
    """The ids of a text, and the characters that each of them stands for.

    It is encoded word by word, which our tokenizers do in any case. Where one changes
    the letters, as GPT-1's does, a token stands for its whole word.
    """
    ids: list[int] = []
    places: list[Place] = []
    for match in re.finditer(r"\s*\S+|\s+\Z", text):
        chunk = match.group()
        some = tokenizer.encode(chunk)
        pieces = list(tokenizer.decode_stream(some))[: len(some)]
        ids += some
        places += _places(chunk, match.start(), pieces)
    return ids, places


def _places(chunk: str, first: int, pieces: Sequence[str]) -> list[Place]:
    word = chunk.lstrip()
    start = first + len(chunk) - len(word)
    said = "".join(pieces)
    same = said.casefold() in (chunk.casefold(), word.casefold())
    if not same or len(said) not in (len(chunk), len(word)):
        return [(start, first + len(chunk))] * len(pieces)
    at = first + len(chunk) - len(said)
    places = []
    for piece in pieces:
        end = at + len(piece)
        places.append((end - len(piece.lstrip()), end))
        at = end
    return places


def _each_token(
    example: Example, tokenizer: Tokenizer, layout: Layout, labelled: bool
) -> Item:
    """A row that is read after each word (tags), or at each token and at the end."""
    _ids(example.text, tokenizer)  # there must be a text
    ids, places = aligned(example.text, tokenizer)
    before = [] if example.text_pair is None else [_ids(example.text_pair, tokenizer)]
    parts = [*before, ids]
    kept = _fitted(parts, layout)
    n = len(kept[-1])
    first = 0 if layout.cut == "right" else len(ids) - n
    row = _row(kept, layout)
    at = len(row) - 1 - n  # where the text starts in the row
    if layout.kind == "tags":
        ends = _word_ends(example.text, places)
        words = [(w, i) for w, i in enumerate(ends) if first <= i < first + n]
        reads = tuple(at + i - first for _, i in words)
        own: tuple[Place, ...] = tuple((w, w + 1) for w, _ in words)
    else:
        reads = tuple(range(at, len(row)))
        own = tuple(places[first : first + n])
    target = None
    if labelled:
        check = _tag_target if layout.kind == "tags" else _span_target
        target = check(example, layout, own)
    cut = sum(map(len, parts)) - sum(map(len, kept))
    return Item((row,), reads, own, target, cut)


def _word_ends(text: str, places: Sequence[Place]) -> list[int]:
    """The last token of each word of text.split()."""
    last = {}
    for i, (start, end) in enumerate(places):
        if start < end:
            last[end] = i
    return [last[match.end()] for match in re.finditer(r"\S+", text)]


def _written(
    example: Example, tokenizer: Tokenizer, layout: Layout, labelled: bool
) -> Item:
    """A text and what is to be written; without a label, the row that asks for it."""
    source = _ids(example.text, tokenizer)
    marks = layout.marks
    most = layout.context_length - 2 - (marks.start is not None) - layout.room
    kept = _kept(source, min(len(source), most), layout.cut)
    cut = len(source) - len(kept)
    if not labelled:
        row = (*_row([kept], layout)[:-1], marks.delimiter)
        return Item((row,), (len(row) - 1,), (), None, cut)
    goal = _ids(str(example.label), tokenizer)
    parts = _fitted([kept, goal], layout)
    cut += len(kept) + len(goal) - sum(map(len, parts))
    row = _row(parts, layout)
    n = len(parts[1]) + 1
    return Item((row,), tuple(range(len(row) - 1 - n, len(row) - 1)), (), row[-n:], cut)


# What is right.
def _class_target(example: Example, layout: Layout) -> Target:
    return _index(example.label, len(layout.labels))


def _index(label: object, n: int) -> int:
    if isinstance(label, int) and 0 <= label < n:
        return label
    raise ValueError(
        f"expected the index of one of {n} labels, from 0 to {n - 1}, got {label!r}: "
        f"use the labels that the model was trained with"
    )


def _many_target(example: Example, layout: Layout) -> Target:
    n = len(layout.labels)
    some = {_index(one, n) for one in _tuple(example.label)}
    return tuple(float(i in some) for i in range(n))


def _tuple(label: Label) -> tuple[object, ...]:
    return label if isinstance(label, tuple) else (label,)


def _number_target(example: Example, layout: Layout) -> Target:
    if not isinstance(example.label, (int, float)):
        raise ValueError(f"expected a number as label, got {example.label!r}")
    return (example.label - layout.centre) / layout.spread


def _choice_target(example: Example, layout: Layout) -> Target:
    if len(example.choices) < 2:
        raise ValueError(
            f"expected at least two choices, got {len(example.choices)}: give every "
            f"example its choices"
        )
    return _index(example.label, len(example.choices))


_TARGETS: Mapping[Kind, Callable[[Example, Layout], Target]] = {
    "classes": _class_target,
    "multilabel": _many_target,
    "number": _number_target,
    "choice": _choice_target,
}


def _tag_target(example: Example, layout: Layout, words: Sequence[Place]) -> Target:
    tags, n = _tuple(example.label), len(example.text.split())
    if len(tags) != n:
        raise ValueError(f"expected one tag for each of {n} words, got {len(tags)}")
    every = [_index(tag, len(layout.labels)) for tag in tags]
    return tuple(every[word] for word, _ in words)


def _span_target(example: Example, layout: Layout, places: Sequence[Place]) -> Target:
    """First and last token for each label; the extract token twice where there is none.

    A span that was cut off counts as none here; the label keeps it, so that whoever
    scores the prediction counts it as missed.
    """
    none = len(places)
    found: dict[str, Place] = {}
    for span in _tuple(example.label):
        if not isinstance(span, Span) or span.label not in layout.labels:
            raise ValueError(
                f"expected spans of {', '.join(layout.labels)}, got {span!r}: use the "
                f"labels that the model was trained with"
            )
        start, end = _trimmed(span, example.text)
        if span.label in found:
            raise ValueError(
                f"expected at most one span of each label, got two of {span.label!r}: "
                f"tag the words instead"
            )
        inside = [i for i, (a, b) in enumerate(places) if a < end and b > start]
        whole = inside and places[inside[0]][0] <= start
        whole = whole and places[inside[-1]][1] >= end
        found[span.label] = (inside[0], inside[-1]) if whole else (none, none)
    return tuple(found.get(label, (none, none)) for label in layout.labels)


def _trimmed(span: Span, text: str) -> Place:
    """The span without white space at its ends, of which no token is sure."""
    said = text[span.start : span.end]
    if not 0 <= span.start < span.end <= len(text) or not said.strip():
        raise ValueError(
            f"expected a span of start < end within {len(text)} characters, got "
            f"{span.start} and {span.end}: count in `text`"
        )
    start = span.start + len(said) - len(said.lstrip())
    return start, start + len(said.strip())
