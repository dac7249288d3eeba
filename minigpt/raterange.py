"""Chapter 5. The rate-range test: which learning rates teach, and which destroy.

A short run whose rate grows from step to step by the same factor (Smith, 2017). Below
some rate the loss stands still, then it falls, the faster the better the rate, and at
last it blows up. On a bowl of curvature h, gradient descent does so at the rate 2 / h.

The test costs a hundred steps, leaves the model as it was, and says where to look; a
rate is chosen by runs that are compared at their end.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minigpt.checkpoint import random_tensors, restore_random
from minigpt.data import Batch, Stories, Windows
from minigpt.model import GPT
from minigpt.recipe import DEFAULTS, TrainConfig, make_optimizer
from minigpt.train import Diverged, training_steps

# Where the loss is this many times its first, there is nothing more to see.
HOPELESS = 2.0


def rate_range(
    model: GPT,
    batches: Iterable[Batch],
    config: TrainConfig = DEFAULTS,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
) -> list[tuple[float, float]]:
    """Rates from `lowest` to `highest`, and the loss after a step at each of them.

    The rate is `learning_rate`; Muon's moves in proportion. It ends early where the
    loss blows up, infinite where it is no number any more. Weights, random numbers and
    the place in the batches are then as they were before.

    Raises:
        ValueError: rates that do not grow, or fewer than two steps.
    """
    if not 0 < lowest < highest or steps < 2:
        raise ValueError(
            f"expected rates 0 < lowest < highest and at least 2 steps, got "
            f"{lowest:g}, {highest:g} and {steps}"
        )
    before = {name: w.clone() for name, w in model.state_dict().items()}
    was_training, random = model.training, random_tensors()
    stream = batches if isinstance(batches, (Windows, Stories)) else None
    place = stream.state() if stream else {}
    rates = np.geomspace(lowest, highest, steps).tolist()
    try:
        return _climb(model, batches, config, rates)
    finally:
        model.load_state_dict(before)
        model.zero_grad(set_to_none=True)
        model.train(was_training)
        restore_random(random)
        if stream:
            stream.restore(place)


def _climb(
    model: GPT, batches: Iterable[Batch], config: TrainConfig, rates: Sequence[float]
) -> list[tuple[float, float]]:
    # One step more than rates: a step's own loss is from before it moved the weights.
    flat = replace(config, steps=len(rates) + 1, schedule="constant", warmup=0)
    optimizer = make_optimizer(model, flat)
    asked = [group["lr"] / config.learning_rate for group in optimizer.param_groups]
    curve: list[tuple[float, float]] = []

    def set_rate(rate: float) -> None:
        for group, share in zip(optimizer.param_groups, asked, strict=True):
            group["initial_lr"] = rate * share

    set_rate(rates[0])
    try:
        for record in training_steps(model, batches, flat, optimizer=optimizer):
            moved = record.step - 1
            if moved:
                curve.append((rates[moved - 1], record.loss))
                if record.loss > HOPELESS * curve[0][1]:
                    break
            set_rate(rates[min(moved + 1, len(rates) - 1)])
    except Diverged:
        curve.append((rates[len(curve)], math.inf))
    return curve


class RateRange(NamedTuple):
    """What a curve of rates and losses shows.

    `steepest` is the rate at which the loss fell fastest per decade, `lowest` the one
    at which it was lowest, and `blow_up` the first one above at which it was back to
    where it had started; None if it never was.
    """

    steepest: float
    lowest: float
    blow_up: float | None


def read_range(
    curve: Sequence[tuple[float, float]], *, smoothing: int = 5
) -> RateRange:
    """Where the loss of a rate-range test falls fastest, is lowest and blows up.

    Each loss is first replaced by the mean of `smoothing` neighbours, an odd number:
    every one is of another batch.

    Raises:
        ValueError: too few points, or an even number of neighbours.
    """
    finite = [(rate, loss) for rate, loss in curve if math.isfinite(loss)]
    if smoothing % 2 == 0 or len(finite) < smoothing + 2:
        raise ValueError(
            f"expected an odd number of neighbours and at least {smoothing + 2} "
            f"finite losses, got {smoothing} and {len(finite)}: take more steps, or "
            f"start lower"
        )
    half = smoothing // 2
    rates = np.array([rate for rate, _ in finite])
    losses = np.array([loss for _, loss in finite])
    # At the ends the window shrinks, so that it stays centred on its rate.
    near = [min(half, i, len(losses) - 1 - i) for i in range(len(losses))]
    smooth = np.array([losses[i - k : i + k + 1].mean() for i, k in enumerate(near)])
    slopes = np.gradient(smooth, np.log10(rates))
    bottom = int(smooth.argmin())
    back = [
        i for i in range(bottom, len(smooth)) if smooth[i] >= smooth[: half + 1].max()
    ]
    diverged = [rate for rate, loss in curve if not math.isfinite(loss)]
    above = [rates[back[0]]] if back else diverged
    return RateRange(
        steepest=float(rates[slopes[: bottom + 1].argmin()]),
        lowest=float(rates[bottom]),
        blow_up=float(above[0]) if above else None,
    )
