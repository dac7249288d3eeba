"""nanoGPT's own recipe for a GPU, tinyshakespeare's characters, beside this package's.

    MINIGPT_DATA=… python benchmarks/gpu_quality.py --sweep
    MINIGPT_DATA=… python benchmarks/gpu_quality.py --nanogpt PATH

The first command tries lengths of a run and dropout, one seed each: trained on the
first 81 % of the text, judged on the next 9 %. The second runs nanoGPT's train.py as it
is published for a GPU, and this package on the same shape with what the first chose;
both are measured once on the whole validation split, in windows of 256 that do not
overlap. nanoGPT keeps the checkpoint that its own estimate of the validation loss likes
best. Kept in results/gpu.json.
"""

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from gpu import CUDA, RESULT, about
from torch import Tensor

from minigpt import GPT, CharTokenizer, GPTConfig, TrainConfig, load_text
from minigpt.data import make_batches
from minigpt.train import training_steps, whole_split_loss

# nanoGPT's config/train_shakespeare_char.py.
CHARACTERS = GPTConfig(
    vocab_size=65,
    context_length=256,
    n_layer=6,
    n_head=6,
    d_model=384,
    bias=False,
    dropout=0.2,
)
WINDOWS, NANO_STEPS, SEEDS = 64, 5000, (1, 2, 3)
# (steps, dropout): nanoGPT's text has a million characters and is soon known by heart.
TRIED = ((1000, 0.2), (1000, 0.3), (1500, 0.3), (1500, 0.4), (2500, 0.4), (2500, 0.5))


def recipe(steps: int, seed: int) -> TrainConfig:
    """This package's defaults, on nanoGPT's windows."""
    return TrainConfig(
        steps=steps,
        batch_size=WINDOWS,
        seed=seed,
        warmup=100,
        device="cuda",
        precision="bfloat16",
    )


def trained(
    tokens: Tensor, shape: GPTConfig, steps: int, seed: int
) -> tuple[GPT, float]:
    """A model after its run, and the seconds that it took."""
    torch.manual_seed(seed)
    model = GPT(shape)
    batches = make_batches(
        tokens, context_length=shape.context_length, batch_size=WINDOWS, seed=seed
    )
    start = time.perf_counter()
    for _ in training_steps(model, batches, recipe(steps, seed)):
        pass
    return model, time.perf_counter() - start


def characters() -> tuple[CharTokenizer, Tensor, Tensor]:
    """tinyshakespeare: the tokenizer, the first 90 %, the last 10 %."""
    text = load_text("tinyshakespeare")
    tokenizer = CharTokenizer.train(text.train)
    train, held = (
        torch.tensor(tokenizer.encode(part), dtype=torch.int32)
        for part in (text.train, text.validation)
    )
    return tokenizer, train, held


def sweep() -> list[dict[str, Any]]:
    """Each of `TRIED` on the first 81 % of the text, judged on the next 9 %."""
    _, tokens, _ = characters()
    cut = int(0.9 * len(tokens))
    rows = []
    for steps, dropout in TRIED:
        shape = replace(CHARACTERS, dropout=dropout)
        model, seconds = trained(tokens[:cut], shape, steps, 100)
        loss = whole_split_loss(model, tokens[cut:])
        row = {"steps": steps, "dropout": dropout, "loss": round(loss, 4)}
        rows.append(row | {"seconds": round(seconds, 1)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def nano_run(folder: Path) -> dict[str, Any]:
    """nanoGPT's train.py as it is published; its checkpoint on the whole split."""
    tokenizer, train, held = characters()
    data = folder / "data" / "shakespeare_char"
    data.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("val", held)):
        part.numpy().astype(np.uint16).tofile(data / f"{name}.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": tokenizer.vocab_size}))
    start = time.perf_counter()
    script = [sys.executable, "train.py", "config/train_shakespeare_char.py"]
    subprocess.run(script, cwd=folder, check=True)
    seconds = time.perf_counter() - start
    kept = torch.load(
        folder / "out-shakespeare-char" / "ckpt.pt",
        map_location=CUDA,
        weights_only=False,
    )
    state = {
        name.removeprefix("_orig_mod."): value for name, value in kept["model"].items()
    }
    theirs: Any = peers.nanogpt(
        GPT(replace(CHARACTERS, dropout=0.0)), folder, tanh=False
    )
    theirs.load_state_dict(state)
    theirs = theirs.to(CUDA).eval()
    context, total = CHARACTERS.context_length, 0.0
    tokens = held.long().to(CUDA)
    with torch.inference_mode():
        for start_at in range(0, len(tokens) - 1, context):
            row = tokens[start_at : start_at + context + 1][None]
            loss = theirs(row[:, :-1], row[:, 1:])[1]
            total += loss.item() * (row.shape[1] - 1)
    return {
        "loss": round(total / (len(tokens) - 1), 4),
        "steps": NANO_STEPS,
        "step kept, by the validation split": kept["iter_num"],
        "windows in a step": WINDOWS,
        "seconds, its evaluations and compilation in": round(seconds, 1),
        "seeds": 1,
    }


def our_run(steps: int, dropout: float, seed: int) -> dict[str, Any]:
    """One seed on the first 90 %; the whole validation split, once."""
    _, train, held = characters()
    model, seconds = trained(train, replace(CHARACTERS, dropout=dropout), steps, seed)
    loss = whole_split_loss(model, held)
    return {"seed": seed, "loss": round(loss, 4), "seconds": round(seconds, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nanogpt", type=Path, help="folder of nanoGPT's files")
    parser.add_argument("--sweep", action="store_true", help="try recipes")
    asked = parser.parse_args()
    if asked.sweep:
        made_by = about("gpu_quality.py --sweep")
        said = "trained on the first 81 % of the text, judged on the next 9 %"
        found = {**made_by, "protocol": said, "seed": 100, "tried": sweep()}
        peers.keep(RESULT, "shakespeare, sweep", found)
        return 0
    tried = json.loads(RESULT.read_text("utf-8"))["rows"]["shakespeare, sweep"]
    best = min(tried["tried"], key=lambda row: row["loss"])
    runs = [our_run(best["steps"], best["dropout"], seed) for seed in SEEDS]
    losses = [run["loss"] for run in runs]
    systems: dict[str, Any] = {
        "minigpt": {
            "loss": round(statistics.mean(losses), 4),
            "sd": round(statistics.stdev(losses), 4),
            "runs": runs,
            "steps": best["steps"],
            "dropout": best["dropout"],
            "windows in a step": WINDOWS,
            "seeds": len(SEEDS),
        }
    }
    if asked.nanogpt is not None:
        systems["nanoGPT"] = nano_run(asked.nanogpt)
    row = {"parameters": CHARACTERS.n_parameters, "systems": systems}
    print(json.dumps(row, indent=1), flush=True)
    flag = " --nanogpt PATH" if asked.nanogpt else ""
    peers.keep(RESULT, "shakespeare", {**about(f"gpu_quality.py{flag}"), **row})
    return 0


if __name__ == "__main__":
    sys.exit(main())
