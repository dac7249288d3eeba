"""Chapter 5. A run: what is asked of it, what it leaves behind, how it goes on.

A run's folder holds `last/` to resume from, `best/` to use, and `run.json` to read.
`last/` is a saved model and, beside it, the optimiser, the random generators, the place
in the data and the record of every step: all that the next step depends on.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Integer
from torch import Tensor
from torch.optim import Optimizer

from minigpt.checkpoint import (
    Format,
    load_folder,
    optimizer_tensors,
    random_tensors,
    restore_optimizers,
    restore_random,
    save_pretrained,
)
from minigpt.data import Batches, check_predictable, make_batches
from minigpt.foreign import huggingface_config
from minigpt.hardware import choose
from minigpt.model import GPT
from minigpt.optim import SHAPES, Shape, Together, adamw, muon_and_adamw, rate
from minigpt.storage import (
    read_json,
    read_tensors,
    recovered,
    replacing_folder,
    write_json,
    write_tensors,
)
from minigpt.tokenizer import Tokenizer

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
        optimizer: muon (for the matrices of the blocks, AdamW for the rest) or adamw.
        learning_rate: AdamW's peak rate.
        muon_learning_rate: Muon's peak rate.
        weight_decay: AdamW's decay per step, times the rate; on matrices only.
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
        compile: compile the step with torch.compile.

    Raises:
        ValueError: a value outside its range.
    """

    steps: int = 2000
    batch_size: int = 16
    micro_batch_size: int | None = None
    optimizer: Literal["muon", "adamw"] = "muon"
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
    compile: bool = False

    def __post_init__(self) -> None:
        for names, allowed, rule in RANGES:
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not allowed(value):
                    raise ValueError(f"{name} must be {rule}, got {value}")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(
                f'optimizer must be "muon" or "adamw", got {self.optimizer!r}'
            )
        if self.schedule not in SHAPES:
            raise ValueError(
                f"schedule must be one of {', '.join(SHAPES)}, got {self.schedule!r}"
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


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What one step did: `step` counts from 1, losses are nats per token."""

    step: int
    loss: float
    rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    validation_loss: float | None = None


Callback = Callable[[StepRecord], bool | None]


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
    return muon_and_adamw(
        model,
        muon_lr=config.muon_learning_rate,
        lr=config.learning_rate,
        betas=betas,
        weight_decay=config.weight_decay,
        dtype=choose(config.device, config.precision).dtype,
    )


def parts(optimizer: Optimizer | Together) -> tuple[Optimizer, ...]:
    """The optimisers that make up one."""
    return optimizer.optimizers if isinstance(optimizer, Together) else (optimizer,)


class Run:
    """A run and its folder: `last/` to resume from, `best/` to use, `run.json` to read.

    Raises:
        ValueError: the folder holds another model or another run.
    """

    def __init__(
        self,
        model: GPT,
        train: Integer[Tensor, "..."],
        val: Integer[Tensor, "..."],
        config: TrainConfig,
        tokenizer: Tokenizer | None,
        out: Path | None,
    ) -> None:
        check_predictable(val)
        self.model, self.config = model, config
        self.tokenizer, self.out = tokenizer, out
        self.hardware = choose(config.device, config.precision, compile=config.compile)
        self.hardware.place(model)
        self.optimizer = make_optimizer(model, config)
        self.batches: Batches = make_batches(
            train,
            context_length=model.config.context_length,
            batch_size=config.batch_size,
            seed=config.seed,
        )
        self.records: list[StepRecord] = []
        digest = hashlib.sha256()
        for tokens in (train, val):
            digest.update(tokens.contiguous().numpy().tobytes())
        self.identity: dict[str, Any] = {
            "model": asdict(model.config),
            "data": digest.hexdigest(),
            "training": asdict(config),
        }

    @property
    def best(self) -> float:
        """The lowest validation loss so far; infinite before the first."""
        losses = [r.validation_loss for r in self.records]
        return min((x for x in losses if x is not None), default=math.inf)

    @property
    def stale(self) -> bool:
        """Whether `patience` validations have passed without a better one."""
        losses = [r.validation_loss for r in self.records]
        seen = [x for x in losses if x is not None]
        patience = self.config.patience
        return patience is not None and self.best not in seen[-patience:] and bool(seen)

    def due(self, step: int) -> bool:
        """Whether this step is followed by a validation and a save."""
        return step % self.config.eval_every == 0 or step == self.config.steps

    def resume(self, *, allowed: bool = True) -> None:
        """Go back to where the folder's `last/` stands, if there is one.

        Raises:
            ValueError: the folder holds another run, or any while none is allowed.
        """
        if self.out is None:
            return
        last = recovered(self.out / "last")
        foreign = [n for n in ("config.json", "best") if (self.out / n).exists()]
        if not last.exists() and not foreign:
            self._make_folder(self.out)
            return
        if not allowed or not (last / "training.json").is_file():
            raise ValueError(
                f"expected a folder without a model for a new run, got {self.out} with "
                f"{'last' if last.exists() else foreign[0]} in it: choose another "
                f"folder"
            )
        found = read_json(last / "training.json")
        self._check(found)
        tensors = read_tensors(last / "training.safetensors")
        self.model.load_state_dict(load_folder(last).model.state_dict())
        restore_optimizers(parts(self.optimizer), tensors)
        place = {k.removeprefix("data."): v for k, v in tensors.items()}
        self.batches.restore(place)
        restore_random(tensors)
        self.records = [StepRecord(**record) for record in found["records"]]

    def _make_folder(self, out: Path) -> None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            probe = out / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OSError(
                f"expected a folder to write to, got {out} ({error.strerror}): choose "
                f"another folder"
            ) from None

    def _check(self, found: dict[str, Any]) -> None:
        """Refuse to go on from a run that was another one."""
        # These change no weight, so a run may go on under other ones.
        free = {"device", "compile", "eval_every", "patience"}
        for part, mine in self.identity.items():
            theirs = found.get(part)
            if part == "data":
                mine, theirs = {"the text": mine[:8]}, {"the text": str(theirs)[:8]}
            for name, value in mine.items():
                there = None if theirs is None else theirs.get(name)
                if name not in free and there != value:
                    raise ValueError(
                        f"expected {self.out} to hold this run, got another one "
                        f"({name} is {there} there, {value} here): choose another "
                        f"folder, or delete that one"
                    )

    def save(self) -> None:
        """Write `last/`, `best/` if this is the best so far, and `run.json`."""
        if self.out is None:
            return
        records = [asdict(record) for record in self.records]
        tensors = {f"data.{k}": v for k, v in self.batches.state().items()}
        tensors |= optimizer_tensors(parts(self.optimizer)) | random_tensors()
        with replacing_folder(self.out / "last") as folder:
            self._save_model(folder)
            write_tensors(folder / "training.safetensors", tensors)
            write_json(folder / "training.json", {**self.identity, "records": records})
        if self.records and self.records[-1].validation_loss == self.best:
            with replacing_folder(self.out / "best") as folder:
                self._save_model(folder)
        write_json(self.out / "run.json", self.record())

    def _save_model(self, folder: Path) -> None:
        form: Format = "huggingface"
        try:
            huggingface_config(self.model.config)
        except ValueError:
            form = "minigpt"
        save_pretrained(self.model, self.tokenizer, folder, format=form)

    def record(self) -> dict[str, Any]:
        """All of the run in one JSON object: what, on what, and what came of it."""
        return {
            **self.identity,
            "hardware": self.hardware.describe(),
            "torch": torch.__version__,
            "parameters": self.model.config.n_parameters,
            "best": self.best if math.isfinite(self.best) else None,
            "seconds": sum(record.seconds for record in self.records),
            "steps": [asdict(record) for record in self.records],
        }
