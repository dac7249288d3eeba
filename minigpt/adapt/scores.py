"""Chapter 10. Scores: what the numbers of a head say, and how wrong they are.

    kind        scores                  what is said         loss
    classes     one for each label      the highest          cross-entropy
    multilabel  one for each label      all above 0          binary cross-entropy
    number      one                     itself               squared error
    choice      one for each choice     the highest          cross-entropy
    tags        as classes, each word   the highest          cross-entropy
    spans       start and end of each   the best valid span  cross-entropy of both
    text        the next token's        token by token       cross-entropy

Letters: B examples, N positions read, M of one example, L labels, O scores of a head.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minigpt.adapt.inputs import Item, Layout, Place
from minigpt.labelled import Example, Kind, Label, Span

# Longest span that is looked for, in tokens.
LONGEST_SPAN = 30
# What stands for the tag of a word that was cut off.
UNREAD = -1


class Prediction(NamedTuple):
    """What was said of an example.

    `label` is as in a task: indices where labels have names, `UNREAD` for the tag of a
    word that was cut off. `answer` is for people: names, the texts of spans. `scores`
    are probabilities: of each class or label, of each choice, of each word's tag; of
    spans, by how much the best one of each label beats none; of the rest nothing.
    """

    label: Label
    answer: str | float | tuple[str, ...]
    scores: tuple[float, ...] = ()


# How wrong.
Loss = Callable[[Tensor, Tensor, tuple[int, ...], Tensor | None], Tensor]


def scores_loss(
    kind: Kind,
    scores: Float[Tensor, "N O"],
    targets: Shaped[Tensor, "..."],
    sizes: tuple[int, ...],
    *,
    class_weights: Float[Tensor, " L"] | None = None,
) -> Float[Tensor, ""]:
    """The mean loss of a batch; `sizes` says how many scores each example has.

    Raises:
        ValueError: class weights where there are no classes.
    """
    if class_weights is not None and kind not in ("classes", "tags"):
        raise ValueError(
            f"expected class weights with classes or tags, got {kind!r}: leave them out"
        )
    return _LOSSES[kind](scores.float(), targets, sizes, class_weights)


def _class_loss(
    scores: Tensor, targets: Tensor, sizes: tuple[int, ...], weights: Tensor | None
) -> Tensor:
    if not len(targets):
        return scores.sum()  # of no word that was read: 0, where their mean is none
    return F.cross_entropy(scores, targets, weight=weights)


def _many_loss(
    scores: Tensor, targets: Tensor, sizes: tuple[int, ...], weights: Tensor | None
) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, targets)


def _number_loss(
    scores: Tensor, targets: Tensor, sizes: tuple[int, ...], weights: Tensor | None
) -> Tensor:
    return F.mse_loss(scores[:, 0], targets)


def _choice_loss(
    scores: Tensor, targets: Tensor, sizes: tuple[int, ...], weights: Tensor | None
) -> Tensor:
    return F.cross_entropy(by_example(scores, sizes)[..., 0], targets)


def _span_loss(
    scores: Tensor, targets: Tensor, sizes: tuple[int, ...], weights: Tensor | None
) -> Tensor:
    ends = by_example(scores, sizes).unflatten(-1, (-1, 2))  # (B, M, L, 2)
    return F.cross_entropy(ends.permute(0, 2, 3, 1).flatten(0, 2), targets.flatten())


_LOSSES: Mapping[Kind, Loss] = {
    "classes": _class_loss,
    "multilabel": _many_loss,
    "number": _number_loss,
    "choice": _choice_loss,
    "tags": _class_loss,
    "spans": _span_loss,
}


def by_example(
    scores: Float[Tensor, "N O"], sizes: tuple[int, ...]
) -> Float[Tensor, "B M O"]:
    """The scores of each example in a row of its own; −∞ where it has no more."""
    rows = scores.split(list(sizes))
    return pad_sequence(list(rows), batch_first=True, padding_value=-torch.inf)


# What is said.
def said(
    scores: Float[Tensor, "M O"], item: Item, example: Example, layout: Layout
) -> Prediction:
    """What the scores of one example say."""
    return _SAID[layout.kind](scores, item, example, layout)


def _class(scores: Tensor, item: Item, example: Example, layout: Layout) -> Prediction:
    label = int(scores[0].argmax())
    return Prediction(label, layout.labels[label], _probabilities(scores[0]))


def _probabilities(scores: Float[Tensor, " L"]) -> tuple[float, ...]:
    return tuple(scores.softmax(-1).tolist())


def _many(scores: Tensor, item: Item, example: Example, layout: Layout) -> Prediction:
    label = tuple((scores[0] > 0).nonzero()[:, 0].tolist())
    names = tuple(layout.labels[i] for i in label)
    return Prediction(label, names, tuple(scores[0].sigmoid().tolist()))


def _number(scores: Tensor, item: Item, example: Example, layout: Layout) -> Prediction:
    number = layout.centre + layout.spread * scores.item()
    return Prediction(number, number)


def _choice(scores: Tensor, item: Item, example: Example, layout: Layout) -> Prediction:
    label = int(scores[:, 0].argmax())
    return Prediction(label, example.choices[label], _probabilities(scores[:, 0]))


def _tags(scores: Tensor, item: Item, example: Example, layout: Layout) -> Prediction:
    n = len(example.text.split())
    label, sure = [UNREAD] * n, [0.0] * n
    best = scores.softmax(-1).max(-1)
    for at, (word, _) in enumerate(item.places):
        label[word], sure[word] = int(best.indices[at]), float(best.values[at])
    names = tuple("" if i == UNREAD else layout.labels[i] for i in label)
    return Prediction(tuple(label), names, tuple(sure))


def _spans(scores: Tensor, item: Item, example: Example, layout: Layout) -> Prediction:
    spans, texts, margins = [], [], []
    for name, ends in zip(
        layout.labels, scores.unflatten(-1, (-1, 2)).unbind(1), strict=True
    ):
        place, margin = best_span(ends[:, 0], ends[:, 1])
        margins.append(margin)
        if margin > 0:
            start, end = item.places[place[0]][0], item.places[place[1]][1]
            spans.append(Span(start, end, name))
            texts.append(example.text[start:end])
    return Prediction(tuple(spans), tuple(texts), tuple(margins))


def best_span(
    starts: Float[Tensor, " M"],
    ends: Float[Tensor, " M"],
    *,
    longest: int = LONGEST_SPAN,
) -> tuple[Place, float]:
    """The valid span of the highest score, and by how much it beats none.

    Valid is a span that does not end before it starts and has at most `longest`
    tokens. The last position, of the extract token, stands for none, as the first does
    in BERT's model of SQuAD 2.0 (Devlin et al., 2019, §4.3).
    """
    both = starts[:-1, None] + ends[None, :-1]  # (start, end)
    valid = torch.ones_like(both, dtype=torch.bool).triu().tril(longest - 1)
    best = int(both.masked_fill(~valid, -torch.inf).argmax())
    place = divmod(best, len(ends) - 1)
    return place, float(both[place] - starts[-1] - ends[-1])


_SAID: Mapping[Kind, Callable[[Tensor, Item, Example, Layout], Prediction]] = {
    "classes": _class,
    "multilabel": _many,
    "number": _number,
    "choice": _choice,
    "tags": _tags,
    "spans": _spans,
}


def named(labels: Sequence[str], layout: Layout) -> list[int]:
    """The indices of some labels' names.

    Raises:
        ValueError: a name that the model was not trained with.
    """
    unknown = [name for name in labels if name not in layout.labels]
    if unknown:
        raise ValueError(
            f"expected labels among {', '.join(layout.labels)}, got {unknown[0]!r}: "
            f"the model was not trained with it, so leave its rows out or train anew"
        )
    return [layout.labels.index(name) for name in labels]
