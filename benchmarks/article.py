"""Which rate fine-tuning wants: the advice of the article in appendix C, swept.

    OMP_NUM_THREADS=1 python benchmarks/article.py

The article says: one to two orders of magnitude below the rate of pretraining, starting
at 1e-5 and going down. Here minigpt-base learns the embedded shop messages at rates on
a logarithmic grid, with the defaults of `finetune` otherwise; each figure is the
accuracy on the validation part after the last epoch, so that nothing is chosen. Writes
results/article.json after each run, and goes on where it was interrupted.
"""

import json
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

from minigpt.adapt.finetune import finetune
from minigpt.adapt.loop import FinetuneConfig
from minigpt.hardware import choose
from minigpt.pretrained import load_pretrained
from minigpt.tasks import load_task

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "article.json"
RATES = ("1e-05", "0.0001", "0.001", "0.003", "0.01", "0.03")
SEEDS = (1, 2)
EPOCHS = 3


def begun() -> dict[str, Any]:
    """What is measured, on what, and by what."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    task = load_task("shop-messages")
    return {
        "command": "OMP_NUM_THREADS=1 python benchmarks/article.py",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": f"{choose().describe()}, {platform.machine()}",
        "model": "minigpt-base",
        "task": str(task).splitlines(),
        "seeds": [],
        "epochs": EPOCHS,
        "validation": len(task.validation),
        "accuracy": {rate: {} for rate in RATES},
    }


def main() -> None:
    record = json.loads(OUT.read_text("utf-8")) if OUT.exists() else begun()
    accuracies = record["accuracy"].values()
    base, task = load_pretrained("minigpt-base"), load_task("shop-messages")
    for seed in SEEDS:
        for rate in RATES:
            held = record["accuracy"][rate]
            if str(seed) in held:
                continue
            config = FinetuneConfig(
                learning_rate=float(rate), epochs=EPOCHS, patience=None, seed=seed
            )
            last = finetune(base, task, config).records[-1]
            held[str(seed)] = round(last.validation, 4)
            whole = [s for s in SEEDS if all(str(s) in by for by in accuracies)]
            record["seeds"] = whole
            OUT.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
            print(f"rate {rate}, seed {seed}: {last.validation:.3f}", flush=True)


if __name__ == "__main__":
    main()
