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
from minigpt.adapt.inputs import Item, Side
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
from minigpt.adapt.scores import Prediction, named
from minigpt.checkpoint import Pretrained
from minigpt.hardware import choose
from minigpt.labelled import PARTS, Example, Span, Task


class Report(NamedTuple):
    """What came of a fine-tuning, with all that belongs beside its figures."""

    task: str  # parts, labels and leaks in words
    kind: str
    seed: int
    chosen: int  # the epoch whose weights were kept
    cut: dict[str, tuple[int, int]]  # part → examples that lost tokens, of how many
    side: Side  # on which they lost them
    lost: dict[str, int]  # part → spans that are not within what was kept
    scores: dict[str, Score]  # on the test part
    rows: np.ndarray  # one for each test example: `compare` takes them
    confusion: np.ndarray | None  # of classes: row said column
    calibration: Calibration | None
    trainable: int
    seconds: float

    def __str__(self) -> str:
        lines = [self.task]
        lines += [
            f"{part}: {some} of {n} examples are longer than the context and were cut "
            f"on the {self.side}"
            for part, (some, n) in self.cut.items()
            if some
        ]
        lines += [
            f"{part}: {n} spans lie outside the context: learnt as none, scored as "
            f"missed"
            for part, n in self.lost.items()
            if n
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


class Judgement(NamedTuple):
    """What was said of each test example, its row, and the scores of all."""

    said: list[Prediction]
    rows: np.ndarray
    scores: dict[str, Score]


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
        ValueError: a part without examples, no tokenizer, more frozen blocks than
            there are, or an example that cannot be laid out.
        Diverged: the loss or what is said of validation is no longer a number.
    """
    if base.tokenizer is None or not task.train:
        missing = "training examples" if base.tokenizer else "a tokenizer"
        raise ValueError(f"expected {missing}, got none: a model learns from texts")
    for part in PARTS[1:]:
        if not getattr(task, part):
            raise ValueError(
                f"expected {part} examples, got none: validation decides which weights "
                f"are kept, and test is what is reported"
            )
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
    judged = judge(adapted, task)
    report = _report(adapted, task, config, judged, records, parts, start)
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


def judge(adapted: Adapted, task: Task) -> Judgement:
    """Look at the test part of a task, the model's own or another with its labels.

    Labels are matched by name.

    Raises:
        ValueError: another kind of task, or a label that the model was not trained
            with.
    """
    layout = adapted.layout
    if task.kind != layout.kind:
        raise ValueError(
            f"expected a task of kind {layout.kind!r}, for which the model was "
            f"trained, got {task.kind!r}"
        )
    own = named(task.labels, layout)

    def renamed(example: Example) -> Example:
        label = example.label
        if layout.kind == "classes" and isinstance(label, int):
            return example._replace(label=own[label])
        if layout.kind in ("multilabel", "tags") and isinstance(label, tuple):
            some = tuple(own[i] for i in label if isinstance(i, int))
            return example._replace(label=some)
        return example

    examples = [renamed(example) for example in task.test]
    said = adapted.predict(examples)
    labels = [prediction.label for prediction in said]
    rows = rows_of(layout.kind, examples, labels, len(layout.labels))
    return Judgement(said, rows, scores(layout.kind, rows))


# The report.
def _report(
    adapted: Adapted,
    task: Task,
    config: FinetuneConfig,
    judged: Judgement,
    records: Sequence[EpochRecord],
    parts: dict[str, list[Item]],
    start: float,
) -> Report:
    pairs = zip(task.test, judged.said, strict=True)
    right = [example.label == said.label for example, said in pairs]
    sure = task.kind in ("classes", "choice")
    classes = task.kind == "classes"
    return Report(
        task=str(task),
        kind=task.kind,
        seed=config.seed,
        chosen=max(record.epoch for record in records if record.best),
        cut={p: (sum(i.cut > 0 for i in some), len(some)) for p, some in parts.items()},
        side=config.cut,
        lost={p: _lost(getattr(task, p), some) for p, some in parts.items()},
        scores=judged.scores,
        rows=judged.rows,
        confusion=confusion(judged.rows, len(task.labels)) if classes else None,
        calibration=(
            calibration([max(one.scores) for one in judged.said], right)
            if sure
            else None
        ),
        trainable=sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        seconds=time.perf_counter() - start,
    )


def _lost(examples: Sequence[Example], items: Sequence[Item]) -> int:
    lost = 0
    for example, item in zip(examples, items, strict=True):
        if isinstance(example.label, tuple) and isinstance(item.target, tuple):
            due = sum(isinstance(one, Span) for one in example.label)
            none = (len(item.places),) * 2
            lost += due - sum(place != none for place in item.target) if due else 0
    return lost


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
