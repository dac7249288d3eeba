"""What two choices of a fine-tuning are worth: its rate, and how much stands still.

    OMP_NUM_THREADS=1 python benchmarks/choices.py

minigpt-base learns "shop-messages". First the rate is swept with the four lowest blocks
frozen, then the number of frozen blocks at the best rate. What is reported is the
accuracy on the validation part after the best epoch, for three seeds each: nothing is
said about the test part here. Seconds are the processor's. Writes results/choices.json
after each run, and goes on where it was interrupted.
"""

import json
import platform
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from minigpt.adapt.finetune import finetune
from minigpt.adapt.loop import FinetuneConfig
from minigpt.hardware import choose
from minigpt.pretrained import load_pretrained
from minigpt.tasks import load_task

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "choices.json"
SEEDS = (1, 2, 3)
# The lowest is a common piece of advice; 6.25e-5 is GPT-1's.
RATES = (1e-5, 6.25e-5, 1e-3, 4e-3, 1.6e-2)
DEPTHS = (0, 2, 4, 6)
RECIPE = FinetuneConfig(epochs=4, patience=None, device="cpu")


def run(**changes: Any) -> dict[str, float]:
    """One fine-tuning, by its validation part."""
    task = load_task("shop-messages")
    # The report is about validation as well, so that no test part is looked at.
    task = replace(task, test=task.validation[:20])
    began = time.process_time()
    found = finetune(load_pretrained("minigpt-base"), task, replace(RECIPE, **changes))
    return {
        "seed": changes["seed"],
        "validation accuracy": round(max(r.validation for r in found.records), 4),
        "each epoch": [round(record.validation, 4) for record in found.records],
        "last loss": round(found.records[-1].loss, 4),
        "trainable": found.report.trainable,
        "seconds": round(time.process_time() - began, 1),
    }


def mean(runs: list[dict[str, float]]) -> float:
    """The accuracy of a setting."""
    return sum(one["validation accuracy"] for one in runs) / len(runs)


def fill(rows: dict[str, Any], key: str, record: dict[str, Any], **fixed: Any) -> None:
    """The runs that a setting lacks; the record is written after each."""
    runs = rows.setdefault(key, [])
    for seed in SEEDS[len(runs) :]:
        runs.append(run(seed=seed, **fixed))
        print(fixed, runs[-1], flush=True)
        OUT.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def main() -> int:
    """Run what the record lacks."""
    torch.set_num_threads(1)
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    record: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/choices.py",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": f"{choose('cpu', 'auto').describe()}, {platform.machine()}",
        "task": str(load_task("shop-messages")).split("\n  "),
        "epochs": RECIPE.epochs,
        "seeds": list(SEEDS),
        "rates": {},
        "depths": {},
    }
    if OUT.is_file():
        record |= json.loads(OUT.read_text("utf-8"))
    for rate in RATES:
        fill(record["rates"], f"{rate:g}", record, learning_rate=rate, freeze=4)
    best = max(record["rates"], key=lambda rate: mean(record["rates"][rate]))
    record["best rate"] = float(best)
    record["depths"]["4"] = record["rates"][best]
    for depth in DEPTHS:
        fill(
            record["depths"],
            str(depth),
            record,
            learning_rate=float(best),
            freeze=depth,
        )
    OUT.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
