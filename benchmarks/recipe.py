"""What the parts of the training recipe are worth, one added at a time.

    OMP_NUM_THREADS=1 python benchmarks/recipe.py

One small GPT, the same 8,000 stories read once, three seeds. AdamW's rate is chosen
for AdamW by a sweep (one other seed, other stories than those of the result); Muon's
stays at the default. Writes results/recipe.json for the last section of Chapter 5.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt import stories
from minigpt.data import make_batches, pad_rows
from minigpt.hardware import choose
from minigpt.model import GPT, GPTConfig
from minigpt.run import TrainConfig
from minigpt.tokenizer import WordTokenizer
from minigpt.train import training_steps, whole_split_loss

ROOT = Path(__file__).parents[1]
SEEDS, SWEEP_SEED = (1, 2, 3), 100
RATES = (4e-3, 8e-3, 16e-3, 32e-3)
N_STORIES, N_WATCHED, N_TEST = 8_000, 200, 500
MODEL = GPTConfig(vocab_size=576, context_length=128, n_layer=2, n_head=4, d_model=64)
# The shape of minigpt-stories: at 64 channels the products are too small for bfloat16.
LARGER = replace(MODEL, n_layer=4, d_model=96)
PLAIN = TrainConfig(
    steps=N_STORIES // 8,
    batch_size=8,
    optimizer="adamw",
    schedule="cosine",
    device="cpu",
    precision="float32",
)
TOKENIZER = WordTokenizer()


def rows(n: int, seed: int = 0) -> torch.Tensor:
    """One padded row of tokens for each story."""
    end = TOKENIZER.encode(stories.END)
    told = (story.text for story in stories.corpus(n, seed=seed))
    return pad_rows([[*end, *TOKENIZER.encode(text), *end] for text in told])


def floor(n: int, seed: int) -> float:
    """The true loss of these stories, in nats per word."""
    nats = [stories.surprisal(s.text) for s in stories.corpus(n, seed=seed)]
    return sum(map(sum, nats)) / sum(map(len, nats))


def trained(config: TrainConfig, train: torch.Tensor) -> GPT:
    """A new model after one run."""
    torch.manual_seed(config.seed)
    model = GPT(MODEL)
    batches = make_batches(
        train, context_length=128, batch_size=config.batch_size, seed=config.seed
    )
    for _ in training_steps(model, batches, config):
        pass
    return model


def step_times(shape: GPTConfig, config: TrainConfig, train: torch.Tensor) -> Any:
    """Seconds of a step under AdamW, Muon and Muon in bfloat16, taken in turns."""
    kinds = {
        "adamw": replace(config, optimizer="adamw", steps=10**6),
        "muon": replace(config, optimizer="muon", steps=10**6),
        "muon, bfloat16": replace(
            config, optimizer="muon", precision="bfloat16", steps=10**6
        ),
    }
    loops = {}
    for name, kind in kinds.items():
        batches = make_batches(train, context_length=128, batch_size=kind.batch_size)
        loops[name] = training_steps(GPT(shape), batches, kind)
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(24):
        for name, loop in loops.items():
            # Processor time: the machine may be busy with something else.
            start = time.process_time()
            for _ in range(3):
                next(loop)
            if turn >= 4:
                taken[name].append((time.process_time() - start) / 3)
    return {name: round(statistics.median(times), 4) for name, times in taken.items()}


def regret_of(
    config: TrainConfig, train: Tensor, test: Tensor, lowest: float
) -> dict[str, Any]:
    """Regret per word on the test stories, over the seeds."""
    found = [
        whole_split_loss(trained(replace(config, seed=seed), train), test) - lowest
        for seed in SEEDS
    ]
    result = {
        "regret": round(statistics.mean(found), 4),
        "sd": round(statistics.stdev(found), 4),
        "steps": config.steps,
    }
    print(result, flush=True)
    return result


def commit() -> str:
    """The commit that is measured."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    torch.set_num_threads(1)
    first = stories.VALIDATION_SEED
    train = rows(N_STORIES)
    watched, test = rows(N_WATCHED, first), rows(N_TEST, first + N_WATCHED)
    lowest = floor(N_TEST, first + N_WATCHED)

    sweep = {}
    for lr in RATES:
        config = replace(PLAIN, seed=SWEEP_SEED, learning_rate=lr)
        sweep[lr] = whole_split_loss(trained(config, train), watched)
        print(f"rate {lr}: {sweep[lr]:.4f}", flush=True)
    tuned = replace(PLAIN, learning_rate=min(sweep, key=lambda lr: sweep[lr]))
    times = {
        "recipe": step_times(MODEL, PLAIN, train),
        "minigpt-stories": step_times(LARGER, replace(PLAIN, batch_size=16), train),
    }
    print(times, flush=True)
    slower = times["recipe"]["muon"] / times["recipe"]["adamw"]
    muon = replace(PLAIN, optimizer="muon", schedule="wsd")
    variants = {
        "adamw, cosine": tuned,
        "adamw, wsd": replace(tuned, schedule="wsd"),
        "adamw, cosine, as long as muon": replace(
            tuned, steps=round(PLAIN.steps * slower)
        ),
        "muon, cosine": replace(muon, schedule="cosine"),
        "muon, wsd": muon,
        "muon, wsd, bfloat16": replace(muon, precision="bfloat16"),
    }
    regrets = {
        name: regret_of(config, train, test, lowest)
        for name, config in variants.items()
    }
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/recipe.py",
        "commit": commit(),
        "date": date.today().isoformat(),
        "device": choose("cpu", "float32").describe(),
        "seeds": SEEDS,
        "stories": {"training": N_STORIES, "watched": N_WATCHED, "test": N_TEST},
        "parameters": MODEL.n_parameters,
        "floor": round(lowest, 4),
        "adamw rates, loss on watched stories": {
            f"{lr:g}": round(loss, 4) for lr, loss in sweep.items()
        },
        "adamw rate": tuned.learning_rate,
        "seconds per step": times,
        "variants": regrets,
    }
    path = ROOT / "results" / "recipe.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
