"""Chapter 1. Regret: how much more a model is surprised than it has to be.

For every word of a story from `stories`, the true probability p is known exactly. A
model gives the same word the probability q, and

    regret = (−ln q) − (−ln p)     nats

On one word it may be negative, by luck; its mean over many stories is the distance
from q to p (Kullback and Leibler 1951), and that is 0 where q = p and positive where
it is not. `xray` measures it, `draw_regret` colours the words by it.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from minigpt import stories

Place = int | float  # rows and columns of characters, and parts of them
MONOSPACE_WIDTH = 0.602  # of DejaVu Sans Mono, in font sizes


@runtime_checkable
class Counts(Protocol):
    """A model that reads a sequence from its start, as `NGram` does."""

    def surprisal(self, tokens: Sequence[int]) -> Float[np.ndarray, " N"]:
        """−ln p of every token given those before it, in nats."""


@runtime_checkable
class Tokens(Protocol):
    """What `xray` asks of a tokenizer; every tokenizer of chapter 2 will do."""

    @property
    def end_id(self) -> int | None:
        """The token that ends a story; a GPT reads it before the first word too."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The new text after each token."""


@dataclass(frozen=True)
class Regret:
    """One story under the X-ray: numbers in nats, one for each word.

    Attributes:
        words: the words and marks of the story, its end included where it was scored.
        model: the model's surprisal.
        truth: the surprisal under the distribution that told the story.
    """

    words: tuple[str, ...]
    model: Float[np.ndarray, " N"]
    truth: Float[np.ndarray, " N"]

    @property
    def regret(self) -> Float[np.ndarray, " N"]:
        """Model minus truth; infinite where the model thought the word impossible."""
        return self.model - self.truth

    @property
    def mean(self) -> float:
        """Nats per word that the model loses against the truth."""
        return float(self.regret.mean())

    def worst(self, n: int = 3) -> list[tuple[int, str, float]]:
        """Position, word and regret of the n reddest words, reddest first."""
        order = np.argsort(-self.regret, kind="stable")[:n]
        return [(int(i), self.words[i], float(self.regret[i])) for i in order]

    def __repr__(self) -> str:
        worst = ", ".join(f"{word} {nats:.1f}" for _, word, nats in self.worst())
        return (
            f"regret {self.mean:.2f} nats per word (model {self.model.mean():.2f}, "
            f"truth {self.truth.mean():.2f})\n{len(self.words)} words, most at {worst}"
        )


def xray(
    model: Counts | nn.Module, tokenizer: Tokens, story: str | stories.Story
) -> Regret:
    """Hold a model's surprisal at every word of a story against the true one.

    A word of several tokens has the sum of their surprisals. Its tokens are those that
    begin in it, or in the space before it.

    Raises:
        ValueError: no story that `stories` could have told, a tokenizer that changes
            the text, or a GPT whose tokenizer has no end mark to start from.
    """
    text = story if isinstance(story, str) else story.text
    truth = np.array(stories.surprisal(text))
    words = (*stories.words(text), stories.END)
    if np.isinf(truth).any():
        i = int(np.isinf(truth).argmax())
        raise ValueError(
            f"expected a story as stories.generate tells it, got {words[i]!r} as word "
            f"{i}, which has probability 0 there: the truth is known for those alone"
        )
    tokens = tokenizer.encode(text)
    owner = _owners(tokenizer, tokens, words)
    if tokenizer.end_id is None:
        words, truth = words[:-1], truth[:-1]
    else:
        tokens, owner = [*tokens, tokenizer.end_id], [*owner, len(words) - 1]
    if isinstance(model, nn.Module):
        nats = _surprisal_of_module(model, tokens, tokenizer.end_id)
    else:
        nats = model.surprisal(tokens)
    return Regret(words, np.bincount(owner, nats, minlength=len(words)), truth)


def _spans(words: Sequence[str]) -> list[tuple[int, int]]:
    """Where each word begins and ends in the joined text; END stands behind it."""
    text, at, spans = stories.join(words), 0, []
    for word in words:
        begin = text.find(word, at) if word != stories.END else len(text) + 1
        at = begin + len(_shown(word))
        spans.append((begin, at))
    return spans


def _owners(
    tokenizer: Tokens, tokens: Sequence[int], words: Sequence[str]
) -> list[int]:
    """The word that each token begins in; a space belongs to the word after it."""
    pieces = list(tokenizer.decode_stream(tokens))
    text = stories.join(words)
    if "".join(pieces) != text or len(pieces) != len(tokens):
        raise ValueError(
            f"expected a tokenizer that gives the story back as it was, got "
            f"{''.join(pieces)[:40]!r}…: its tokens cannot be laid on the words"
        )
    ends = [end for _, end in _spans(words)]
    begins = np.cumsum([0, *map(len, pieces)])[:-1]
    return [bisect_right(ends, begin) for begin in begins]


def _surprisal_of_module(
    model: nn.Module, tokens: Sequence[int], start: int | None
) -> Float[np.ndarray, " N"]:
    if start is None:
        raise ValueError(
            "expected a tokenizer with an end mark for a model of logits, got one "
            "without: nothing stands before the first word that it could read"
        )
    device = next(model.parameters()).device
    row = torch.tensor([[start, *tokens]], device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits = model(row[:, :-1])[0].float()
    finally:
        model.train(was_training)
    return F.cross_entropy(logits, row[0, 1:], reduction="none").cpu().double().numpy()


def draw_regret(
    regret: Regret, *, limit: float = 5.0, columns: int = 52, title: str = ""
) -> Any:
    """The story on a white sheet, redder where more was lost (up to `limit` nats).

    The sheet is drawn behind the words, so that they read on any page. Returns the
    matplotlib axes.
    """
    # Loaded here, so that who measures and never draws does not wait for it.
    import matplotlib.pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    scale = LinearSegmentedColormap.from_list("regret", ["white", "#f2442e"])
    spans = _spans(regret.words)
    firsts = _line_starts(spans, columns)
    rows = len(firsts) + 1.3  # the scale stands below the text
    inches = 6.4 / (columns + 3)  # of one column; a row is 2.1 columns high
    top = -1.6 if title else -0.3
    figure = plt.figure(figsize=(6.4, 2.1 * inches * (rows + 0.6 - top)))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(-1.5, columns + 1.5), ylim=(rows + 0.5, top - 0.1))
    ax.set_axis_off()

    def write(row: Place, column: Place, text: str, **style: Any) -> None:
        style = {"family": "monospace", "va": "center", "color": "black"} | style
        size = 72 * inches / MONOSPACE_WIDTH
        ax.text(column, row + 0.5, text, size=size, **style)

    def paint(row: Place, left: Place, right: Place, nats: float) -> None:
        share = min(nats / limit, 1.0)
        if share > 0.02:  # paler than that is the white of the sheet to any eye
            box = Rectangle((left, row), right - left, 1, color=scale(share), lw=0)
            box.set(antialiased=False, clip_on=False)  # no seams between boxes
            ax.add_patch(box)

    high = rows + 0.4 - top
    sheet = Rectangle((-1.4, top), columns + 2.8, high, fc="white", ec="#c8c8c8")
    ax.add_patch(sheet)
    write(-1.35, 0, title, color="#555555")
    for i, ((begin, end), nats) in enumerate(zip(spans, regret.regret, strict=True)):
        row = bisect_right(firsts, begin) - 1
        # Half of the space on either side; a comma leans on its word without one.
        left = begin - 0.5 * (i == 0 or spans[i - 1][1] < begin)
        right = end + 0.5 * (i + 1 == len(spans) or end < spans[i + 1][0])
        paint(row, left - firsts[row], right - firsts[row], nats)
    text = stories.join(regret.words) + " END" * (stories.END in regret.words)
    for row, (first, after) in enumerate(zip(firsts, [*firsts[1:], None], strict=True)):
        write(row, 0, text[first:after].rstrip())
    write(rows - 0.8, 0, "nats lost:")
    for k in range(6):
        left = 12 + 6 * k
        paint(rows - 0.8, left, left + 5, k * limit / 5)
        label = f"{k * limit / 5:g}" + "+" * (k == 5)
        write(rows - 0.8, left + 2.5, label, ha="center")
    return ax


def _shown(word: str) -> str:
    return "END" if word == stories.END else word


def _line_starts(spans: Sequence[tuple[int, int]], columns: int) -> list[int]:
    """Where the text is broken, so that no line is longer than `columns`.

    A line may begin only after a space: no comma stands at the front of one.
    """
    firsts = [0]
    begin_of_run = 0
    for i, (begin, end) in enumerate(spans):
        if i and spans[i - 1][1] < begin:
            begin_of_run = begin
        if end - firsts[-1] > columns and begin_of_run > firsts[-1]:
            firsts.append(begin_of_run)
    return firsts
