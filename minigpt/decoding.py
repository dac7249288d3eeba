"""Chapter 6. Decoding: the loop that reads, chooses and appends, row by row.

With a key–value cache each token is read once. Past the model's context, with a cache
or without, the last half of what was seen is kept and read again as a new text, so
that both give the same tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minigpt import replay
from minigpt.hardware import require_memory
from minigpt.model import GPT
from minigpt.plan import cache_bytes
from minigpt.sampling import Generators, Greedy, Sampler, draw

Padding = Literal["left", "right"]


@contextmanager
def reading(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside; every module's mode as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def padded(
    rows: Sequence[Tensor], padding: Padding
) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"] | None]:
    """Rows of unequal length as one tensor, and a mask that is True at real tokens.

    Padding repeats the row's own first token, so that a sampler which asks what has
    occurred is told nothing false. Equal rows need no mask.
    """
    width = max(len(row) for row in rows)
    if all(len(row) == width for row in rows):
        return torch.stack(list(rows)), None
    tokens = torch.stack([row[:1].expand(width) for row in rows]).clone()
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for i, row in enumerate(rows):
        at = slice(width - len(row), None) if padding == "left" else slice(len(row))
        tokens[i, at] = row
        mask[i, at] = True
    return tokens, mask


class Window:
    """What the model sees of each row: at most its context, read once with a cache."""

    def __init__(
        self,
        model: GPT,
        rows: Sequence[Tensor],
        max_new_tokens: int,
        *,
        use_cache: bool,
        padding: Padding = "left",
    ) -> None:
        self.model = model
        self.padding = padding
        self.tokens, self.mask = padded(rows, padding)
        longest = self.tokens.shape[1] + max_new_tokens
        capacity = min(longest, model.config.context_length)
        self.cache = None
        if use_cache:
            _foresee(model, len(rows), capacity)
            self.cache = model.new_cache(len(rows), capacity)
        # As long as no row leaves, a GPU takes a step that it has recorded.
        here = self.tokens.device.type in replay.DEVICES
        self._recording = here and use_cache and max_new_tokens >= replay.WORTH
        self._replay: replay.Replay | None = None

    def logits(self) -> Float[Tensor, "B V"]:
        """Of the token after each row's last; the head runs on that one row only."""
        past = 0 if self.cache is None else self.cache.length
        new = self.tokens[:, past:]
        if self._recording and self.cache is not None and past and new.shape[1] == 1:
            if self._replay is None:
                self._replay = replay.Replay(self.model, self.cache)
            return _wide(self._replay.logits(new, self.mask))
        hidden = self.model.hidden(new, mask=self.mask, cache=self.cache)
        if self.mask is None:
            last = hidden[:, -1:]
        else:
            columns = torch.arange(self.mask.shape[1], device=new.device)
            at = (self.mask * columns).argmax(-1) - past
            last = hidden[torch.arange(len(new), device=new.device), at][:, None]
        return _wide(self.model.unembed(last)[:, 0])

    def append(self, picks: Int[Tensor, " B"]) -> None:
        """One more token for each row; where the context is full, start anew."""
        context = self.model.config.context_length
        if self.tokens.shape[1] < context:
            self.tokens = torch.cat([self.tokens, picks[:, None]], dim=1)
            if self.mask is not None:
                real = torch.ones_like(self.mask[:, :1])
                self.mask = torch.cat([self.mask, real], dim=1)
            return
        rows = []
        for i, tokens in enumerate(self.tokens):
            real_tokens = tokens if self.mask is None else tokens[self.mask[i]]
            row = torch.cat([real_tokens, picks[i : i + 1]])
            rows.append(row if len(row) <= context else row[-max(1, context // 2) :])
        self.tokens, self.mask = padded(rows, self.padding)
        if self.cache is not None:
            self.cache.reset()

    def select(self, keep: Int[Tensor, " K"]) -> None:
        """Go on with these rows only."""
        self._recording, self._replay = False, None
        self.tokens = self.tokens[keep]
        self.mask = None if self.mask is None else self.mask[keep]
        if self.cache is not None:
            self.cache.select(keep)


def _wide(logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
    """Half precision is enough to compute logits in, not to add up probabilities."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _foresee(model: GPT, n_rows: int, capacity: int) -> None:
    weight = model.token_embedding.weight
    need = cache_bytes(
        model.config,
        batch_size=n_rows,
        capacity=capacity,
        width=weight.dtype.itemsize,
    )
    require_memory(
        need,
        f"keep keys and values of {n_rows} texts of {capacity} tokens",
        device=weight.device,
        advice="give fewer prompts at once, or ask for fewer new tokens",
    )


def checked(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop: Sequence[int] = (),
) -> list[Int[Tensor, " T"]]:
    """The prompts on the model's device, or one sentence on what is wrong with them.

    Raises:
        ValueError: no prompt, an empty or too long one, ids outside the vocabulary
            (those of `stop` too), or a negative max_new_tokens.
    """
    context, most = model.config.context_length, model.config.vocab_size - 1
    if max_new_tokens < 0:
        raise ValueError(f"expected max_new_tokens of at least 0, got {max_new_tokens}")
    if not prompts:
        raise ValueError("expected at least one prompt, got none")
    device = next(model.parameters()).device
    rows = [torch.as_tensor(row, dtype=torch.long, device=device) for row in prompts]
    for row in rows:
        if not 1 <= len(row) <= context:
            raise ValueError(
                f"expected prompts of 1 to {context} tokens (the model's "
                f"context_length), got one of {len(row)}: shorten it, or pass its end"
            )
        if not 0 <= int(row.min()) <= int(row.max()) <= most:
            raise ValueError(
                f"expected token ids from 0 to {most}, got {int(row.min())} to "
                f"{int(row.max())}: encode the prompt with the model's own tokenizer"
            )
    if not all(0 <= i <= most for i in stop):
        raise ValueError(
            f"expected tokens to stop at from 0 to {most}, got {list(stop)}: no other "
            f"is ever drawn"
        )
    return rows


def decode(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler,
    stop: Sequence[int],
    generator: Generators,
    use_cache: bool,
    padding: Padding = "left",
) -> Iterator[tuple[list[int], list[int]]]:
    """Steps: which rows still run, and the token that each of them got.

    What is wrong with the request is said at once, not at the first step.

    Raises:
        ValueError: as `checked`; a number of generators that is not that of prompts.
    """
    rows = checked(model, prompts, max_new_tokens, stop)
    if isinstance(generator, Sequence) and len(generator) != len(rows):
        raise ValueError(
            f"expected one generator for all rows or one for each of {len(rows)}, got "
            f"{len(generator)}"
        )
    window = Window(model, rows, max_new_tokens, use_cache=use_cache, padding=padding)
    return _steps(window, max_new_tokens, sampler, frozenset(stop), generator)


def _steps(
    window: Window,
    max_new_tokens: int,
    sampler: Sampler,
    stop: frozenset[int],
    generator: Generators,
) -> Iterator[tuple[list[int], list[int]]]:
    history = window.tokens
    active = list(range(len(history)))
    for step in range(max_new_tokens):
        logits = sampler(window.logits(), history)
        if isinstance(sampler, Greedy):
            chosen = logits.argmax(-1)  # leaves the random numbers alone
        else:
            chosen = draw(logits, _of_rows(generator, active))
        picks = chosen.tolist()
        yield active, picks
        going = [i for i, pick in enumerate(picks) if pick not in stop]
        if not going or step == max_new_tokens - 1:
            return
        window.append(chosen)
        history = torch.cat([history, chosen[:, None]], dim=1)
        if len(going) < len(active):
            keep = torch.tensor(going, device=chosen.device)
            window.select(keep)
            history = history[keep]
            active = [active[i] for i in going]


def _of_rows(generator: Generators, rows: Sequence[int]) -> Generators:
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    return [generator[i] for i in rows]
