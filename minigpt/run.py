"""Chapter 5. A run: what is asked of it, what it leaves behind, how it goes on.

A run's folder holds `last/` to resume from, `best/` to use, and `run.json` to read.
`last/` is a saved model and, beside it, the optimiser, the random generators, the place
in the data and the record of every step: all that the next step depends on. Where
several processes train, model and optimiser lie there in the shards of each.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor

from minigpt.alone import ALONE, Processes
from minigpt.data import Batches, check_predictable, make_batches
from minigpt.hardware import peak_flops, peak_memory
from minigpt.model import GPT
from minigpt.plan import flops_per_token
from minigpt.recipe import DEFAULTS, TrainConfig, foresee, make_optimizer, parts
from minigpt.storage import (
    read_json,
    read_tensors,
    recovered,
    write_json,
    write_tensors,
)
from minigpt.tokenizer import Tokenizer
from minigpt.tokens import token_digest

__all__ = [
    "DEFAULTS",
    "Callback",
    "Run",
    "StepRecord",
    "TrainConfig",
    "make_optimizer",
    "parts",
]


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What one step did: `step` counts from 1, losses are nats per token.

    `rate` is the schedule's multiplier, `gradient_norm` the length before clipping, and
    `tokens` the targets that counted, on all processes together.
    """

    step: int
    loss: float
    rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    validation_loss: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """Targets that counted, per second of this step."""
        return self.tokens / self.seconds if self.seconds else 0.0


Callback = Callable[[StepRecord], bool | None]


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
        processes: Processes = ALONE,
    ) -> None:
        check_predictable(val)
        self.model, self.config = model, config
        self.tokenizer, self.out = tokenizer, out
        self.processes = processes
        self.hardware = config.hardware()
        if processes.size == 1:
            here = self.hardware.device.type
            held = [w.nbytes for w in model.parameters() if w.device.type == here]
            foresee(model.config, config, train, held=sum(held))
        self.hardware.place(model)
        processes.spread(model, config)
        self.optimizer = make_optimizer(model, config)
        processes.adapt(parts(self.optimizer))
        self.scaler = self.hardware.scaler()
        self.batches: Batches = make_batches(
            train,
            context_length=model.config.context_length,
            batch_size=config.batch_size,
            seed=config.seed,
        )
        self.records: list[StepRecord] = []
        self.identity: dict[str, Any] = {
            "model": asdict(model.config),
            "data": token_digest(train, val),
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

    @cached_property
    def peak(self) -> tuple[float, bool]:
        """FLOP/s that a device could reach, and whether that is its maker's figure."""
        return peak_flops(self.hardware)

    def resume(self, *, allowed: bool = True) -> None:
        """Go back to where the folder's `last/` stands, if there is one.

        Raises:
            ValueError: the folder holds another run, or any while none is allowed.
        """
        if self.out is None:
            return
        with self.processes.in_turn():
            last = self._last(self.out, allowed=allowed)
        if last is None:
            return
        found = read_json(last / "training.json")
        self._check(found)
        tensors = read_tensors(last / "training.safetensors")
        self._restore_scaler(tensors)
        place = {k.removeprefix("data."): v for k, v in tensors.items()}
        self.batches.restore(place)
        self.processes.restore(last, self.model, parts(self.optimizer), tensors)
        self.records = [StepRecord(**record) for record in found["records"]]

    def _last(self, out: Path, *, allowed: bool) -> Path | None:
        """Where to go on from; None, and a folder to write to, for a new run."""
        last = recovered(out / "last")
        foreign = [n for n in ("config.json", "best") if (out / n).exists()]
        if not last.exists() and not foreign:
            self._make_folder(out)
            return None
        if not allowed or not (last / "training.json").is_file():
            raise ValueError(
                f"expected a folder without a model for a new run, got {out} with "
                f"{'last' if last.exists() else foreign[0]} in it: choose another "
                f"folder"
            )
        return last

    def _restore_scaler(self, tensors: dict[str, Tensor]) -> None:
        state = {
            name.removeprefix("scaler."): value.item()
            for name, value in tensors.items()
            if name.startswith("scaler.")
        }
        if state:
            self.scaler.load_state_dict(state)

    def _make_folder(self, out: Path) -> None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            probe = out / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)  # another process may probe too
        except OSError as error:
            raise OSError(
                f"expected a folder to write to, got {out} ({error.strerror}): choose "
                f"another folder"
            ) from None

    def _check(self, found: dict[str, Any]) -> None:
        """Refuse to go on from a run that was another one."""
        # These change no weight, so a run may go on under other ones.
        free = {"device", "attention", "compile", "recompute", "eval_every", "patience"}
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
        scaler = self.scaler.state_dict()
        tensors |= {f"scaler.{k}": torch.tensor(v) for k, v in scaler.items()}
        model, tokenizer, processes = self.model, self.tokenizer, self.processes
        with processes.replacing(self.out / "last") as folder:
            optimizers = parts(self.optimizer)
            tensors |= processes.save(folder, model, tokenizer, optimizers)
            if processes.first:
                write_tensors(folder / "training.safetensors", tensors)
                state = {**self.identity, "records": records}
                write_json(folder / "training.json", state)
        if self.records and self.records[-1].validation_loss == self.best:
            with processes.replacing(self.out / "best") as folder:
                processes.export(folder, model, tokenizer)
        if processes.first:
            write_json(self.out / "run.json", self.record())

    def record(self) -> dict[str, Any]:
        """All of the run in one JSON object: what, on what, and what came of it.

        `utilisation` is the share of all devices' peak that the run's arithmetic comes
        to, 6 FLOPs a weight and token and those of attention (`plan.flops_per_token`).
        Where no maker's figure is known, the peak is the rate of a large product, and
        `peak_measured` says so. `peak_memory` is that of the first process.
        """
        rates = [record.tokens_per_second for record in self.records]
        typical = median(rates) if rates else 0.0
        arithmetic = flops_per_token(self.model.config)
        one, known = self.peak
        peak = one * self.processes.size
        return {
            **self.identity,
            "hardware": self.hardware.describe(),
            "processes": self.processes.size,
            "torch": torch.__version__,
            "parameters": self.model.config.n_parameters,
            "best": _finite(self.best),
            "seconds": sum(record.seconds for record in self.records),
            "tokens_per_second": typical,
            "flops_per_token": arithmetic,
            "peak_flops": peak,
            "peak_measured": not known,
            "utilisation": arithmetic * typical / peak,
            "peak_memory": peak_memory(self.hardware.device),
            "steps": self._steps(),
        }

    def _steps(self) -> list[dict[str, Any]]:
        """Every step's record, and the tokens read up to its end."""
        read = accumulate(record.tokens for record in self.records)
        return [
            # A loss scaler skips a step whose gradient is infinite; JSON has no word
            # for that.
            {
                **asdict(record),
                "gradient_norm": _finite(record.gradient_norm),
                "tokens_per_second": record.tokens_per_second,
                "tokens_read": tokens,
            }
            for record, tokens in zip(self.records, read, strict=True)
        ]


def _finite(number: float) -> float | None:
    """The number, or None where it is infinite or none."""
    return number if math.isfinite(number) else None
