"""Train minigpt-stories, measure its regret, and write it down with its model card.

    OMP_NUM_THREADS=1 python benchmarks/stories.py

64,000 stories, each read once by a GPT of half a million weights, with the defaults of
TrainConfig. The weights are rounded to bfloat16, saved in minigpt/assets and loaded
again; what is measured is what is shipped. The stories it is measured on are others
than those that were watched during training. A killed run goes on from runs/stories.
"""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minigpt import ngram, stories
from minigpt.checkpoint import load_folder, save_pretrained
from minigpt.data import pad_rows
from minigpt.hardware import choose
from minigpt.model import GPT, GPTConfig
from minigpt.regret import xray
from minigpt.run import StepRecord, TrainConfig
from minigpt.texts import ASSETS
from minigpt.tokenizer import WordTokenizer
from minigpt.train import fit

ROOT = Path(__file__).parents[1]
OUT = ROOT / "runs" / "stories"
ASSET = ASSETS / "minigpt-stories"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/stories.py"

N_TRAIN, N_WATCHED, N_TEST = 64_000, 200, 1_000
ORDERS = (3, 5, 7)
CONFIG = TrainConfig(steps=N_TRAIN // 16, batch_size=16, eval_every=500)
SHAPE: dict[str, Any] = {
    "context_length": 128,
    "n_layer": 4,
    "n_head": 4,
    "d_model": 96,
}

CARD = """\
---
license: cc0-1.0
language: en
---
# minigpt-stories

A GPT of {parameters:,} weights that tells small stories of one harbour town, made for
the textbook it ships with. It is an instrument: the text that it was trained on has a
known probability at every word, so its distance from the truth can be measured.

| | |
|---|---|
| data | {n_train:,} stories of `minigpt.stories`, seeds 0 to {last}, each read once |
| shape | {n_layer} layers, {n_head} heads, {d_model} wide, {context_length} places |
| recipe | defaults of `TrainConfig` (Muon, WSD); {steps:,} steps of 16 stories |
| seed, precision | {seed}; {precision}, weights stored in bfloat16, loaded as float32 |
| trained on | {device}, {minutes:.0f} minutes |
| mean regret | {regret:.4f} ± {error:.4f} nats per word (± standard error, n = {n}) |
| loss, floor | {loss:.4f} and {floor:.4f} nats per word on the same {n} stories |
| counting | Kneser–Ney, order {order}, same training: regret {counts:.3f} |
| licence | CC0 1.0, weights and card |

**Curve.** Validation loss in nats per word on {n_watched} stories, other than those of
the result: {curve}.

**Limits.** It knows {vocabulary} words, was shown nothing but such stories, and starts
each of them from the end mark. It is no model of English, answers no questions, and on
any other text its probabilities mean nothing.

Load it with `minigpt.load_pretrained("minigpt-stories")`. Made by
`{command}`; its numbers stand in `results/stories.json`.
"""


class Printed:
    """A line for each validation."""

    def __call__(self, record: StepRecord) -> bool:
        """Never asks the run to stop."""
        if record.validation_loss is not None:
            print(record.step, f"{record.validation_loss:.4f}", flush=True)
        return False


def rows_of(texts: list[str], tokenizer: WordTokenizer) -> torch.Tensor:
    """One padded row of tokens for each story, an end mark on either side."""
    end = tokenizer.encode(stories.END)
    return pad_rows([[*end, *tokenizer.encode(text), *end] for text in texts])


def measured(model: Any, tokenizer: WordTokenizer, tales: list[str]) -> dict[str, Any]:
    """Mean regret per word, its standard error over stories, the loss and the floor."""
    seen = [xray(model, tokenizer, tale) for tale in tales]
    words = np.array([len(one.words) for one in seen])
    nats = np.array([one.regret.sum() for one in seen])
    mean = nats.sum() / words.sum()
    # A story's words share its surprises, so the story is the unit of chance.
    spread = (nats - mean * words).std(ddof=1) / words.mean()
    return {
        "regret": float(mean),
        "standard error": float(spread / np.sqrt(len(tales))),
        "loss": float(sum(one.model.sum() for one in seen) / words.sum()),
        "floor": float(sum(one.truth.sum() for one in seen) / words.sum()),
    }


def card(result: dict[str, Any]) -> str:
    """The model card of one run."""
    counts, found = result["kneser-ney by order"], result["minigpt-stories"]
    best = min(counts, key=lambda order: counts[order]["regret"])
    curve = result["validation loss"].items()
    return CARD.format(
        **SHAPE,
        **{name: found[name] for name in ("regret", "loss", "floor")},
        error=found["standard error"],
        parameters=result["parameters"],
        vocabulary=WordTokenizer().vocab_size,
        n_train=N_TRAIN,
        last=N_TRAIN - 1,
        n_watched=N_WATCHED,
        n=N_TEST,
        steps=CONFIG.steps,
        seed=CONFIG.seed,
        precision="bfloat16" if "bfloat16" in result["device"] else "float32",
        device=", ".join(result["device"].split(", ")[:2]),
        minutes=result["seconds"] / 60,
        order=best,
        counts=counts[best]["regret"],
        curve=", ".join(f"{loss:.3f} after {step}" for step, loss in curve),
        command=COMMAND,
    )


def counted(
    told: list[str], tokenizer: WordTokenizer, test: list[str]
) -> dict[str, dict[str, float]]:
    """What Kneser–Ney reaches on the same stories, by order."""
    sequences = [tokenizer.encode(f"{text} {stories.END}") for text in told]
    size = tokenizer.vocab_size
    return {
        str(n): measured(
            ngram.NGram.train(sequences, order=n, vocab_size=size), tokenizer, test
        )
        for n in ORDERS
    }


def main() -> int:
    tokenizer = WordTokenizer()
    seeds = stories.VALIDATION_SEED
    told = [story.text for story in stories.corpus(N_TRAIN)]
    held = [s.text for s in stories.corpus(N_WATCHED + N_TEST + 200, seed=seeds)]
    # Two seeds can tell the same story; what is measured must be new to the model.
    known = set(told)
    held = list(dict.fromkeys(text for text in held if text not in known))
    watched, test = held[:N_WATCHED], held[N_WATCHED : N_WATCHED + N_TEST]

    torch.manual_seed(CONFIG.seed)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, **SHAPE))
    records = fit(
        model,
        rows_of(told, tokenizer),
        rows_of(watched, tokenizer),
        CONFIG,
        out=OUT,
        callbacks=[Printed()],
        tokenizer=tokenizer,
    )
    save_pretrained(model, tokenizer, ASSET, dtype=torch.bfloat16)
    shipped = load_folder(ASSET).model

    found = measured(shipped, tokenizer, test)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    hardware = choose(CONFIG.device, CONFIG.precision).describe()
    result: dict[str, Any] = {
        "command": COMMAND,
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": hardware,
        "seed": CONFIG.seed,
        "parameters": model.config.n_parameters,
        "stories": {"training": N_TRAIN, "watched": N_WATCHED, "test": N_TEST},
        "steps": CONFIG.steps,
        "seconds": round(sum(record.seconds for record in records), 1),
        "minigpt-stories": found,
        "kneser-ney by order": counted(told, tokenizer, test),
        "validation loss": {
            str(r.step): round(r.validation_loss, 4)
            for r in records
            if r.validation_loss is not None
        },
    }
    path = ROOT / "results" / "stories.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    (ASSET / "README.md").write_text(card(result), "utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
