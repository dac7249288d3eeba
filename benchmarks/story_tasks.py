"""Six tasks about the stories: what pretraining is worth, and what the input decides.

    OMP_NUM_THREADS=1 python benchmarks/story_tasks.py [--jobs 6] [--device auto]

minigpt-stories (half a million weights) against the same network from random
initialisation, on tasks drawn from the stories' facts: the same examples, epochs and
test part. Each network's rate is chosen for each kind of task on validation, at
difficulty 2 with 500 examples; each seed draws other examples. Then what no network
should be able to do, and what the order of a row decides:

    blind      who never reads the story: naive Bayes, regression, the decoder itself
    question   spans, asked before the story and after it
    mentions   the role of a person, tagged as the name comes, or asked at the end
    judged     which answers an accuracy of two thirds is made of
    auxiliary  GPT-1's second loss, at three weights

Writes results/story_tasks.json after each part, and goes on where it was interrupted.
"""

import argparse
import json
import multiprocessing
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import torch
from story_orders import mentions, question

from minigpt import stories
from minigpt.adapt.finetune import Finetuned, finetune
from minigpt.adapt.heads import grow
from minigpt.adapt.loop import FinetuneConfig
from minigpt.adapt.metrics import METRICS, Score, over_seeds
from minigpt.answers import wilson
from minigpt.checkpoint import Pretrained
from minigpt.hardware import choose
from minigpt.labelled import Example, Task, shuffled
from minigpt.model import GPT
from minigpt.pretrained import load_pretrained
from minigpt.story_tasks import MAKERS, stories_task
from minigpt.tokenizer import WordTokenizer

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "story_tasks.json"
MODEL, RANDOM = "minigpt-stories", "random initialisation"
SEEDS, SWEEP_SEED = (1, 2, 3), 100
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
EPOCHS = {125: 12, 500: 8, 2000: 4}
# Difficulty and training examples; the first row is where rates are chosen.
ROWS = ((2, 500), (1, 500), (3, 500), (2, 125), (2, 2000))
ROOM = {"summary": 24, "chinese": 40}  # tokens to write, at most
N_TRAIN, N_TEST = 2_000, 2_000
SHOWN = 3  # outputs kept of the first seed, to look at


# Tasks and networks.
@cache
def whole(kind: str, dial: int) -> Task:
    """All that is drawn; 200 validation examples decide."""
    return stories_task(kind, N_TRAIN, 0, dial, n_test=N_TEST)


def drawn(kind: str, dial: int, n: int, seed: int) -> Task:
    """So many training examples, other ones for each seed."""
    task = whole(kind, dial)
    order = shuffled(["\n".join(e.texts) for e in task.train], seed)
    return replace(task, train=[task.train[i] for i in order[:n]])


def network(system: str, kind: str, seed: int) -> Pretrained:
    """Pretrained or drawn at random; for Chinese both get new rows for its letters."""
    model, tokenizer = load_pretrained("minigpt-stories")
    assert isinstance(tokenizer, WordTokenizer)
    torch.manual_seed(seed)
    if system == RANDOM:
        model = GPT(model.config)
    if kind == "chinese":
        told = [story.chinese for story in stories.corpus(1_000)]
        more = set(WordTokenizer.train(told).words) - set(tokenizer.words)
        grow(model, len(more))
        tokenizer = WordTokenizer([*tokenizer.words, *sorted(more)])
    return Pretrained(model, tokenizer)


def config_for(kind: str, n: int, rate: float, seed: int, device: str) -> Any:
    """The settings of one run; all else is the default."""
    return FinetuneConfig(
        epochs=EPOCHS[n],
        learning_rate=rate,
        patience=None,
        room=ROOM.get(kind, 32),
        seed=seed,
        device=device,
        precision="float32",
    )


def tuned(system: str, kind: str, device: str) -> dict[str, Any]:
    """The rate of a network for a kind of task, by validation alone."""
    dial, n = ROWS[0]
    task = drawn(kind, dial, n, SWEEP_SEED)
    # Nothing is said about the test part here: a little validation stands in its place.
    task = replace(task, test=task.validation[:2])
    found = {}
    for rate in RATES:
        base = network(system, kind, SWEEP_SEED)
        run = finetune(base, task, config_for(kind, n, rate, SWEEP_SEED, device))
        found[f"{rate:g}"] = round(max(r.validation for r in run.records), 4)
    best = max(found, key=lambda rate: found[rate])
    return {"validation": found, "metric": run.records[0].metric, "rate": float(best)}


# The record.
def summary(kind: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of the first metric over seeds, its interval, and the runs."""
    metric = next(iter(METRICS[MAKERS[kind][0]]))
    mean = over_seeds([Score(metric, *run["scores"][metric], N_TEST) for run in runs])
    figures = {key: round(getattr(mean, key), 4) for key in ("value", "low", "high")}
    return {**figures, "runs": list(runs)}


def recorded(run: Finetuned, seed: int) -> dict[str, Any]:
    """Scores with their intervals over the test examples, and what else was counted."""
    report = run.report
    found = {
        name: [round(x, 4) for x in (s.value, s.low, s.high)]
        for name, s in report.scores.items()
    }
    cut = {part: list(some) for part, some in report.cut.items()}
    seconds = round(report.seconds, 1)
    return {"seed": seed, "scores": found, "cut": cut, "seconds": seconds}


def learned(system: str, kind: str, device: str) -> dict[str, Any]:
    """A network's rate, and its figure in each row."""
    tuning = tuned(system, kind, device)
    rows = {}
    for dial, n in ROWS:
        runs = []
        for seed in SEEDS:
            task = drawn(kind, dial, n, seed)
            config = config_for(kind, n, tuning["rate"], seed, device)
            run = finetune(network(system, kind, seed), task, config)
            runs.append(recorded(run, seed))
            if kind in ROOM and seed == SEEDS[0]:
                said = run.adapted.predict(task.test[:SHOWN])
                runs[-1]["written"] = [
                    {"text": e.text, "due": e.label, "written": s.answer}
                    for e, s in zip(task.test, said, strict=False)
                ]
        rows[f"{dial}, {n}"] = summary(kind, runs)
        print(kind, system, dial, n, rows[f"{dial}, {n}"]["value"], flush=True)
    return {"tuning": tuning, "rows": rows}


# Who never reads the story.
def blind(device: str) -> dict[str, Any]:
    """Accuracy of three readers that see the claims, or the endings, and no more."""
    found = {}
    for kind in ("entailment", "choice"):
        for dial in (1, 2, 3):
            task = whole(kind, dial)
            hits = _by_counts(task)
            hits[f"{MODEL}, fine-tuned"] = _by_decoder(task, kind, device)
            n = len(task.test)
            found[f"{kind}, {dial}"] = {
                name: {
                    "value": round(h / n, 4),
                    "interval": [round(x, 4) for x in wilson(h, n)],
                }
                for name, h in hits.items()
            } | {"n": n}
            print("blind", kind, dial, found[f"{kind}, {dial}"], flush=True)
    return found


def _by_counts(task: Task) -> dict[str, int]:
    """Hits of naive Bayes and of logistic regression over runs of up to three words."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    right = np.array([e.label for e in task.test])
    hits = {}
    for name, model in (
        ("naive Bayes", MultinomialNB()),
        ("logistic regression", LogisticRegression(max_iter=2000)),
    ):
        counter = CountVectorizer(ngram_range=(1, 3), token_pattern=r"\w+")
        reader = make_pipeline(counter, model)
        if task.kind == "classes":
            reader.fit([e.text_pair for e in task.train], [e.label for e in task.train])
            said = reader.predict([e.text_pair for e in task.test])
        else:
            pairs = [(c, i == e.label) for e in task.train for i, c in _endings(e)]
            reader.fit([c for c, _ in pairs], [fits for _, fits in pairs])
            every = [c for e in task.test for _, c in _endings(e)]
            said = reader.predict_proba(every)[:, 1].reshape(-1, 2).argmax(1)
        hits[name] = int((said == right).sum())
    return hits


def _endings(example: Example) -> list[tuple[int, str]]:
    return list(enumerate(example.choices))


def _by_decoder(task: Task, kind: str, device: str) -> int:
    """Hits of the decoder, fine-tuned where every story is the same two words."""

    def unread(example: Example) -> Example:
        if example.text_pair is not None:
            return Example(example.text_pair, example.label)
        return example._replace(text="In Ternhaven.")

    parts = {p: [unread(e) for e in getattr(task, p)] for p in ("train", "validation")}
    own = replace(task, **parts, test=[unread(e) for e in task.test])
    config = config_for(kind, N_TRAIN, 1e-3, SEEDS[0], device)
    run = finetune(network(MODEL, kind, SEEDS[0]), own, config)
    return round(run.report.scores["accuracy"].value * len(task.test))


# What a score hides, and what a second loss does.
def judged(device: str, rate: float = 3e-3) -> dict[str, Any]:
    """Of each answer (a row) how often each was said (a column), at 2,000 examples."""
    found: dict[str, Any] = {"rate": rate, "test": N_TEST}
    task = drawn("entailment", 2, N_TRAIN, SEEDS[0])
    config = config_for("entailment", N_TRAIN, rate, SEEDS[0], device)
    run = finetune(network(MODEL, "entailment", SEEDS[0]), task, config)
    assert run.report.confusion is not None
    found["labels"] = list(task.labels)
    found["confusion"] = run.report.confusion.tolist()
    found["accuracy"] = round(run.report.scores["accuracy"].value, 4)
    print("judged", found, flush=True)
    return found


def auxiliary(device: str, rate: float = 1e-3) -> dict[str, Any]:
    """Entailment at difficulty 2 with 500 examples, with λ times the stories' loss."""
    found: dict[str, Any] = {"rate": rate}
    for weight in (0.0, 0.5, 2.0):
        some = []
        for seed in SEEDS:
            config = config_for("entailment", 500, rate, seed, device)
            run = finetune(
                network(MODEL, "entailment", seed),
                drawn("entailment", 2, 500, seed),
                replace(config, lm_weight=weight),
            )
            some.append(run.report.scores["accuracy"])
        found[f"{weight:g}"] = _spread(some)
        print("auxiliary", weight, found[f"{weight:g}"], flush=True)
    return found


def _spread(some: Sequence[Score]) -> dict[str, Any]:
    mean = over_seeds(some)
    figures = {key: round(getattr(mean, key), 4) for key in ("value", "low", "high")}
    return {**figures, "each": [round(one.value, 4) for one in some], "n": some[0].n}


# The whole.
PARTS: dict[str, tuple[Callable[..., dict[str, Any]], tuple[Any, ...]]] = {
    "blind": (blind, ()),
    "judged": (judged, ()),
    "auxiliary": (auxiliary, ()),
    "question": (question, (SEEDS,)),
    "mentions": (mentions, (SEEDS,)),
    **{
        f"{kind}, {system}": (learned, (system, kind))
        for kind in MAKERS
        for system in (MODEL, RANDOM)
    },
}


def one_part(name: str, device: str) -> dict[str, Any]:
    """A part, in a process of its own."""
    torch.set_num_threads(1)
    make, arguments = PARTS[name]
    return make(*arguments, device)


def gathered(parts: dict[str, Any]) -> dict[str, Any]:
    """Rows with both systems side by side, and who is ahead outside the intervals."""
    rows: dict[str, Any] = {}
    for kind in MAKERS:
        both = {s: parts[f"{kind}, {s}"] for s in (MODEL, RANDOM)}
        metric = next(iter(METRICS[MAKERS[kind][0]]))
        for dial, n in ROWS:
            row: dict[str, Any] = {"metric": metric, "test": N_TEST}
            for name, system in (("pretrained", MODEL), ("random", RANDOM)):
                found = both[system]["rows"][f"{dial}, {n}"]
                row[name] = {
                    "value": found["value"],
                    "interval": [found["low"], found["high"]],
                    "each": [run["scores"][metric][0] for run in found["runs"]],
                }
            ahead = row["pretrained"]["interval"][0] > row["random"]["interval"][1]
            row["pretrained is ahead"] = "yes" if ahead else "no"
            rows[f"{kind}, difficulty {dial}, {n} examples"] = row
    return rows


def main() -> int:
    """Run what the record lacks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--only", nargs="*", default=list(PARTS), help="these parts")
    asked = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    record: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/story_tasks.py",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": f"{choose(asked.device, 'float32').describe()}, {platform.machine()}",
        "model": MODEL,
        "seeds": list(SEEDS),
        "intervals": "95 %: of a run over its test examples (bootstrap; a share's is "
        "Wilson's), of a mean over its seeds (Student's t)",
        "rows": {},
        "parts": {},
    }
    if OUT.is_file():
        record |= json.loads(OUT.read_text("utf-8"))
    waiting = [name for name in asked.only if name not in record["parts"]]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.jobs, spawn) as pool:
        running = {pool.submit(one_part, name, asked.device): name for name in waiting}
        for done in as_completed(running):
            record["parts"][running[done]] = done.result()
            write(record)
    if record["parts"].keys() >= PARTS.keys():
        record["rows"] = gathered(record["parts"])
        write(record)
    return 0


def write(record: dict[str, Any]) -> None:
    """Put the record beside the others, whole or not at all."""
    new = OUT.with_suffix(".new")
    new.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", "utf-8")
    new.replace(OUT)


if __name__ == "__main__":
    sys.exit(main())
