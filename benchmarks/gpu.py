"""On one GPU: a training step, and a step of decoding.

    python benchmarks/gpu.py step --nanogpt PATH
    python benchmarks/gpu.py decode --nanogpt PATH

`step` races GPT-2's smallest shape at its full context: everyone has the same weights
and tokens, computes in the same bfloat16 autocast, and must have had the same losses
before a clock is read; then all take turns. `decode` races the next token at one text
and at eight. Each row of results/gpu.json is kept as soon as it is measured.
"""

import argparse
import contextlib
import io
import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peers
import torch
from torch import Tensor, nn

from minigpt import GPT, GPTConfig, TrainConfig
from minigpt.data import Batch
from minigpt.generate import generate
from minigpt.hardware import choose, known_peak, measured_flops
from minigpt.plan import flops_per_token
from minigpt.train import training_steps

RESULT = peers.ROOT / "results" / "gpu.json"
CUDA = torch.device("cuda")
# nanoGPT rounds the vocabulary up to a multiple of 64; so does everyone here.
SHAPE = GPTConfig.preset("gpt2", vocab_size=50304, dropout=0.0)
BATCH, TURN, ROUNDS, CHECKED = 16, 20, 7, 3
RATE, BETAS, DECAY, CLIP = 6e-4, (0.9, 0.95), 0.1, 1.0
# How far apart losses may be that were computed in eight bits of precision.
CLOSE = 2e-2
PROMPT, NEW, DECODE_ROUNDS = 32, 128, 5
Step = Callable[[], Any]


def made(shape: GPTConfig) -> GPT:
    """The same weights every time."""
    torch.manual_seed(0)
    return GPT(shape)


def about(command: str) -> dict[str, Any]:
    """How, on what code, when and where."""
    found = peers.about(command)
    found["command"] = found["command"].split(" ", 1)[1]
    del found["threads"], found["compile"]
    return {**found, "device": torch.cuda.get_device_name()}


# A training step.
def ours(batch: Batch, *, compiled: bool) -> Step:
    """The package's own loop, one step at a time; it waits for each step's loss."""
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
        device="cuda",
        precision="bfloat16",
        compile=compiled,
    )
    records = training_steps(made(SHAPE), itertools.repeat(batch), config)
    return lambda: next(records).loss


def theirs(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss_of: Callable[[], Tensor]
) -> Step:
    """A step as a peer's training script takes it: its loss is not waited for."""
    model.train()

    def step() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def nano(batch: Batch, folder: Path) -> Step:
    """nanoGPT, compiled, with the optimiser that it makes for a GPU."""
    model: Any = peers.nanogpt(made(SHAPE), folder, tanh=True).to(CUDA)
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = model.configure_optimizers(DECAY, RATE, BETAS, "cuda")
    compiled: Any = torch.compile(model)
    inputs, targets = (part.to(CUDA) for part in batch)
    return theirs(model, optimizer, lambda: compiled(inputs, targets)[1])


def hugging(batch: Batch, *, compiled: bool) -> Step:
    """transformers with its Trainer's default optimiser."""
    model: Any = peers.huggingface(made(SHAPE)).to(CUDA)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, fused=True)
    called: Any = torch.compile(model) if compiled else model
    inputs, targets = (part.to(CUDA) for part in batch)

    def loss_of() -> Tensor:
        found = called(inputs, labels=targets, shift_labels=targets, use_cache=False)
        return found.loss

    return theirs(model, optimizer, loss_of)


def step_row(nanogpt: Path | None, *, few: bool) -> dict[str, Any]:
    """The training step of everyone: equal losses first, then turns."""
    torch.set_float32_matmul_precision("high")  # as nanoGPT's script allows
    some = torch.Generator().manual_seed(1)
    tokens = torch.randint(50257, (BATCH, SHAPE.context_length + 1), generator=some)
    batch = Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    runners: dict[str, Callable[[], Step]] = {
        "minigpt, compiled": lambda: ours(batch, compiled=True),
        "transformers": lambda: hugging(batch, compiled=False),
    }
    if not few:
        runners["minigpt"] = lambda: ours(batch, compiled=False)
        runners["transformers, compiled"] = lambda: hugging(batch, compiled=True)
    if nanogpt is not None:
        runners["nanoGPT, compiled"] = lambda: nano(batch, nanogpt)
    steps, losses, memory = {}, {}, {}
    for name, make in runners.items():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step = make()
        losses[name] = [float(step()) for _ in range(CHECKED)]
        memory[name] = round((torch.cuda.max_memory_allocated() - before) / 1e6)
        steps[name] = step
        print(name, losses[name], memory[name], "MB", flush=True)
    mine = losses["minigpt, compiled"]
    pairs = [zip(mine, other, strict=True) for other in losses.values()]
    apart = max(abs(a - b) for pair in pairs for a, b in pair)
    if apart > CLOSE:
        raise SystemExit(f"expected equal losses, got {losses}")

    def turn(step: Step) -> Callable[[], None]:
        def job() -> None:
            for _ in range(TURN):
                step()
            torch.cuda.synchronize()

        return job

    seconds = peers.turns({name: turn(step) for name, step in steps.items()}, ROUNDS)
    tokens_in_turn = TURN * tokens[:, 1:].numel()
    against = [name for name in steps if not name.startswith("minigpt")]
    table = peers.compared(seconds, tokens_in_turn, against)
    hardware = choose("cuda", "bfloat16")
    peak = measured_flops(CUDA, torch.bfloat16, size=8192, rounds=20)
    maker = known_peak(hardware)
    for name, row in table.items():
        flops = flops_per_token(SHAPE) * row["tokens per second"]
        row["share of the measured peak"] = round(flops / peak, 3)
        row["share of its maker's peak"] = round(flops / maker, 3) if maker else None
        row["megabytes"] = memory[name]
    return {
        "minigpt computes on": hardware.describe(),
        "parameters": SHAPE.n_parameters,
        "tokens in a step": tokens[:, 1:].numel(),
        "steps in a turn": TURN,
        "rounds": ROUNDS,
        "losses apart at most": float(f"{apart:.1e}"),
        "measured peak, FLOP/s": float(f"{peak:.3g}"),
        "runners": table,
    }


# A step of decoding.
@torch.inference_mode()
def decode_row(batch: int, dtype: torch.dtype, nanogpt: Path | None) -> dict[str, Any]:
    """Greedy text by everyone, the same weights; the same text where float32 says."""
    shape = replace(SHAPE, vocab_size=50257)
    model = made(shape).eval()
    # A model as it is first drawn repeats one token; larger weights make it wander.
    for parameter in model.parameters():
        parameter.data *= 2.0
    theirs: Any = peers.huggingface(model).eval().to(CUDA, dtype)
    jobs: dict[str, Callable[[], Tensor]] = {}
    prompt = torch.randint(50257, (batch, PROMPT), device=CUDA)
    if nanogpt is not None and batch == 1:
        nano: Any = peers.nanogpt(model, nanogpt, tanh=True).eval().to(CUDA, dtype)
        jobs["nanoGPT"] = lambda: nano.generate(prompt, NEW, top_k=1)
    model = model.to(CUDA, dtype)

    def hugging(cache: str) -> Tensor:
        found: Tensor = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW,
            do_sample=False,
            cache_implementation=cache,
            pad_token_id=0,
        )
        return found

    jobs["minigpt"] = lambda: generate(model, prompt, max_new_tokens=NEW)
    jobs["transformers, dynamic cache"] = lambda: hugging("dynamic")
    if batch == 1:  # it is compiled, which takes most of a minute
        jobs["transformers, static cache"] = lambda: hugging("static")
    texts = {name: job() for name, job in jobs.items()}
    wanted = texts["transformers, dynamic cache"][:, PROMPT:]
    equal = {
        n: float((t[:, PROMPT:] == wanted).float().mean()) for n, t in texts.items()
    }
    print(equal, flush=True)
    if dtype == torch.float32 and equal["minigpt"] < 1:
        raise SystemExit(f"expected the same text of everyone, got {equal}")
    seconds = peers.turns(jobs, DECODE_ROUNDS)
    against = [name for name in jobs if name != "minigpt"]
    return {
        "prompt": PROMPT,
        "new tokens": NEW,
        "batch": batch,
        "numbers": str(dtype).removeprefix("torch."),
        "parameters": shape.n_parameters,
        "rounds": DECODE_ROUNDS,
        "distinct tokens written": len(set(wanted[0].tolist())),
        "share of the tokens equal to transformers'": round(equal["minigpt"], 3),
        "writers": peers.compared(seconds, batch * NEW, against),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("part", choices=["step", "decode"])
    parser.add_argument("--nanogpt", type=Path, help="folder of nanoGPT's model.py")
    parser.add_argument("--few", action="store_true", help="compile two, not four")
    asked = parser.parse_args()
    nanogpt, flag = asked.nanogpt, " --nanogpt PATH" if asked.nanogpt else ""
    if asked.part == "step":
        row = step_row(nanogpt, few=asked.few)
        print(*row["runners"].items(), sep="\n  ", flush=True)
        peers.keep(RESULT, "step", {**about(f"gpu.py step{flag}"), **row})
        return 0
    for batch, dtype in itertools.product((1, 8), (torch.bfloat16, torch.float32)):
        row = decode_row(batch, dtype, nanogpt)
        print(*row["writers"].items(), sep="\n  ", flush=True)
        name = f"decode, batch {batch}, {row['numbers']}"
        peers.keep(RESULT, name, {**about(f"gpu.py decode{flag}"), **row})
    return 0


if __name__ == "__main__":
    sys.exit(main())
