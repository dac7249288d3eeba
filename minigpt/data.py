"""Chapter 5. Data: text becomes tokens, and tokens become batches.

Running text is one long row of tokens, and a batch is B windows cut anywhere from it:

    inputs  = tokens[s : s + T]
    targets = tokens[s + 1 : s + T + 1]      each s in 0 … N − T − 1 equally likely

Stories come one to a row instead, padded, and the padding is no target (-100).
A batch source can say where it stands and go back there, which is what lets a run
that was killed continue as if it had not been. Letters: B batch, T positions, N tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from minigpt.texts import Text
from minigpt.tokenizer import Tokenizer

IGNORE = -100


def encode_text(text: Text, part: str, tokenizer: Tokenizer) -> Integer[Tensor, "..."]:
    """Tokens of one part: (N,) for running text, (stories, length) for stories.

    An end mark stands on either side of each document, so that its first word is
    predicted too. A story's row is filled up with -100.
    """
    if text.end is None:
        return torch.tensor(tokenizer.encode(part), dtype=torch.int32)
    end = end_mark(tokenizer, text.end, packed=text.packed)
    documents = (tokenizer.encode(d) for d in text.documents(part))
    if text.packed:
        flat = [*end, *(i for d in documents for i in (*d, *end))]
        return torch.tensor(flat, dtype=torch.int32)
    return pad_rows([[*end, *d, *end] for d in documents])


def end_mark(tokenizer: Tokenizer, end: str, *, packed: bool) -> list[int]:
    """The tokens between two documents: the special token, if there is one.

    Packed documents are parted by a line break elsewhere: spelt out, the mark would be
    thirteen characters to learn.
    """
    special = tokenizer.special_tokens.get(end)
    if special is not None:
        return [special]
    return tokenizer.encode("\n" if packed else end)


def pad_rows(rows: Sequence[Sequence[int]]) -> Int[Tensor, "N L"]:
    """Rows of unequal length, filled up with -100 to the longest.

    >>> pad_rows([[3, 1, 4], [1]])
    tensor([[   3,    1,    4],
            [   1, -100, -100]], dtype=torch.int32)
    """
    padded = torch.full((len(rows), max(map(len, rows))), IGNORE, dtype=torch.int32)
    for into, row in zip(padded, rows, strict=True):
        into[: len(row)] = torch.tensor(row, dtype=torch.int32)
    return padded


class Batch(NamedTuple):
    """Inputs and, one step ahead of them, targets; -100 is no target."""

    inputs: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]


def shift(rows: Integer[Tensor, "B L"]) -> Batch:
    """Split rows of tokens into inputs and the tokens that come next.

    >>> shift(torch.tensor([[5, 6, 7, -100]]))
    Batch(inputs=tensor([[5, 6, 7]]), targets=tensor([[   6,    7, -100]]))
    """
    rows = rows.long()
    # Padding stands after every real token, where causal attention never looks back
    # from: any valid id will do there, and its own target is ignored.
    return Batch(rows[:, :-1].clamp(min=0), rows[:, 1:].contiguous())


def check_predictable(tokens: Integer[Tensor, "..."]) -> None:
    """Refuse tokens of which none can be predicted from one before it.

    Raises:
        ValueError: fewer than two tokens.
    """
    n = tokens.shape[-1]
    if tokens.ndim == 2:  # the longest story
        n = max((tokens != IGNORE).sum(-1).tolist(), default=0)
    if n < 2:
        raise ValueError(
            f"expected at least 2 tokens to validate on, got {n}: bring more text"
        )


class Windows:
    """Endless random windows of running text, every start index equally likely.

    Raises:
        ValueError: the text is shorter than one window and its next token.
    """

    def __init__(
        self,
        tokens: Integer[Tensor, " N"],
        *,
        context_length: int,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        if len(tokens) <= context_length:
            raise ValueError(
                f"expected more than context_length = {context_length} tokens of "
                f"text, got {len(tokens)}: bring more text or shorten the context"
            )
        self.tokens = tokens
        self.batch_size = batch_size
        self.offsets = torch.arange(context_length + 1)
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> "Windows":
        return self

    def __next__(self) -> Batch:
        starts = torch.randint(
            len(self.tokens) - len(self.offsets) + 1,
            (self.batch_size, 1),
            generator=self.generator,
        )
        return shift(self.tokens[starts + self.offsets])  # (B, T + 1) in one gather

    def state(self) -> dict[str, Tensor]:
        """Where the stream stands."""
        return {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to where `state` was taken."""
        self.generator.set_state(state["generator"])


class Stories:
    """Endless shuffled passes over padded rows, one story to a window.

    Raises:
        ValueError: no row, or one longer than the context and the token after it.
    """

    def __init__(
        self,
        rows: Integer[Tensor, "N L"],
        *,
        context_length: int,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        if not len(rows):
            raise ValueError("expected at least one story, got none: bring more text")
        if rows.shape[1] > context_length + 1:
            raise ValueError(
                f"expected stories of at most {context_length + 1} tokens "
                f"(context_length and one more), got {rows.shape[1]}: lengthen the "
                f"context"
            )
        self.rows = rows
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.long)

    def __iter__(self) -> "Stories":
        return self

    def __next__(self) -> Batch:
        while len(self.order) < self.batch_size:
            fresh = torch.randperm(len(self.rows), generator=self.generator)
            self.order = torch.cat((self.order, fresh))
        chosen, self.order = self.order.tensor_split([self.batch_size])
        return shift(self.rows[chosen])

    def state(self) -> dict[str, Tensor]:
        """Where the stream stands: the generator, and what is left of this pass."""
        return {"generator": self.generator.get_state(), "order": self.order.clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to where `state` was taken."""
        self.generator.set_state(state["generator"])
        self.order = state["order"].clone()


Batches = Windows | Stories


def make_batches(
    tokens: Integer[Tensor, "..."],
    *,
    context_length: int,
    batch_size: int,
    seed: int = 0,
) -> Batches:
    """Windows of running text (N,), or whole stories (N, L)."""
    kind = Windows if tokens.ndim == 1 else Stories
    return kind(tokens, context_length=context_length, batch_size=batch_size, seed=seed)
