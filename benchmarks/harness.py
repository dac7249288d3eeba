"""Have lm-evaluation-harness score our saved folder, beside our own evaluation.

    pip install -e ".[bench]"
    OMP_NUM_THREADS=1 python benchmarks/harness.py

`minigpt-base` is exported in Hugging Face's layout, and the harness loads it as any
model of the hub: `AutoModelForCausalLM`, `AutoTokenizer`. The task is a YAML file of
its own: given a sentence from the letters of the harbour town, which of two comes next,
the true one or one of another letter? Harness and `minigpt evaluate` must agree on
every candidate's log-likelihood. Both read the end mark first, as in training. The
accuracy says little about the model, which was taught on other texts; the agreement
says that whatever the harness measures, it measures on the same function. `--quick`
asks few questions and writes nothing.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from minigpt.answers import multiple_choice, score_candidates
from minigpt.checkpoint import load_folder
from minigpt.hardware import choose
from minigpt.model import GPT
from minigpt.pretrained import export
from minigpt.questions import Question
from minigpt.texts import ASSETS
from minigpt.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/harness.py"
SEED, FEW = 0, 20
TASK = "which-comes-next"

YAML = """\
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{mark}{{{{goal}}}}"
doc_to_choice: "{{{{[sol1, sol2]}}}}"
doc_to_target: label
target_delimiter: " "
metric_list:
  - metric: acc
  - metric: acc_norm
metadata:
  version: 1
"""


def sentences() -> list[list[str]]:
    """The sentences of each English letter."""
    letters = sorted((ASSETS / "letters").glob("[0-9]*.txt"))
    texts = [p.read_text("utf-8") for p in letters if not p.stem.endswith("_zh")]
    flat = (" ".join(text.split()) for text in texts)
    return [re.findall(r"\S[^.!?]*[.!?]+", text) for text in flat]


def questions() -> list[dict[str, Any]]:
    """A sentence, the next one and one of another letter, in either order."""
    draw = random.Random(SEED)
    letters = [[s for s in one if 20 <= len(s) <= 120] for one in sentences()]
    letters = [one for one in letters if len(one) > 1]
    found = []
    for i, letter in enumerate(letters):
        others = letters[:i] + letters[i + 1 :]
        for goal, following in pairwise(letter):
            label = draw.randrange(2)
            pair = [following, draw.choice(draw.choice(others))]
            pair = pair[::-1] if label else pair
            found.append(
                {"goal": goal, "sol1": pair[0], "sol2": pair[1], "label": label}
            )
    return found


def ours(
    model: GPT, tokenizer: Tokenizer, rows: list[dict[str, Any]]
) -> tuple[list[list[float]], list[float]]:
    """Log-likelihood of each candidate, and the two accuracies."""
    asked = [
        Question(
            candidates=tuple((row["goal"], row[name]) for name in ("sol1", "sol2")),
            answer=row["label"],
        )
        for row in rows
    ]
    scored = score_candidates(model, tokenizer, asked)
    likelihoods = [[-float(one.nats.sum()) for one in pair] for pair in scored]
    results = multiple_choice(model, tokenizer, asked)
    return likelihoods, [result.value for result in results]


def theirs(
    folder: Path, work: Path, rows: list[dict[str, Any]], mark: str
) -> tuple[list[list[float]], list[float]]:
    """The same from the harness, which sees nothing but the folder and the YAML."""
    # The task and the model are on this disk: nothing is to be looked for elsewhere.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(work / "cache")}
    import lm_eval
    from lm_eval.tasks import TaskManager

    data = work / "questions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (work / "tasks").mkdir()
    task = YAML.format(task=TASK, data=data, mark=mark)
    (work / "tasks" / "next.yaml").write_text(task, "utf-8")
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={folder},dtype=float32",
        tasks=[TASK],
        task_manager=TaskManager(include_path=str(work / "tasks")),
        device="cpu",
        batch_size=8,
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = sorted(found["samples"][TASK], key=lambda one: one["doc_id"])
    likelihoods = [[float(r[0]) for r in one["filtered_resps"]] for one in samples]
    scores = found["results"][TASK]
    return likelihoods, [scores["acc,none"], scores["acc_norm,none"]]


def compared(model: str, work: Path, n: int | None) -> dict[str, Any]:
    """Both sides' figures on one exported model, of the first n questions."""
    folder = work / "exported"
    export(model, folder)
    gpt, tokenizer = load_folder(folder)
    if tokenizer is None:
        raise ValueError(f"expected a tokenizer with {model}, found none")
    rows = questions()[:n]
    mark = "" if tokenizer.end_id is None else tokenizer.decode([tokenizer.end_id])
    mine, accuracy = ours(gpt, tokenizer, rows)
    found, their_accuracy = theirs(folder, work, rows, mark)
    difference = (torch.tensor(mine) - torch.tensor(found)).abs().max()
    return {
        "questions": len(rows),
        "acc": {"minigpt": accuracy[0], "harness": their_accuracy[0]},
        "acc_norm": {"minigpt": accuracy[1], "harness": their_accuracy[1]},
        "largest difference of a log-likelihood, nats": float(difference),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="minigpt-base", help="folder or name")
    parser.add_argument("--quick", action="store_true", help="few, nothing written")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as work:
        n = FEW if arguments.quick else None
        found = compared(arguments.model, Path(work), n)
    print(json.dumps(found, indent=1))
    if arguments.quick or arguments.model != "minigpt-base":
        return 0
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
        "model": arguments.model,
        "lm-eval": version("lm-eval"),
        "transformers": version("transformers"),
        **found,
    }
    path = ROOT / "results" / "harness.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
