"""Chapter 6. Sampling: how one token is chosen from the logits.

A sampler maps logits (B, V) and the tokens so far (B, S) to logits, so that samplers
compose: `Temperature(0.8) | TopK(40)` divides, then cuts. A token that a sampler rules
out gets −∞, and after the last sampler comes one draw from softmax(logits).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Logits of the next token and the tokens so far in; changed logits out.
Sampler = Callable[[Tensor, Tensor], Tensor]
Generators = torch.Generator | Sequence[torch.Generator] | None


class _Composable:
    """`a | b` applies a, then b."""

    def __or__(self, other: Sampler) -> "Chain":
        return Chain((self, other))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Chain(_Composable):
    """Samplers applied one after another, the first one first."""

    samplers: tuple[Sampler, ...]

    def __call__(
        self, logits: Float[Tensor, "B V"], tokens: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B V"]:
        for sampler in self.samplers:
            logits = sampler(logits, tokens)
        return logits


@dataclass(frozen=True)
class Greedy(_Composable):
    """Only the likeliest token stays (the first of equals), so nothing is random."""

    def __call__(
        self, logits: Float[Tensor, "B V"], tokens: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B V"]:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)


@dataclass(frozen=True)
class Temperature(_Composable):
    """Divide the logits by t: below 1 surer, above 1 bolder.

    Raises:
        ValueError: a temperature below 1e-6, or one that is no number.
    """

    t: float

    def __post_init__(self) -> None:
        # Divided by less, a logit could pass the largest number that float32 holds.
        if not 1e-6 <= self.t < float("inf"):
            raise ValueError(
                f"expected a temperature above 0 (1e-6 at least), got {self.t}: for no "
                f"randomness at all choose Greedy()"
            )

    def __call__(
        self, logits: Float[Tensor, "B V"], tokens: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B V"]:
        return logits / self.t


@dataclass(frozen=True)
class TopK(_Composable):
    """Keep the k likeliest tokens, and any that equal the k-th.

    Raises:
        ValueError: k below 1.
    """

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(
                f"expected top-k to keep at least 1 token, got {self.k}: give a number "
                f"of tokens, or choose TopP for a probability"
            )

    def __call__(
        self, logits: Float[Tensor, "B V"], tokens: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B V"]:
        kth = logits.topk(min(self.k, logits.shape[-1])).values[:, -1:]
        return logits.masked_fill(logits < kth, -torch.inf)


@dataclass(frozen=True)
class TopP(_Composable):
    """Keep the fewest likeliest tokens that hold probability p (Holtzman et al., 2020).

    Raises:
        ValueError: p outside (0, 1].
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError(
                f"expected top-p to hold a probability in (0, 1], got {self.p}: give a "
                f"share such as 0.9, or choose TopK for a number of tokens"
            )

    def __call__(
        self, logits: Float[Tensor, "B V"], tokens: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B V"]:
        ordered, order = logits.sort(descending=True, stable=True)
        probabilities = ordered.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        # A token goes once those before it hold p already: the first always stays.
        gone = torch.zeros_like(before, dtype=torch.bool)
        gone = gone.scatter(-1, order, (before >= self.p) & (before > 0))
        return logits.masked_fill(gone, -torch.inf)


@dataclass(frozen=True)
class RepetitionPenalty(_Composable):
    """Make tokens that occurred less likely: positive logits / r, negative ones · r.

    The rule of Keskar et al. (2019, §4.1), which published r = 1.2.

    Raises:
        ValueError: r that is not a positive number.
    """

    r: float = 1.2

    def __post_init__(self) -> None:
        if not 0 < self.r < float("inf"):
            raise ValueError(
                f"expected a repetition penalty above 0, got {self.r}: 1 changes "
                f"nothing, and above 1 what occurred becomes less likely"
            )

    def __call__(
        self, logits: Float[Tensor, "B V"], tokens: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B V"]:
        seen = logits.gather(-1, tokens)
        return logits.scatter(
            -1, tokens, torch.where(seen > 0, seen / self.r, seen * self.r)
        )


def draw(
    logits: Float[Tensor, "B V"], generator: Generators = None
) -> Int[Tensor, " B"]:
    """One token for each row, with the probabilities softmax(logits).

    One uniform number u for a row: the answer is the first token at which the
    probabilities, added up, pass u. A generator for each row makes the rows
    independent of each other.

    Raises:
        ValueError: no token is possible.
    """
    # On the CPU, so that a seed draws the same u whatever device the model is on.
    if generator is None or isinstance(generator, torch.Generator):
        device = "cpu" if generator is None else generator.device
        u = torch.rand(
            len(logits), dtype=torch.float64, generator=generator, device=device
        )
    else:
        u = torch.stack(
            [torch.rand((), dtype=torch.float64, generator=g) for g in generator]
        )
    # Apple's GPU has no float64.
    precise = torch.float32 if logits.device.type == "mps" else torch.float64
    total = logits.softmax(-1, dtype=precise).cumsum(-1)
    end = total[:, -1:]
    if end.isnan().any():
        raise ValueError(
            "expected a chance for at least one token, got none (or nan): the samplers "
            "ruled every token out, or the model's weights are no numbers"
        )
    picks = torch.searchsorted(total, u.to(total)[:, None] * end, right=True)
    # u · end may round up to the end itself: the last possible token, not one after it.
    return picks.minimum((total < end).sum(-1, keepdim=True))[:, 0]
