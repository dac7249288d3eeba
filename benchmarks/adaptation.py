"""What a new domain costs the old one: minigpt-base reads on, in letters.

    MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/adaptation.py

Domain-adaptive pretraining (Gururangan et al. 2020): the same loss, another text. The
model goes on with the letters' training part, alone or with as many windows of the
books it grew up on in each batch (replay). The rate is chosen on the last tenth of the
training part; the letters' validation part and the three unseen books are only
measured. Writes results/adaptation.json for Chapter 7.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt.data import Batch, encode_text, make_batches
from minigpt.hardware import choose
from minigpt.model import GPT
from minigpt.pretrained import load_pretrained
from minigpt.run import TrainConfig
from minigpt.texts import Text, load_text, split_text
from minigpt.tokenizer import Tokenizer
from minigpt.train import training_steps, whole_split_loss

ROOT = Path(__file__).parents[1]
MODEL = "minigpt-base"
SEEDS, SWEEP_SEED = (1, 2, 3), 100
RATES = (1e-4, 3e-4, 1e-3)
# Each batch holds 8 windows of letters: 16 steps read about as much as there is.
STEPS, LOOK_EVERY, BATCH = 96, 16, 8
BOOK_TOKENS = 60_000


def config_for(rate: float, seed: int) -> TrainConfig:
    """A constant rate, so that every point of the curve is a run of that length."""
    return TrainConfig(
        steps=STEPS,
        batch_size=BATCH,
        optimizer="adamw",
        learning_rate=rate,
        schedule="constant",
        warmup=4,
        seed=seed,
        device="cpu",
    )


def mixed(first: Iterator[Batch], second: Iterator[Batch]) -> Iterator[Batch]:
    """Batches with the rows of both."""
    for one, other in zip(first, second, strict=False):
        yield Batch(*(torch.cat(pair) for pair in zip(one, other, strict=True)))


def bits_per_byte(model: GPT, tokens: Tensor, n_bytes: int) -> float:
    """Bits per byte over windows that do not overlap."""
    hardware = choose("cpu", "auto")
    nats = whole_split_loss(model, tokens, hardware=hardware) * (len(tokens) - 1)
    return nats / n_bytes / 0.6931471805599453


def encoded(tokenizer: Tokenizer, text: str) -> tuple[Tensor, int]:
    """Tokens and bytes of running text."""
    return encode_text(Text("t", text, ""), text, tokenizer), len(text.encode())


def curve(
    config: TrainConfig, train: Tensor, replay: Tensor | None, held: dict[str, Any]
) -> list[dict[str, float]]:
    """Bits per byte of each held-out text after 0, 16, 32 … steps."""
    torch.manual_seed(config.seed)
    model, _ = load_pretrained(MODEL)
    size = model.config.context_length

    def batches(tokens: Tensor) -> Iterator[Batch]:
        return iter(
            make_batches(
                tokens, context_length=size, batch_size=BATCH, seed=config.seed
            )
        )

    stream = batches(train)
    if replay is not None:
        stream = mixed(stream, batches(replay))
    found = [{name: bits_per_byte(model, *text) for name, text in held.items()}]
    for record in training_steps(model, stream, config):
        if record.step % LOOK_EVERY == 0:
            model.eval()
            found.append(
                {name: bits_per_byte(model, *text) for name, text in held.items()}
            )
    return found


def summary(runs: list[list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds at each look."""
    rows = []
    for i in range(len(runs[0])):
        row: dict[str, Any] = {"steps": i * LOOK_EVERY}
        for name in runs[0][i]:
            values = [run[i][name] for run in runs]
            row[name] = round(statistics.mean(values), 4)
            row[f"{name} sd"] = round(statistics.stdev(values), 4)
        rows.append(row)
    return rows


def main() -> int:
    _, tokenizer = load_pretrained(MODEL)
    assert tokenizer is not None
    letters, books = load_text("letters"), load_text("gutenberg-prose")
    inner = split_text("tuning", letters.train)
    train, _ = encoded(tokenizer, letters.train)
    replay, _ = encoded(tokenizer, books.train[:4_000_000])
    opened = "\n\n".join(
        text[: 4 * BOOK_TOKENS // 3] for text in books.documents(books.validation)
    )
    paragraphs = letters.validation.split("\n\n")
    english = "\n\n".join(p for p in paragraphs if p.isascii())
    chinese = "\n\n".join(p for p in paragraphs if not p.isascii())
    held = {
        "English letters": encoded(tokenizer, english),
        "Chinese letters": encoded(tokenizer, chinese),
        "books": encoded(tokenizer, opened),
    }

    shorter, watched = (
        encoded(tokenizer, inner.train)[0],
        encoded(tokenizer, inner.validation),
    )
    sweep = {}
    for rate in RATES:
        seen = curve(config_for(rate, SWEEP_SEED), shorter, None, {"letters": watched})
        sweep[f"{rate:g}"] = round(seen[-1]["letters"], 4)
        print(rate, sweep[f"{rate:g}"], flush=True)
    best = float(min(sweep, key=lambda rate: sweep[rate]))

    variants = {}
    for name, old in (("letters alone", None), ("half books", replay)):
        runs = [curve(config_for(best, seed), train, old, held) for seed in SEEDS]
        variants[name] = summary(runs)
        print(name, json.dumps(variants[name][-1]), flush=True)
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    result = {
        "command": "MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/adaptation.py",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": choose("cpu", "auto").describe(),
        "seeds": SEEDS,
        "model": MODEL,
        "rate": best,
        "rates, bits per byte of the last tenth of the training letters": sweep,
        "bytes": {name: n for name, (_, n) in held.items()},
        "variants": variants,
    }
    path = ROOT / "results" / "adaptation.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
