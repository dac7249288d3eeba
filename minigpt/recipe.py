"""Chapter 5. The recipe of a run: how long, how fast, by which rule, in which format.

One frozen object holds all that a run's numbers depend on besides model and text. It is
checked when it is made, saved with the run, and compared when the run goes on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Integer
from torch import Tensor
from torch.optim import Optimizer

from minigpt.attention import Kernel
from minigpt.hardware import Hardware, choose
from minigpt.model import GPT, GPTConfig
from minigpt.optim import (
    SHAPES,
    Shape,
    Together,
    adafactor,
    adamw,
    muon_and_adamw,
    rate,
)
from minigpt.plan import require_training_memory

Method = Literal["muon", "adamw", "adafactor"]
METHODS: tuple[Method, ...] = get_args(Method)
RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (
        "steps batch_size micro_batch_size eval_every patience",
        lambda x: x >= 1,
        "at least 1",
    ),
    ("learning_rate muon_learning_rate clip", lambda x: x > 0, "above 0"),
    ("warmup weight_decay", lambda x: x >= 0, "at least 0"),
    ("cooldown floor", lambda x: 0 <= x <= 1, "in [0, 1]"),
    ("beta1 beta2", lambda x: 0 <= x < 1, "in [0, 1)"),
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that a run's numbers depend on, besides model and text.

    The defaults suit models of about a million weights. A larger one wants smaller
    rates: 6e-4 with optimizer="adamw", schedule="cosine" is usual at GPT-2's size.

    Attributes:
        steps: optimiser steps in all.
        batch_size: windows, or stories, per step.
        micro_batch_size: windows held in memory at once; their gradients add up to
            the whole batch's. All of them unless given.
        optimizer: muon (for the matrices of the blocks, AdamW for the rest), adamw, or
            adafactor, which keeps almost no state and knows neither beta1 nor beta2.
        learning_rate: AdamW's or Adafactor's peak rate.
        muon_learning_rate: Muon's peak rate.
        weight_decay: decay per step, times the rate; on matrices only, not Muon's.
        beta1: AdamW's memory of the gradient, in [0, 1).
        beta2: AdamW's memory of its square, in [0, 1).
        schedule: cosine, linear, constant, or wsd (warm-up, stable, decay).
        warmup: steps until the peak rate.
        cooldown: share of the run over which wsd decays.
        floor: final rate, as a share of the peak.
        clip: largest norm of the gradient.
        eval_every: steps between two validations, each followed by a save.
        patience: validations without a better one after which the run stops.
        seed: of the first weights and of the batches.
        device: auto, cuda, mps or cpu.
        precision: auto, float32, bfloat16 or float16.
        attention: kernel of every layer; auto takes the faster for each length.
        compile: compile the step with torch.compile.
        recompute: make the insides of each block again in the backward pass instead of
            keeping them: less memory, more arithmetic, the same numbers.

    Raises:
        ValueError: a value outside its range.
    """

    steps: int = 2000
    batch_size: int = 16
    micro_batch_size: int | None = None
    optimizer: Method = "muon"
    learning_rate: float = 4e-3
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    schedule: Shape = "wsd"
    warmup: int = 50
    cooldown: float = 0.5
    floor: float = 0.0
    clip: float = 1.0
    eval_every: int = 250
    patience: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    attention: Kernel = "auto"
    compile: bool = False
    recompute: bool = False

    def __post_init__(self) -> None:
        for names, allowed, rule in RANGES:
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not allowed(value):
                    raise ValueError(f"{name} must be {rule}, got {value}")
        if self.optimizer not in METHODS:
            raise ValueError(
                f"optimizer must be one of {', '.join(METHODS)}, got {self.optimizer!r}"
            )
        if self.schedule not in SHAPES:
            raise ValueError(
                f"schedule must be one of {', '.join(SHAPES)}, got {self.schedule!r}"
            )

    def hardware(self) -> Hardware:
        """What this run computes on.

        Raises:
            ValueError: as `choose`.
        """
        return choose(
            self.device,
            self.precision,
            attention=self.attention,
            compile=self.compile,
        )

    def rate(self, step: int) -> float:
        """The schedule's multiplier at a step counted from 0."""
        return rate(
            step,
            self.steps,
            shape=self.schedule,
            warmup=self.warmup,
            cooldown=self.cooldown,
            floor=self.floor,
        )


DEFAULTS = TrainConfig()


def foresee(
    shape: GPTConfig,
    config: TrainConfig,
    train: Integer[Tensor, "..."],
    *,
    held: int = 0,
) -> None:
    """Refuse a run that would end in a device without memory, before it starts.

    It counts one process, less the bytes that are `held` on the device already; what
    each of several needs, `minigpt plan` says.

    Raises:
        MemoryError: more than is free; it says what would fit.
    """
    windows = min(config.micro_batch_size or config.batch_size, config.batch_size)
    if train.ndim == 2:  # stories may be shorter than the context
        windows = math.ceil(windows * train.shape[1] / shape.context_length)
    require_training_memory(
        shape,
        batch_size=windows,
        hardware=config.hardware(),
        optimizer=config.optimizer,
        recompute=config.recompute,
        held=held,
    )


def make_optimizer(model: GPT, config: TrainConfig = DEFAULTS) -> Optimizer | Together:
    """The optimiser that a configuration asks for."""
    betas = (config.beta1, config.beta2)
    if config.optimizer == "adamw":
        return adamw(
            model.parameters(),
            lr=config.learning_rate,
            betas=betas,
            weight_decay=config.weight_decay,
        )
    if config.optimizer == "adafactor":
        return adafactor(
            model.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
    return muon_and_adamw(
        model,
        muon_lr=config.muon_learning_rate,
        lr=config.learning_rate,
        betas=betas,
        weight_decay=config.weight_decay,
        dtype=config.hardware().dtype,
    )


def parts(optimizer: Optimizer | Together) -> tuple[Optimizer, ...]:
    """The optimisers that make up one."""
    return optimizer.optimizers if isinstance(optimizer, Together) else (optimizer,)
