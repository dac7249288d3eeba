"""What each trick is worth, one at a time, and how near the machine's limit it comes.

    OMP_NUM_THREADS=1 python benchmarks/ladder.py

A training step (forward, backward, AdamW) of this package's model at three sizes. Each
rung changes one thing of the rung before it; each extra changes one thing of the last
rung and goes away again. All of them take turns in one process, ROUNDS times after a
warm-up, and a factor is the median over rounds of (time before) / (time after), with
the smallest and the largest beside it. Compilation finds no cache of an earlier run.
Ceilings are measured in the same process: how fast matrices multiply, and how fast rows
go through matrices that no cache holds.
Writes results/ladder.json for Chapter 8.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

# Read when torch is imported: what compilation costs is part of the answer.
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
import torch

from minigpt.attention import Kernel
from minigpt.data import Batch
from minigpt.hardware import choose, cpu_has_bfloat16, measured_flops
from minigpt.model import GPT, GPTConfig
from minigpt.optim import parameter_groups
from minigpt.plan import flops_per_token
from minigpt.train import next_token_loss

ROOT = Path(__file__).parents[1]
ROUNDS = 7


def characters(n: int, width: int, context_length: int) -> GPTConfig:
    """n layers of n heads over the 65 characters of Shakespeare's plays."""
    return GPTConfig(
        vocab_size=65,
        context_length=context_length,
        n_layer=n,
        n_head=n,
        d_model=width,
    )


# Model, sequences in a batch, steps of a round.
SHAPES = {
    "small": (characters(4, 128, 64), 12, 20),
    "medium": (characters(6, 384, 256), 8, 1),
    "gpt2": (GPTConfig.preset("gpt2", context_length=256), 2, 1),
}


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way of taking the same step."""

    name: str
    optimizer: str = "for each"
    attention: Kernel = "explicit"
    precision: str = "float32"
    compile: bool = False
    read_loss: bool = False
    zero_in_place: bool = False
    recompute: bool = False
    vocabulary: int = 1  # rounded up to a multiple of this


PLAIN = Rung(name="the formula, float32")
FUSED = replace(PLAIN, name="AdamW in one kernel", optimizer="fused")
KERNEL = replace(FUSED, name="attention in one kernel", attention="fused")
HALF = replace(KERNEL, name="products in bfloat16", precision="bfloat16")
AUTO = replace(HALF, name="attention by the formula again", attention="explicit")
RUNGS = (PLAIN, FUSED, KERNEL, HALF, AUTO)
COMPILED = replace(AUTO, name="compiled", compile=True)
EXTRAS = (
    replace(AUTO, name="the loss read at every step", read_loss=True),
    replace(AUTO, name="gradients zeroed, not dropped", zero_in_place=True),
    replace(AUTO, name="vocabulary a multiple of 64", vocabulary=64),
    replace(AUTO, name="blocks made again", recompute=True),
)


def stepper(shape: str, rung: Rung) -> Callable[[], None]:
    """A function that takes one training step."""
    config, batch_size, _ = SHAPES[shape]
    words = -(-config.vocab_size // rung.vocabulary) * rung.vocabulary
    torch.manual_seed(0)
    model = GPT(replace(config, vocab_size=words))
    model.recompute = rung.recompute
    hardware = choose("cpu", rung.precision, attention=rung.attention)
    hardware.place(model)
    optimizer = torch.optim.AdamW(
        parameter_groups(model.parameters(), weight_decay=0.1),
        lr=1e-4,
        foreach=False,
        fused=rung.optimizer == "fused",
    )
    loss_of = torch.compile(next_token_loss) if rung.compile else next_token_loss
    tokens = torch.randint(65, (batch_size, config.context_length + 1))
    batch = Batch(tokens[:, :-1], tokens[:, 1:])

    def step() -> None:
        with hardware.autocast() if rung.precision != "float32" else nullcontext():
            loss = loss_of(model, *batch)
        optimizer.zero_grad(set_to_none=not rung.zero_in_place)
        loss.backward()
        optimizer.step()
        if rung.read_loss:
            loss.item()

    return step


def seconds(job: Callable[[], object], times: int) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    for _ in range(times):
        job()
    return (time.perf_counter() - start) / times


def climb(shape: str, *, compiled: bool) -> dict[str, Any]:
    """Every rung and extra of one size, in turns."""
    rungs = (*RUNGS, COMPILED) if compiled else RUNGS
    steppers = {rung.name: stepper(shape, rung) for rung in (*rungs, *EXTRAS)}
    times = SHAPES[shape][2]
    first = {name: seconds(step, 1) for name, step in steppers.items()}
    for step in steppers.values():
        step()
    rounds = []
    for _ in range(ROUNDS):
        rounds.append({name: seconds(step, times) for name, step in steppers.items()})
    config, batch_size, _ = SHAPES[shape]
    tokens = batch_size * config.context_length
    before = {rungs[i].name: rungs[i - 1].name for i in range(1, len(rungs))}
    before |= {extra.name: AUTO.name for extra in EXTRAS}
    rows = []
    for rung in (*rungs, *EXTRAS):
        middle = statistics.median(one[rung.name] for one in rounds)
        row = {
            "change": rung.name,
            "extra": rung in EXTRAS,
            "milliseconds": round(1000 * middle, 2),
            "tokens per second": round(tokens / middle),
            "FLOP/s": flops_per_token(config) * tokens / middle,
            "seconds of the first step": round(first[rung.name], 1),
        }
        if rung.name in before:
            factors = sorted(one[before[rung.name]] / one[rung.name] for one in rounds)
            row["factor"] = round(statistics.median(factors), 3)
            row["range"] = [round(factors[0], 3), round(factors[-1], 3)]
        rows.append(row)
    return {"parameters": config.n_parameters, "tokens": tokens, "rows": rows}


def through(rows: int, matrices: torch.Tensor) -> float:
    """FLOP/s of so many rows through matrices that are too many for a cache."""
    x = torch.randn(rows, matrices.shape[1], dtype=matrices.dtype)

    def job() -> None:
        for matrix in matrices:
            torch.nn.functional.linear(x, matrix)

    job()
    best = min(seconds(job, 1) for _ in range(5))
    return 2.0 * rows * matrices.numel() / best


def copied() -> float:
    """Bytes per second, read and written, of copying 256 MB."""
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    best = min(seconds(lambda: target.copy_(source), 1) for _ in range(5))
    return 2.0 * source.nbytes / best


def ceilings() -> dict[str, Any]:
    """How fast this machine multiplies, and how fast it reads."""
    device = torch.device("cpu")
    found: dict[str, Any] = {"copy, bytes per second": copied()}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        matrices = torch.randn(6, 4096, 4096).to(dtype)
        found[name] = {
            "product, FLOP/s": measured_flops(device, dtype, size=2048),
            "rows through matrices, FLOP/s": {
                str(rows): through(rows, matrices) for rows in (1, 2, 4, 8, 16, 64, 256)
            },
        }
        del matrices
        gc.collect()
    return found


def main() -> int:
    """Measure, and write."""
    path = ROOT / "results/ladder.json"
    commit = ("git", "rev-parse", "--short", "HEAD")
    record: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/ladder.py",
        "commit": subprocess.check_output(commit, text=True, cwd=ROOT).strip(),
        "date": date.today().isoformat(),
        "device": f"cpu, {torch.get_num_threads()} thread, native bfloat16: "
        f"{'yes' if cpu_has_bfloat16() else 'no'}",
        "rounds": ROUNDS,
        "ceilings": ceilings(),
        "shapes": {},
    }
    for shape in SHAPES:
        record["shapes"][shape] = climb(shape, compiled=shape != "gpt2")
        gc.collect()
        print(shape, *record["shapes"][shape]["rows"], sep="\n  ")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
