"""minigpt-base on published test sets, and GPT-2's published rows beside ours.

    MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/evaluate.py
    MINIGPT_DATA=… python benchmarks/evaluate.py --model gpt2

The first command asks `minigpt-base` what `minigpt evaluate` asks: of each set of
questions a seeded draw of 1,000, of each WikiText-2 article the first 5,000 characters
(`--whole`: everything). The second repeats, on the whole sets, what the GPT-2 paper
says of one size (Radford et al. 2019, table 3), and writes our figure beside the
paper's. A row whose weights or data cannot be had says so: "not run".
"""

import argparse
import json
import random
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from minigpt.answers import Result
from minigpt.evaluate import ASKED, evaluate
from minigpt.hardware import choose
from minigpt.model import GPT
from minigpt.pretrained import load_pretrained
from minigpt.questions import USUAL, Question, load_questions
from minigpt.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
PATH = ROOT / "results" / "evaluate.json"
COMMAND = "MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/evaluate.py"
SEED, DRAWN, CHARACTERS = 0, 1000, 5000
WIKITEXT = "wikitext2-valid-test"
NOT_RUN = "not run: no network"

# Radford et al. 2019, table 3: LAMBADA accuracy in per cent and perplexity, WikiText-2.
PUBLISHED = {
    "gpt2": (45.99, 35.13, 29.41),
    "gpt2-medium": (55.48, 15.60, 22.76),
    "gpt2-large": (60.12, 10.87, 19.93),
    "gpt2-xl": (63.24, 8.63, 18.34),
}
# What the paper's column is among ours: its name, task, data, number of our figure.
COLUMNS = (
    ("LAMBADA, accuracy with stop-word filter, %", "lambada", "lambada", 1),
    ("LAMBADA, perplexity of the last word", "lambada", "lambada", 2),
    ("WikiText-2, perplexity per word", "perplexity", WIKITEXT, 2),
)


def row(result: Result, data: str, chance: str, of: int) -> dict[str, Any]:
    """A figure as it stands in the table."""
    return {
        "data": data,
        "value": round(result.value, 4),
        "interval": result.interval and [round(end, 4) for end in result.interval],
        "chance": chance,
        "n": result.n,
        "unit": result.unit,
        "of": of,
    }


def chance_of(task: str, questions: list[Question]) -> str:
    """What guessing reaches; of words there are too many to guess."""
    if task == "lambada":
        return "about 0"
    shares = [1 / len(question.candidates) for question in questions]
    return f"{sum(shares) / len(shares):.3f}"


def measured(model: GPT, tokenizer: Tokenizer, whole: bool) -> dict[str, Any]:
    """Every task's figures by what they are: shares of questions, and perplexities."""
    found: dict[str, dict[str, Any]] = {"shares": {}, "perplexities": {}}
    for task, ask in ASKED.items():
        every = load_questions(task)
        n = len(every) if whole else min(DRAWN, len(every))
        questions = random.Random(SEED).sample(every, n)
        chance = chance_of(task, questions)
        for one in ask(model, tokenizer, questions, task=task):
            lost = one.metric.startswith("perplexity")
            kind, level = ("perplexities", "none") if lost else ("shares", chance)
            name = f"{task}: {one.metric}"
            found[kind][name] = row(one, USUAL[task], level, len(every))
            print(one, flush=True)
    limit = None if whole else CHARACTERS
    text = evaluate(model, tokenizer, "perplexity", WIKITEXT, limit=limit)
    for one in text.results:
        name = f"WikiText-2: {one.metric}"
        found["perplexities"][name] = row(one, WIKITEXT, "none", one.n)
        print(one, flush=True)
    return found


def published(old: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The paper's rows and ours; those of `name` are run now if it can be had."""
    rows = {}
    for size, papers in PUBLISHED.items():
        for (column, task, data, number), paper in zip(COLUMNS, papers, strict=True):
            key = f"{size}: {column}"
            ours = old.get(key, {}).get("ours", NOT_RUN)
            if size == name:
                ours = reproduced(size, task, data, number)
            command = f"minigpt evaluate --model {size} --task {task}"
            command += f" --data {data}" * (task == "perplexity")
            rows[key] = {"paper": paper, "ours": ours, "command": f"`{command}`"}
    return rows


def reproduced(size: str, task: str, data: str, number: int) -> str:
    """Our figure with its interval, or why there is none."""
    try:
        model, tokenizer = load_pretrained(size)
        if tokenizer is None:
            raise FileNotFoundError(f"expected a tokenizer with {size}, found none")
        result = evaluate(model, tokenizer, task, data).results[number]
    except (FileNotFoundError, OSError) as error:
        print(f"{size}: {error}", file=sys.stderr)
        return NOT_RUN
    factor = 100 if "accuracy" in result.metric else 1
    ends = [factor * end for end in result.interval or ()]
    spread = " ({:.2f} to {:.2f})".format(*ends) if ends else ""
    return f"{factor * result.value:.2f}{spread}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=PUBLISHED, help="a published size to repeat")
    parser.add_argument("--whole", action="store_true", help="all of every test set")
    asked = parser.parse_args()
    begun = time.perf_counter()
    old = json.loads(PATH.read_text("utf-8")) if PATH.is_file() else {}
    base = old.get("minigpt-base", {})
    if asked.model is None or not base:
        model, tokenizer = load_pretrained("minigpt-base")
        if tokenizer is None:
            raise ValueError("expected a tokenizer with minigpt-base, found none")
        base = measured(model, tokenizer, asked.whole)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    result = {
        "command": COMMAND,
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": choose("cpu", "float32").describe(),
        "seeds": [SEED],
        "seconds": round(time.perf_counter() - begun),
        "drawn": "everything" if asked.whole else f"{DRAWN} questions of each set",
        "minigpt-base": base,
        "published": published(old.get("published", {}), asked.model),
    }
    PATH.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
