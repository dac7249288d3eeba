"""How fast a model learns: minigpt against transformers, and nanoGPT where it is.

    OMP_NUM_THREADS=1 python benchmarks/train_step.py --nanogpt PATH
    OMP_NUM_THREADS=1 python benchmarks/train_step.py --nanogpt PATH --memory

A step is forward, backward, clipping and AdamW, without dropout, on tokens that are
there already. Everyone starts from the same weights, and before a clock is read
everyone's losses over CHECKED steps must agree: the mathematics is the same. Then all
take turns in one process. minigpt runs `training_steps` as a reader calls it; a peer
runs the step of its own training script with its own optimiser: nanoGPT what
`configure_optimizers` returns, transformers its Trainer's default, fused AdamW.

    float32     the same mathematics: nanoGPT's GELU is the tanh formula here
    bfloat16    the same, products of all of them in the same autocast
    shipped     minigpt as it chooses itself, peers as they are shipped: both compute
                in float32 on a CPU, and nanoGPT's GELU is exact

`--memory` measures the most memory of a process that takes three steps, one process
each. Each row of results/train_step.json is kept as soon as it is measured; `--shape b`
and `--kind float32` ask for less, `--quick` for the least, which writes nothing.
"""

import argparse
import contextlib
import io
import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peers
import torch
from torch import Tensor, nn

from minigpt import TrainConfig, training_steps
from minigpt.data import Batch
from minigpt.hardware import choose, measured_flops, peak_memory
from minigpt.plan import flops_per_token

RESULT = peers.ROOT / "results" / "train_step.json"
# Windows in a batch, and steps in a turn.
BATCH = {"a": 12, "b": 8, "c": 2}
TURN = {"a": 8, "b": 2, "c": 1}
CHECKED = 3
RATE, BETAS, DECAY, CLIP = 1e-4, (0.9, 0.95), 0.1, 1.0
# How far apart losses may be: rounding alone, or rounding to 8 bits, another GELU.
CLOSE = {"float32": 1e-4, "bfloat16": 2e-2, "shipped": 2e-2}
Step = Callable[[], float]


def drawn(shape: str) -> Batch:
    """Windows of random tokens, the same for everyone."""
    config = peers.SHAPES[shape]
    some = torch.Generator().manual_seed(1)
    size = (BATCH[shape], config.context_length + 1)
    tokens = torch.randint(config.vocab_size, size, generator=some)
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def ours(shape: str, precision: str) -> Step:
    """The package's own loop, one step at a time."""
    config = TrainConfig(
        steps=10**9,
        optimizer="adamw",
        learning_rate=RATE,
        beta1=BETAS[0],
        beta2=BETAS[1],
        weight_decay=DECAY,
        schedule="constant",
        warmup=0,
        clip=CLIP,
        device="cpu",
        precision=precision,
    )
    batches = itertools.repeat(drawn(shape))
    records = training_steps(peers.made(shape), batches, config)
    return lambda: next(records).loss


def theirs(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[], Tensor],
    *,
    half: bool,
) -> Step:
    """A step as both peers' training scripts take it."""
    model.train()

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss.item()

    return step


def nano(shape: str, folder: Path, *, half: bool, tanh: bool) -> Step:
    """nanoGPT with the optimiser that it makes for a CPU."""
    model: Any = peers.nanogpt(peers.made(shape), folder, tanh=tanh)
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = model.configure_optimizers(DECAY, RATE, BETAS, "cpu")
    inputs, targets = drawn(shape)
    return theirs(model, optimizer, lambda: model(inputs, targets)[1], half=half)


def hugging(shape: str, *, half: bool) -> Step:
    """transformers with its Trainer's default optimiser."""
    model: Any = peers.huggingface(peers.made(shape))
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, fused=True)
    inputs, targets = drawn(shape)

    def loss_of() -> Tensor:
        # Shifted already: without the second name it would drop a position.
        found = model(inputs, labels=targets, shift_labels=targets, use_cache=False)
        return found.loss

    return theirs(model, optimizer, loss_of, half=half)


def runners(
    shape: str, kind: str, nanogpt: Path | None
) -> dict[str, Callable[[], Step]]:
    """Everyone, ready to be made."""
    half = kind == "bfloat16"
    precision = "auto" if kind == "shipped" else kind
    found: dict[str, Callable[[], Step]] = {
        "minigpt": lambda: ours(shape, precision),
        "transformers": lambda: hugging(shape, half=half),
    }
    if nanogpt is not None:
        found["nanoGPT"] = lambda: nano(
            shape, nanogpt, half=half, tanh=kind != "shipped"
        )
    return found


def race(shape: str, kind: str, rounds: int, nanogpt: Path | None) -> dict[str, Any]:
    """One row: equality first, then turns."""
    steps = {name: make() for name, make in runners(shape, kind, nanogpt).items()}
    losses = {name: [step() for _ in range(CHECKED)] for name, step in steps.items()}
    apart = max(
        abs(mine - other)
        for name in steps
        for mine, other in zip(losses["minigpt"], losses[name], strict=True)
    )
    if apart > CLOSE[kind]:
        raise SystemExit(f"expected equal losses in {shape}, {kind}, got {losses}")
    times = TURN[shape]

    def turn(step: Step) -> Callable[[], None]:
        return lambda: [step() for _ in range(times)].clear()

    jobs = {name: turn(step) for name, step in steps.items()}
    config = peers.SHAPES[shape]
    tokens = BATCH[shape] * config.context_length
    seconds = peers.turns(jobs, rounds)
    against = [name for name in steps if name != "minigpt"]
    table = peers.compared(seconds, times * tokens, against)
    hardware = choose("cpu", "auto" if kind == "shipped" else kind)
    # After the race: in a machine that others use, as near to it as can be.
    peak = measured_flops(hardware.device, hardware.dtype, size=2048)
    for row in table.values():
        row["share of the peak"] = round(
            flops_per_token(config) * row["tokens per second"] / peak, 3
        )
    return {
        "minigpt computes on": hardware.describe(),
        "parameters": config.n_parameters,
        "tokens in a step": tokens,
        "steps in a turn": times,
        "rounds": rounds,
        "losses apart at most": float(f"{apart:.1e}"),
        "measured peak, FLOP/s": float(f"{peak:.3g}"),
        "runners": table,
    }


def alone(shape: str, kind: str, name: str, nanogpt: Path | None) -> None:
    """Print the most memory of a process in which one of them takes steps."""
    step = runners(shape, kind, nanogpt)[name]()
    for _ in range(CHECKED):
        step()
    print(peak_memory(torch.device("cpu")))


def memory(shape: str, kind: str, rounds: int, nanogpt: Path | None) -> dict[str, Any]:
    """One row: the most memory of each, in processes of their own."""
    found: dict[str, list[int]] = {}
    command = [sys.executable, __file__, "--shape", shape, "--kind", kind]
    command += ["--nanogpt", str(nanogpt)] if nanogpt else []
    for _ in range(rounds):
        for name in runners(shape, kind, nanogpt):
            made = subprocess.run(
                [*command, "--alone", name], check=True, capture_output=True, text=True
            )
            found.setdefault(name, []).append(int(made.stdout))
    middle = {name: statistics.median(peaks) for name, peaks in found.items()}
    return {
        "tokens in a step": BATCH[shape] * peers.SHAPES[shape].context_length,
        "rounds": rounds,
        "megabytes": {name: round(peak / 1e6) for name, peak in middle.items()},
        "range": {
            name: [round(min(peaks) / 1e6), round(max(peaks) / 1e6)]
            for name, peaks in found.items()
        },
        "minigpt's share of": {
            name: round(middle["minigpt"] / peak, 3)
            for name, peak in middle.items()
            if name != "minigpt"
        },
    }


def parsed() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nanogpt", type=Path, help="folder of nanoGPT's model.py")
    parser.add_argument("--shape", choices=list(peers.SHAPES), help="(default: all)")
    parser.add_argument("--kind", choices=list(CLOSE), help="(default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--memory", action="store_true", help="and not speed")
    parser.add_argument("--alone", help="a process of --memory")
    parser.add_argument("--quick", action="store_true", help="a, and nothing written")
    return parser.parse_args()


def main() -> int:
    """Measure the rows that are asked for, and keep each."""
    asked = parsed()
    if asked.alone:
        alone(asked.shape, asked.kind, asked.alone, asked.nanogpt)
        return 0
    shapes = [asked.shape] if asked.shape else ["c"] if asked.memory else [*BATCH]
    kinds = [asked.kind] if asked.kind else ["float32"] if asked.memory else [*CLOSE]
    if asked.quick:
        shapes, asked.rounds = ["a"], min(asked.rounds, 3)
    measure = memory if asked.memory else race
    for shape, kind in itertools.product(shapes, kinds):
        row = measure(shape, kind, asked.rounds, asked.nanogpt)
        flags = f"--shape {shape} --kind {kind}"
        flags += " --nanogpt PATH" if asked.nanogpt else ""
        flags += " --memory" if asked.memory else ""
        what = "memory, " if asked.memory else ""
        name = f"{shape}, {kind}, {what}threads {torch.get_num_threads()}"
        print(name, *row.items(), sep="\n  ", flush=True)
        if not asked.quick:
            about = peers.about(f"train_step.py {flags}")
            peers.keep(RESULT, name, {**about, **row})
    return 0


if __name__ == "__main__":
    sys.exit(main())
