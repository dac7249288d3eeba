"""What an example costs in fine-tuning: ours and transformers' Trainer, in turn.

    MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/finetune.py --speed

Both teach the same network the same texts of banking77, a batch of 16 at a time, each
as it does by default on this machine, ours in bfloat16 where that is native; Trainer in
bfloat16 too. It needs accelerate, which the package does not.
"""

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from minigpt.adapt.heads import adapt
from minigpt.adapt.loop import FinetuneConfig, epochs
from minigpt.adapt.saved import export_classifier
from minigpt.hardware import choose
from minigpt.labelled import Task, shuffled
from minigpt.pretrained import load_pretrained
from minigpt.tasks import load_task

# The range of six ratios holds their median's true value in 97 % of cases (1 - 2 / 2⁶).
LONGEST, N_SPEED, ROUNDS, BATCH = 64, 512, 6, 16


def ours(model: str, task: Task) -> float:
    """Seconds per example of one epoch, with its step of validation left out."""
    config = FinetuneConfig(epochs=1, batch_size=BATCH, device="cpu")
    base, hardware = load_pretrained(model), choose("cpu", config.precision)
    adapted = adapt(base.model, base.tokenizer, task)  # type: ignore[arg-type]
    parts = {p: adapted.items(getattr(task, p)) for p in ("train", "validation")}
    generator = torch.Generator().manual_seed(0)
    record = next(epochs(adapted, task, parts, config, hardware, generator))
    return record.seconds / len(task.train)


def theirs(model: str, task: Task, *, bf16: bool = False) -> float:
    """Seconds per example under transformers' Trainer: the same rows and weights."""
    from transformers import (
        AutoModelForSequenceClassification,
        Trainer,
        TrainingArguments,
    )

    base = load_pretrained(model)
    adapted = adapt(base.model, base.tokenizer, task)  # type: ignore[arg-type]
    items = adapted.items(task.train)
    rows = [{"input_ids": list(i.rows[0]), "labels": i.target} for i in items]

    def padded(some: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(r["input_ids"]) for r in some)
        fill = adapted.layout.marks.padding
        ids = [r["input_ids"] + [fill] * (width - len(r["input_ids"])) for r in some]
        seen = [[1] * len(r["input_ids"]) for r in some]
        mask = [m + [0] * (width - len(m)) for m in seen]
        labels = torch.tensor([r["labels"] for r in some])
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": torch.tensor(mask),
            "labels": labels,
        }

    with tempfile.TemporaryDirectory() as folder:
        export_classifier(adapted, folder)
        classifier = AutoModelForSequenceClassification.from_pretrained(folder)
        arguments = TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            use_cpu=True,
            bf16=bf16,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer = Trainer(
            classifier, arguments, data_collator=padded, train_dataset=rows
        )  # type: ignore[arg-type]
        # Its own figure: what it needs to start is left out, as with ours.
        return float(trainer.train().metrics["train_runtime"]) / len(rows)


def speed(model: str) -> dict[str, Any]:
    """Both, in turn, and the median of their ratio with its interval."""
    task = load_task("banking77")
    base = load_pretrained(model)
    adapted = adapt(base.model, base.tokenizer, task)  # type: ignore[arg-type]
    items = adapted.items(task.train)
    order = shuffled([e.text for e in task.train], 0)
    short = [i for i in order if items[i].length <= LONGEST][:N_SPEED]
    train = [task.train[i] for i in short]
    task = replace(task, train=train, validation=task.validation[:1])
    sides: dict[str, Callable[[Task], float]] = {
        model: lambda some: ours(model, some),
        "transformers' Trainer": lambda some: theirs(model, some),
        "transformers' Trainer, bf16": lambda some: theirs(model, some, bf16=True),
    }
    for side in sides.values():
        side(replace(task, train=task.train[:64]))
    rounds = [{n: side(task) for n, side in sides.items()} for _ in range(ROUNDS)]
    cost = {n: [1000 * one[n] for one in rounds] for n in sides}
    ratios = {n: sorted(one[model] / one[n] for one in rounds) for n in sides}
    del ratios[model]
    return {
        "task": f"banking77, {len(task.train)} examples of at most {LONGEST} tokens",
        "rounds": ROUNDS,
        "milliseconds per example": {
            n: round(statistics.median(some), 3) for n, some in cost.items()
        },
        "ratio": {n: round(statistics.median(some), 3) for n, some in ratios.items()},
        "interval": {
            n: [round(some[0], 3), round(some[-1], 3)] for n, some in ratios.items()
        },
        "interval is": "97 %, of the median: the range of all rounds",
        "device": choose("cpu", "auto").describe(),
    }
