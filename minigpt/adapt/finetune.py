"""Chapter 10. Fine-tuning: a pretrained decoder learns a labelled task in seven steps.

    1  look at the task: its parts, labels, leaks             the report begins with it
    2  give the decoder marks and a head                      `adapt`
    3  lay the examples out, and count what had to be cut     `Adapted.items`
    4  say what moves and how fast                            `freeze`, `rate_groups`
    5  train: texts of like length together                   `shuffled_batches`
    6  look at validation after each epoch, keep the best     `EpochRecord`
    7  test once: n, intervals, confusions, calibration       `Report`

`finetune` is all seven, with defaults that suit decoders of some million weights.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from minigpt.adapt.heads import Adapted, adapt
from minigpt.adapt.inputs import Item
from minigpt.adapt.loop import (
    DEFAULTS,
    Callback,
    EpochRecord,
    FinetuneConfig,
    epochs,
    freeze,
)
from minigpt.adapt.metrics import (
    Calibration,
    Score,
    calibration,
    confusion,
    over_seeds,
    rows_of,
    scores,
)
from minigpt.adapt.scores import Prediction
from minigpt.checkpoint import Pretrained
from minigpt.hardware import choose
from minigpt.labelled import PARTS, Task


class Report(NamedTuple):
    """What came of a fine-tuning, with all that belongs beside its figures."""

    task: str  # parts, labels and leaks in words
    kind: str
    seed: int
    chosen: int  # the epoch whose weights were kept
    cut: dict[str, tuple[int, int]]  # part → examples that lost tokens, of how many
    scores: dict[str, Score]  # on the test part
    rows: np.ndarray  # one for each test example: `compare` takes them
    confusion: np.ndarray | None  # of classes: row said column
    calibration: Calibration | None
    trainable: int
    seconds: float

    def __str__(self) -> str:
        lines = [self.task]
        lines += [
            f"{part}: {some} of {n} examples are longer than the context and were cut"
            for part, (some, n) in self.cut.items()
            if some
        ]
        lines += [f"test {score}" for score in self.scores.values()]
        if self.calibration is not None:
            error = self.calibration.error
            lines.append(f"sure of itself by {error:.3f} more or less than it is right")
        lines.append(
            f"{self.trainable:,} weights moved, epoch {self.chosen} kept, seed "
            f"{self.seed}, {self.seconds:.0f} s"
        )
        return "\n".join(lines)


class Finetuned(NamedTuple):
    """The model in eval mode, its epochs, and its report."""

    adapted: Adapted
    records: list[EpochRecord]
    report: Report


def finetune(
    base: Pretrained,
    task: Task,
    config: FinetuneConfig = DEFAULTS,
    *,
    callbacks: Sequence[Callback] = (),
) -> Finetuned:
    """Teach a copy of a decoder a task; the decoder itself stays as it is.

    Raises:
        ValueError: nothing to train on, no tokenizer, more frozen blocks than there
            are, or an example that cannot be laid out.
        Diverged: the loss is no longer a number.
    """
    if base.tokenizer is None or not task.train:
        missing = "training examples" if base.tokenizer else "a tokenizer"
        raise ValueError(f"expected {missing}, got none: a model learns from texts")
    start = time.perf_counter()
    hardware = choose(config.device, config.precision)
    cuda = [hardware.device] if hardware.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(config.seed)
        generator = torch.Generator().manual_seed(config.seed)
        adapted = _prepared(base, task, config, generator)
        hardware.place(adapted)
        parts = {p: adapted.items(getattr(task, p)) for p in PARTS}
        records = []
        for record in epochs(adapted, task, parts, config, hardware, generator):
            records.append(record)
            for callback in callbacks:
                callback(record)
    adapted.eval()
    said = adapted.predict(task.test)
    report = _report(adapted, task, config, said, records, parts, start)
    return Finetuned(adapted, records, report)


def _prepared(
    base: Pretrained, task: Task, config: FinetuneConfig, generator: torch.Generator
) -> Adapted:
    adapted = adapt(
        copy.deepcopy(base.model),
        base.tokenizer,  # type: ignore[arg-type]
        task,
        cut=config.cut,
        both_orders=config.both_orders,
        start=config.start,
        dropout=config.dropout,
        room=config.room,
        generator=generator,
    )
    freeze(adapted.model, config.freeze)
    return adapted


# The report.
def _report(
    adapted: Adapted,
    task: Task,
    config: FinetuneConfig,
    said: Sequence[Prediction],
    records: Sequence[EpochRecord],
    parts: dict[str, list[Item]],
    start: float,
) -> Report:
    labels = [prediction.label for prediction in said]
    rows = rows_of(task.kind, task.test, labels, len(task.labels))
    classes = task.kind == "classes"
    right = [e.label == label for e, label in zip(task.test, labels, strict=True)]
    sure = [max(p.scores) for p in said] if task.kind in ("classes", "choice") else None
    return Report(
        task=str(task),
        kind=task.kind,
        seed=config.seed,
        chosen=max(record.epoch for record in records if record.best),
        cut={p: (sum(i.cut > 0 for i in some), len(some)) for p, some in parts.items()},
        scores=scores(task.kind, rows),
        rows=rows,
        confusion=confusion(rows, len(task.labels)) if classes else None,
        calibration=None if sure is None else calibration(sure, right),
        trainable=sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        seconds=time.perf_counter() - start,
    )


def finetune_seeds(
    base: Pretrained,
    task: Task,
    config: FinetuneConfig = DEFAULTS,
    *,
    seeds: Sequence[int] = (0, 1, 2),
) -> tuple[list[Finetuned], dict[str, Score]]:
    """The same fine-tuning with other seeds, and the mean of each metric over them.

    Raises:
        ValueError: fewer than two seeds.
    """
    runs = [finetune(base, task, replace(config, seed=seed)) for seed in seeds]
    every = [run.report.scores for run in runs]
    names = every[0] if every else {"nothing": None}
    return runs, {name: over_seeds([found[name] for found in every]) for name in names}
