"""Chapter 7. Scoring: how likely a model finds text that somebody else wrote.

Every test of a language model in this book is one operation: read a row of tokens, and
keep the surprisal −ln p of those from some place on, each given all before it.

    perplexity    the row is a document, and every token of it is scored
    an answer     the row is a question and its answer, and the answer is scored

What a text begins with: the tokenizer's end mark, where it has one, is read first and
never scored, as in training. Where there is none, the first token is not scored.

A row longer than the context is read in windows that overlap. Each scores `stride` new
tokens (the first one: all that fit), so that every token is scored once, and past the
first window with at least context + 1 − stride tokens before it. The last window
reaches back to be full. Small strides cost time and lower the loss: figures with
different strides are not comparable.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt.decoding import reading
from minigpt.model import GPT
from minigpt.ngram import bits, bits_per_byte, perplexity
from minigpt.plan import MOST_LOGITS
from minigpt.tokenizer import Tokenizer

# Positions in one batch, padding included: enough to fill a CPU, little memory.
BATCH_TOKENS = 8192
# Stretches that one text is cut into for its interval, and tokens each at least has.
STRETCHES, SHORTEST = 30, 100
NORMAL = 1.959964  # 95 % of a normal distribution lies within so many deviations

Watch = Callable[[int, int], object]  # called with tokens read, and tokens in all


class Row(NamedTuple):
    """Tokens to read; those from `first` on, which is 1 or more, are scored."""

    tokens: Sequence[int]
    first: int = 1


class Scored(NamedTuple):
    """For each scored token its surprisal in nats, and whether it was the likeliest."""

    nats: Float[np.ndarray, " N"]
    greedy: Bool[np.ndarray, " N"]


class Window(NamedTuple):
    """Tokens begin … end − 1 are read, and those from `at` on are scored."""

    begin: int
    at: int
    end: int


def windows(
    length: int, first: int = 1, *, context: int, stride: int
) -> Iterator[Window]:
    """Windows in which a row's tokens from `first` on are scored, each exactly once.

    A window holds one token more than the model reads: the last is only predicted.

    >>> list(windows(9, context=4, stride=2))[:2]
    [Window(begin=0, at=1, end=5), Window(begin=2, at=5, end=7)]

    Raises:
        ValueError: a stride that leaves the window nothing to read, or nothing new.
    """
    if not 1 <= stride <= context:
        raise ValueError(
            f"expected a stride from 1 to {context} (the context), got {stride}: "
            f"half the context is the default"
        )
    at = first
    while at < length:
        end = min(length, max(context + 1, at + stride))
        yield Window(max(0, end - context - 1), at, end)
        at = end


def score_rows(
    model: GPT,
    rows: Sequence[Row],
    *,
    stride: int | None = None,
    context: int | None = None,
    watch: Watch | None = None,
) -> list[Scored]:
    """Surprisal of every scored token of every row, in batches of like lengths.

    `context` is how many tokens are read at once, the model's own length unless
    smaller; `stride` half of it. The head runs on the scored positions alone.

    Raises:
        ValueError: a row whose first token is to be scored, a stride or context that
            does not fit, or a model whose logits are no numbers.
    """
    context, stride = _reach(model, context, stride)
    bad = next((row for row in rows if row.first < 1), None)
    if bad is not None:
        raise ValueError(
            f"expected rows scored from token 1 on, got first={bad.first}: nothing "
            f"stands before the first token that the model could read"
        )
    pieces = [
        (i, window)
        for i, (tokens, first) in enumerate(rows)
        for window in windows(len(tokens), first, context=context, stride=stride)
    ]
    parts: list[list[Scored]] = [[_NOTHING] for _ in rows]
    with reading(model):
        for (i, _), scored in zip(
            pieces, _score_pieces(model, rows, pieces, watch), strict=True
        ):
            parts[i].append(scored)
    return [
        Scored(*(np.concatenate(part) for part in zip(*own, strict=True)))
        for own in parts
    ]


_NOTHING = Scored(np.zeros(0), np.zeros(0, dtype=bool))
Piece = tuple[int, Window]  # the number of a row, and a window of it


def _reach(model: GPT, context: int | None, stride: int | None) -> tuple[int, int]:
    longest = model.config.context_length
    context = longest if context is None else context
    if not 1 <= context <= longest:
        raise ValueError(
            f"expected a context from 1 to {longest} (the model's context_length), "
            f"got {context}: leave it out for the longest"
        )
    return context, max(1, context // 2) if stride is None else stride


def _score_pieces(
    model: GPT, rows: Sequence[Row], pieces: Sequence[Piece], watch: Watch | None
) -> list[Scored]:
    """Every piece's scores, in the order of the pieces."""
    widths = [window.end - window.begin for _, window in pieces]
    # Longest first: little padding, and a batch too large for memory fails at once.
    order = sorted(range(len(pieces)), key=lambda k: -widths[k])
    found = [_NOTHING] * len(pieces)
    start = done = 0
    while start < len(order):
        some = order[start : start + max(1, BATCH_TOKENS // widths[order[start]])]
        batch = [(rows[pieces[k][0]].tokens, pieces[k][1]) for k in some]
        for k, scored in zip(some, _score_batch(model, batch), strict=True):
            found[k] = scored
        start += len(some)
        done += sum(widths[k] for k in some)
        if watch is not None:
            watch(done, sum(widths))
    return found


def _score_batch(
    model: GPT, batch: Sequence[tuple[Sequence[int], Window]]
) -> list[Scored]:
    """Padding stands at the right, where no scored position ever looks."""
    device = next(model.parameters()).device
    width = max(window.end - window.begin for _, window in batch) - 1
    inputs = torch.zeros(len(batch), width, dtype=torch.long)
    goals, kept = torch.zeros_like(inputs), torch.zeros_like(inputs, dtype=torch.bool)
    for i, (row, (begin, at, end)) in enumerate(batch):
        tokens = torch.tensor(row[begin:end], dtype=torch.long)
        inputs[i, : len(tokens) - 1] = tokens[:-1]
        goals[i, : len(tokens) - 1] = tokens[1:]
        kept[i, at - begin - 1 : end - begin - 1] = True
    hidden = model.hidden(inputs.to(device))[kept.to(device)]  # (N, C)
    nats, greedy = _surprisals(model, hidden, goals[kept].to(device))
    counts = kept.sum(1).tolist()
    return [
        Scored(n.numpy(), g.numpy())
        for n, g in zip(nats.split(counts), greedy.split(counts), strict=True)
    ]


def _surprisals(
    model: GPT, hidden: Float[Tensor, "N C"], goals: Int[Tensor, " N"]
) -> tuple[Float[Tensor, " N"], Bool[Tensor, " N"]]:
    """The head in chunks: all logits at once, of a large vocabulary, are gigabytes."""
    size = max(1, MOST_LOGITS // model.config.vocab_size)
    nats, greedy = [], []
    for some, ids in zip(hidden.split(size), goals.split(size), strict=True):
        logits = model.unembed(some[None])[0].float()
        nats.append(F.cross_entropy(logits, ids, reduction="none").double().cpu())
        greedy.append((logits.argmax(-1) == ids).cpu())
    surprisal = torch.cat(nats)
    if surprisal.isnan().any():
        raise ValueError(
            "expected a model whose logits are numbers, got nan: its weights are "
            "broken, or overflow in this number format"
        )
    return surprisal, torch.cat(greedy)


@dataclass(frozen=True)
class TextScore:
    """What a model made of a text: every figure follows from these sums.

    Attributes:
        nats: surprisal of all scored tokens together.
        tokens: how many were scored.
        n_bytes: UTF-8 bytes of the text that they stand for.
        words: words of the text, by white space unless another count was given.
        documents: texts that were read, each from its own beginning.
        context: tokens read at once.
        stride: tokens scored in each window after the first.
        deviation: standard error of the bits per byte; None for too little text.
    """

    nats: float
    tokens: int
    n_bytes: int
    words: int
    documents: int
    context: int
    stride: int
    deviation: float | None

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """What models with different tokenizers can be compared by."""
        return bits_per_byte(self.loss, tokens=self.tokens, n_bytes=self.n_bytes)

    @property
    def perplexity(self) -> float:
        """Per token of this tokenizer, comparable with the same tokenizer only."""
        return perplexity(self.loss)

    @property
    def word_perplexity(self) -> float:
        """Per word of the text, whatever the tokens; infinite where that overflows."""
        return self.per_word(self.bits_per_byte)

    def per_token(self, bits_of_a_byte: float) -> float:
        """A number of bits per byte of this text as its perplexity per token."""
        return _power(bits_of_a_byte * self.n_bytes / self.tokens)

    def per_word(self, bits_of_a_byte: float) -> float:
        """A number of bits per byte of this text as its perplexity per word."""
        return _power(bits_of_a_byte * self.n_bytes / max(1, self.words))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % for the bits per byte, over other texts of this kind.

        Normal, from the spread between documents where there are 30 or more, else
        between 30 stretches of the text, neighbouring tokens being alike. Of other
        books by other authors a few books say little, whatever their length.
        """
        if self.deviation is None:
            return None
        half = NORMAL * self.deviation
        return self.bits_per_byte - half, self.bits_per_byte + half


def _power(exponent: float) -> float:
    return 2.0**exponent if exponent < 1000 else math.inf


def score_text(
    model: GPT,
    tokenizer: Tokenizer,
    documents: str | Sequence[str],
    *,
    stride: int | None = None,
    context: int | None = None,
    words: int | None = None,
    watch: Watch | None = None,
) -> TextScore:
    """Perplexity done right: each document from its own beginning, each token once.

    End marks are read and never scored, so that the same bytes are predicted whatever
    the tokenizer.

    Raises:
        ValueError: nothing to score; as `score_rows`.
    """
    texts = [documents] if isinstance(documents, str) else list(documents)
    rows, lengths = [], []
    for text in texts:
        tokens, n_bytes = tokens_and_bytes(tokenizer, text)
        row = text_row(tokenizer, tokens)
        if len(row.tokens) > row.first:
            rows.append(row)
            lengths.append(n_bytes[len(tokens) - (len(row.tokens) - row.first) :])
    if not rows:
        raise ValueError(
            "expected a text of at least one token after its beginning, got none: "
            "bring more text"
        )
    context, stride = _reach(model, context, stride)
    scored = score_rows(model, rows, stride=stride, context=context, watch=watch)
    nats = [one.nats for one in scored]
    return TextScore(
        nats=float(sum(one.sum() for one in nats)),
        tokens=sum(map(len, nats)),
        n_bytes=round(sum(float(one.sum()) for one in lengths)),
        words=sum(len(t.split()) for t in texts) if words is None else words,
        documents=len(rows),
        context=context,
        stride=stride,
        deviation=_deviation(nats, lengths),
    )


def text_row(
    tokenizer: Tokenizer, tokens: Sequence[int], read: Sequence[int] = ()
) -> Row:
    """`tokens` to be scored after `read`, and after the end mark where there is one."""
    start = [] if tokenizer.end_id is None else [tokenizer.end_id]
    before = [*start, *read]
    return Row([*before, *tokens], max(1, len(before)))


def tokens_and_bytes(
    tokenizer: Tokenizer, text: str
) -> tuple[list[int], Float[np.ndarray, " N"]]:
    """The tokens of a text, and how many of its bytes each stands for.

    A character's bytes belong to the token that completes it. Where a tokenizer loses
    something, as GPT-1's does, the text's bytes are shared out in proportion.
    """
    tokens = tokenizer.encode(text)
    pieces = list(tokenizer.decode_stream(tokens))[: len(tokens)]
    lengths = np.array([len(piece.encode()) for piece in pieces], dtype=float)
    return tokens, lengths * (len(text.encode()) / max(1.0, lengths.sum()))


def _deviation(
    nats: Sequence[Float[np.ndarray, " _"]], lengths: Sequence[Float[np.ndarray, " _"]]
) -> float | None:
    """Standard error of bits per byte, by units that are as good as independent."""
    if len(nats) >= STRETCHES:
        surprise = np.array([one.sum() for one in nats])
        size = np.array([one.sum() for one in lengths])
    else:
        row, column = np.concatenate(nats), np.concatenate(lengths)
        if len(row) < STRETCHES * SHORTEST:
            return None
        starts = np.linspace(0, len(row), STRETCHES, endpoint=False).astype(int)
        surprise, size = np.add.reduceat(row, starts), np.add.reduceat(column, starts)
    # A ratio of sums: each unit's distance from what its bytes would cost on average.
    apart = surprise - surprise.sum() / size.sum() * size
    n = len(apart)
    return bits(math.sqrt(n / (n - 1) * (apart**2).sum()) / size.sum())
