"""Chapter 5. Optimisers and schedules: how far each weight moves, and which way.

AdamW (Loshchilov and Hutter, 2019) divides a running mean of the gradient by the root
of a running mean of its square, and shrinks the weight besides:

    m ← β₁ m + (1 − β₁) g          v ← β₂ v + (1 − β₂) g²
    w ← w − η λ w − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)

Muon (Jordan et al., 2024) treats a hidden matrix as a matrix: it replaces the update
U S Vᵀ by U Vᵀ, nearly, so that every direction moves equally far. Embeddings, norms
and biases are no such matrices and stay with AdamW.

Adafactor (Shazeer and Stern, 2018) saves memory. AdamW keeps two numbers for each
weight; Adafactor drops m, and of the v of an (R, K) matrix it keeps only the means of
the rows and of the columns, R + K numbers, and takes v ≈ row · column / mean(row).

A schedule is a number in [0, 1] that multiplies η at each step.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

Shape = Literal["cosine", "linear", "constant", "wsd"]
SHAPES: tuple[Shape, ...] = ("cosine", "linear", "constant", "wsd")

# The odd polynomial a x + b x³ + c x⁵ of Muon's authors: applied five times it brings
# every singular value in (0, 1] to somewhere near 1.
QUINTIC = (3.4445, -4.7750, 2.0315)


def rate(
    step: int,
    steps: int,
    *,
    shape: str = "cosine",
    warmup: int = 0,
    cooldown: float = 0.5,
    floor: float = 0.0,
) -> float:
    """The schedule's multiplier at `step`, counted from 0, of `steps`.

    After a linear warm-up it falls to `floor` along half a cosine or a line, stays
    constant, or ("wsd": warm-up, stable, decay) stays and falls along a line over the
    last `cooldown` of the steps.

    >>> [rate(s, 4, shape="wsd") for s in range(4)]
    [1.0, 1.0, 1.0, 0.5]

    Raises:
        ValueError: an unknown shape.
    """
    if shape not in SHAPES:
        raise ValueError(f"expected a schedule {', '.join(SHAPES)}, got {shape!r}")
    if step < warmup:
        # The first step already moves: (0 + 1) / warmup.
        return (step + 1) / warmup
    left = 1 - (step - warmup) / max(1, steps - warmup)
    height = {
        "cosine": 0.5 * (1 - math.cos(math.pi * left)),
        "linear": left,
        "constant": 1.0,
        "wsd": min(1.0, left / cooldown) if cooldown else 1.0,
    }[shape]
    return height if shape == "constant" else floor + (1 - floor) * height


def parameter_groups(
    parameters: Iterable[nn.Parameter], *, weight_decay: float
) -> list[dict[str, Any]]:
    """Two groups: matrices, which decay, and vectors (biases, norms), which do not.

    Decay pulls towards 0, where a matrix passes less on; a norm's gain pulled to 0
    would silence its whole channel.
    """
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class AdamW(Optimizer):
    """The two running means as they stand above; `torch.optim.AdamW` to the last step.

    The trainer takes torch's own, which does the same in one fused kernel.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | list[dict[str, Any]],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._move(w, w.grad, group)

    def _move(self, w: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        state = self.state[w]
        if not state:
            state.update(step=0, m=torch.zeros_like(w), v=torch.zeros_like(w))
        state["step"] += 1
        m, v, t = state["m"], state["v"], state["step"]
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        # Both means start at 0; dividing by 1 − βᵗ takes that start out again.
        root = (v / (1 - beta2**t)).sqrt_().add_(group["eps"])
        w.mul_(1 - lr * group["weight_decay"])
        w.addcdiv_(m, root, value=-lr / (1 - beta1**t))


def orthogonalise(
    updates: Float[Tensor, "N R K"],
    *,
    iterations: int = 5,
    dtype: torch.dtype = torch.bfloat16,
) -> Float[Tensor, "N R K"]:
    """Bring every singular value of every matrix near 1 (Newton–Schulz iteration)."""
    a, b, c = QUINTIC
    x = updates.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    # The norm of all entries bounds the largest singular value, so x starts in (0, 1].
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).to(updates.dtype)


class Muon(Optimizer):
    """Momentum, orthogonalised, for hidden matrices; `torch.optim.Muon` but batched.

    Matrices of one shape go through the iteration together. A parameter in a group
    with `parts=3` (queries, keys and values in one projection) counts as three, since
    each of them is a map of its own.

    Raises:
        ValueError: a parameter that is no matrix, or rows that do not split.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | list[dict[str, Any]],
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        iterations: int = 5,
        dtype: torch.dtype = torch.bfloat16,
        parts: int = 1,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "parts": parts,
        }
        super().__init__(params, defaults)
        self.iterations = iterations
        self.dtype = dtype
        for group in self.param_groups:
            for w in group["params"]:
                if w.ndim != 2 or w.shape[0] % group["parts"]:
                    raise ValueError(
                        f"expected matrices whose rows divide by {group['parts']}, "
                        f"got shape {tuple(w.shape)}: leave it to AdamW"
                    )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            # Same-shape matrices share one batched product: many small ones would
            # leave most of the machine idle.
            by_shape: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for w in group["params"]:
                if w.grad is not None:
                    by_shape[tuple(w.shape)].append(w)
            for same in by_shape.values():
                self._move(same, group)

    def _move(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        rows, columns = weights[0].shape
        piece = rows // group["parts"]
        updates = torch.stack([self._momentum(w, group["momentum"]) for w in weights])
        moves = orthogonalise(
            updates.view(-1, piece, columns),
            iterations=self.iterations,
            dtype=self.dtype,
        ).view(-1, rows, columns)
        lr = group["lr"]
        scale = lr * math.sqrt(max(1, piece / columns))
        for w, move in zip(weights, moves, strict=True):
            w.mul_(1 - lr * group["weight_decay"]).add_(move, alpha=-scale)

    def _momentum(self, w: nn.Parameter, beta: float) -> Tensor:
        g = cast(Tensor, w.grad)
        state = self.state[w]
        if not state:
            state["momentum"] = torch.zeros_like(g)
        state["momentum"].lerp_(g, 1 - beta)
        return g.lerp(state["momentum"], beta)  # Nesterov: look one step ahead


class Together:
    """Several optimisers, each with parameters of its own, stepped as one."""

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all of them."""
        return [group for one in self.optimizers for group in one.param_groups]

    def step(self) -> None:
        """One step of each."""
        for one in self.optimizers:
            one.step()

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for one in self.optimizers:
            one.zero_grad(set_to_none=True)


def muon_and_adamw(
    model: nn.Module,
    *,
    muon_lr: float = 0.02,
    lr: float = 4e-3,
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.1,
    dtype: torch.dtype = torch.bfloat16,
) -> Together:
    """Muon for the matrices inside the blocks, AdamW for everything else."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = {n: p for n, p in named if n.startswith("blocks.") and p.ndim == 2}
    rest = [p for name, p in named if name not in hidden]
    projections = [p for name, p in hidden.items() if ".qkv." in name]
    others = [p for name, p in hidden.items() if ".qkv." not in name]
    groups = [{"params": projections, "parts": 3}, {"params": others, "parts": 1}]
    return Together(
        Muon(groups, lr=muon_lr, weight_decay=0.0, dtype=dtype),
        adamw(rest, lr=lr, betas=betas, weight_decay=weight_decay),
    )


def adafactor(
    parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float
) -> Optimizer:
    """torch's Adafactor over `parameter_groups`.

    The rate is relative: a weight moves by that share of the root mean square of its
    matrix, and by no more than 1/√t at step t (Algorithm 4 there).
    """
    groups = parameter_groups(parameters, weight_decay=weight_decay)
    return torch.optim.Adafactor(groups, lr=lr)


def adamw(
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> Optimizer:
    """torch's AdamW over `parameter_groups`, fused into one kernel."""
    groups = parameter_groups(parameters, weight_decay=weight_decay)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
