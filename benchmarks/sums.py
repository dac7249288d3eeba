"""How many sums it takes to learn to add, and what the order of the digits is worth.

    OMP_NUM_THREADS=1 python benchmarks/sums.py

Trains the model of examples/sums.py: with the example's own number of sums, and with
few, the answer's digits written from the last or from the first. Every model is asked
for the same 10,000 sums, of which none, nor its mirror image, is ever trained on.
Writes results/sums.json.
"""

import importlib.util
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from minigpt.hardware import choose

ROOT = Path(__file__).parents[1]
SEEDS = (1, 2, 3)
N_TEST, N_EXAMPLES, FEW = 10_000, 64_000, (300, 1_000, 3_000)


def example() -> ModuleType:
    """examples/sums.py as a module."""
    path = ROOT / "examples" / "sums.py"
    spec = importlib.util.spec_from_file_location("example_sums", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927); stands at 0 and 1 too."""
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + (z / n) ** 2 / 4)
    return round(middle - reach, 5), round(min(1.0, middle + reach), 5)


def measure(sums: ModuleType, n_examples: int, *, forward: bool) -> dict[str, Any]:
    """Exact answers of a model of each seed, and what it took to train one."""
    test = sums.draw(N_TEST, seed=-1)
    asked = sums.written(test, forward=forward)
    right, seconds = [], []
    for seed in SEEDS:
        learned = sums.draw(n_examples, seed=seed, without=test)
        seen = {frozenset(pair) for pair in learned}
        assert not any(frozenset(pair) in seen for pair in test)
        # Processor time: the machine may be busy with something else.
        start = time.process_time()
        rows = sums.written(learned, forward=forward)
        model = sums.train(rows, replace(sums.RECIPE, seed=seed))
        seconds.append(time.process_time() - start)
        right.append(sums.exact(model, asked))
    low, high = wilson(sum(right), N_TEST * len(SEEDS))
    found = {
        "training sums": n_examples,
        "first digit": "first" if forward else "last",
        "exact of each seed": right,
        "accuracy": round(sum(right) / N_TEST / len(SEEDS), 5),
        "interval": [low, high],
        "lowest interval of one seed": list(wilson(min(right), N_TEST)),
        "processor minutes of a run": round(sum(seconds) / len(SEEDS) / 60, 2),
    }
    print(found, flush=True)
    return found


def commit() -> str:
    """The commit that is measured."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    torch.set_num_threads(1)
    sums = example()
    cases = [(N_EXAMPLES, False), (N_EXAMPLES, True)]
    cases += [(n, forward) for n in FEW for forward in (False, True)]
    rows = [measure(sums, n, forward=forward) for n, forward in cases]
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/sums.py",
        "commit": commit(),
        "date": date.today().isoformat(),
        "device": choose("cpu").describe(),
        "seeds": SEEDS,
        "steps": sums.RECIPE.steps,
        "sums in a step": sums.RECIPE.batch_size,
        "test sums": N_TEST,
        "protocol": "a, b uniform in 0 to 999; greedy; exact in all four digits; no "
        "test sum was trained on in either order; interval: Wilson, 95 %, over the "
        "answers of all seeds",
        "rows": rows,
    }
    path = ROOT / "results" / "sums.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
