"""What fine-tuning gives on real tasks, beside an untrained network and TF-IDF.

    MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/finetune.py [--speed]
    MINIGPT_DATA=… python benchmarks/finetune.py --row "snli-small, 700 per class" \
        --device cuda

Each row is a task. Each system learns from the same examples and is tested on the same
ones: minigpt-base; the same network from random initialisation; TF-IDF of words and
word pairs with logistic regression (scikit-learn). The rate of either network is chosen
on the validation part of banking77 with ten examples a class, TF-IDF's C on that of
each row; a row's epochs, examples and test examples are chosen by cost alone. Each seed
draws other training examples where not all are taken. Writes results/finetune.json
after each run, and goes on where it was interrupted; a run on another device than
the record's says so.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from tuning_speed import speed

from minigpt.adapt.finetune import finetune
from minigpt.adapt.loop import FinetuneConfig
from minigpt.adapt.metrics import METRICS, Score, compare, over_seeds, rows_of, scores
from minigpt.checkpoint import Pretrained
from minigpt.hardware import choose
from minigpt.labelled import Examples, Task, shuffled
from minigpt.model import GPT
from minigpt.pretrained import load_pretrained
from minigpt.tasks import load_task

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "finetune.json"
MODEL, RANDOM, TFIDF = "minigpt-base", "random initialisation", "TF-IDF"
SEEDS, SWEEP_SEED = (1, 2, 3), 100
RATES = (3e-4, 1e-3, 2e-3, 4e-3)
STRENGTHS = (1.0, 10.0, 100.0)
VALIDATION = 400  # examples that decide, in every row
FLOOR = "naive Bayes of words and word pairs"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one row costs.

    Attributes:
        task: its name.
        epochs: of either network.
        few: training examples of each class; None: all of them.
        train: training examples of a task without classes.
        test: test examples, drawn once.
        floor: an accuracy published beside the data, and what it is of.
    """

    task: str
    epochs: int
    few: int | None = None
    train: int | None = None
    test: int | None = None
    floor: tuple[float, str] | None = None

    @property
    def draws(self) -> bool:
        """Whether a seed decides what is trained on."""
        return self.few is not None or self.train is not None

    @property
    def name(self) -> str:
        """What the row is called."""
        if self.few:
            return f"{self.task}, {self.few} per class"
        return f"{self.task}, {f'{self.train} examples' if self.train else 'full'}"


TUNED = Plan(task="banking77", few=10, epochs=6)
WHOLE = f"{FLOOR}, all training examples"
PLANS = (
    TUNED,
    Plan(task="banking77", few=5, epochs=8),
    Plan(task="movie-polarity", few=750, epochs=2, floor=(0.772, WHOLE)),
    Plan(
        task="sentfin-headlines",
        few=700,
        epochs=2,
        floor=(0.766, f"{FLOOR}, headlines about one company only, all of them"),
    ),
    Plan(task="restaurant8k-spans", train=2000, epochs=3),
    Plan(task="banking77", few=20, epochs=4),
    Plan(task="subjectivity", few=750, epochs=2, floor=(0.931, WHOLE)),
    Plan(
        task="snli-small",
        few=700,
        test=2000,
        epochs=2,
        floor=(0.582, f"{FLOOR} of the hypothesis alone, all training examples"),
    ),
    Plan(task="banking77", few=50, epochs=3),
    Plan(task="banking77", epochs=2, floor=(0.836, WHOLE)),
    Plan(task="xquad-en", epochs=1),
    Plan(task="shop-messages", epochs=8),
    Plan(task="headlines", epochs=6),
)


# The parts.
def drawn(plan: Plan, seed: int) -> Task:
    """The examples of a row; those that decide and those that test are always the
    same."""
    task = load_task(plan.task)
    if plan.few:
        task = task.few(plan.few, seed=seed)
    train = task.train if plan.few else some(task.train, plan.train, seed)
    held = some(task.validation, VALIDATION, 0), some(task.test, plan.test, 0)
    return replace(task, train=train, validation=held[0], test=held[1])


def some(examples: Examples, n: int | None, seed: int) -> Examples:
    """So many of them, by hash of the text."""
    order = shuffled(["\n".join(e.texts) for e in examples], seed)
    return [examples[i] for i in order[:n]] if n else examples


# The systems.
def network(system: str, seed: int) -> Pretrained:
    """Pretrained, or of the same shape and drawn at random."""
    base = load_pretrained(MODEL)
    if system == MODEL:
        return base
    torch.manual_seed(seed)
    return Pretrained(GPT(base.model.config), base.tokenizer)


def config_for(
    plan: Plan, rate: float, seed: int, device: str = "cpu"
) -> FinetuneConfig:
    """The settings of one run; all else is the default."""
    return FinetuneConfig(
        epochs=plan.epochs, learning_rate=rate, seed=seed, device=device
    )


def best_of(found: dict[str, float]) -> float:
    """The rate of the highest accuracy."""
    return float(max(found, key=lambda rate: found[rate]))


def tune(tuning: dict[str, Any]) -> None:
    """The rate of either network, by accuracy on validation."""
    task = drawn(TUNED, SWEEP_SEED)
    # Nothing is said about the test part here: validation stands in its place.
    task = replace(task, test=task.validation)
    for system in (MODEL, RANDOM):
        said = tuning.setdefault(system, {"validation accuracy": {}})
        found = said["validation accuracy"]
        waiting = [rate for rate in RATES if f"{rate:g}" not in found]
        while waiting or best_of(found) == min(map(float, found)):
            # The best rate must not be the lowest that was tried.
            rate = waiting.pop(0) if waiting else best_of(found) / 3
            base = network(system, SWEEP_SEED)
            run = finetune(base, task, config_for(TUNED, rate, SWEEP_SEED))
            found[f"{rate:g}"] = round(max(r.validation for r in run.records), 4)
        said["rate"] = best_of(found)
        print(system, said, flush=True)


def by_words(task: Task) -> tuple[np.ndarray, float]:
    """The test rows of TF-IDF with logistic regression, and the C that it chose."""
    # A second text has weights of its own.
    pairs = [[e.text_pair for e in p] for p in (task.train, task.validation, task.test)]
    texts = [[e.text for e in p] for p in (task.train, task.validation, task.test)]
    columns = [texts] if pairs[0][0] is None else [texts, pairs]
    parts: list[list[csr_matrix]] = [[], [], []]
    for column in columns:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        words.fit(column[0])
        for part, own in zip(parts, column, strict=True):
            part.append(words.transform(own))
    train, validation, test = (hstack(part).tocsr() for part in parts)
    labels = [e.label for e in task.train]
    right = [e.label for e in task.validation]
    fitted = {
        c: LogisticRegression(C=c, max_iter=1000).fit(train, labels) for c in STRENGTHS
    }
    best = max(STRENGTHS, key=lambda c: fitted[c].score(validation, right))
    said = [int(label) for label in fitted[best].predict(test)]
    return rows_of(task.kind, task.test, said, len(task.labels)), best


# The record.
def recorded(found: dict[str, Score]) -> dict[str, list[float]]:
    """Value and interval of each metric, over the test examples."""
    return {
        n: [round(x, 4) for x in (s.value, s.low, s.high)] for n, s in found.items()
    }


def one_run(
    system: str, plan: Plan, config: FinetuneConfig, words: np.ndarray | None
) -> dict[str, Any]:
    """One network's scores, and by how much they exceed those of TF-IDF."""
    seed = config.seed
    task = drawn(plan, seed)
    run = finetune(network(system, seed), task, config)
    report = run.report
    record: dict[str, Any] = {
        "seed": seed,
        "scores": recorded(report.scores),
        "epoch kept": report.chosen,
        "cut": {part: list(cut) for part, cut in report.cut.items()},
        "seconds": round(report.seconds, 1),
    }
    if config.device != "cpu":
        record["device"] = choose(config.device).describe()
    if words is not None:
        first = next(iter(METRICS[task.kind]))
        found = compare(task.kind, report.rows, words, resamples=300)[first]
        exceeds = (found.value, found.low, found.high, found.p)
        record["minus TF-IDF"] = [round(x, 4) for x in exceeds]
    return record


@cache
def words_run(plan: Plan, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """TF-IDF's scores, and its rows for `compare`."""
    task = drawn(plan, seed)
    start = time.perf_counter()
    rows, chosen = by_words(task)
    seconds = round(time.perf_counter() - start, 1)
    record = {"seed": seed, "scores": recorded(scores(task.kind, rows)), "C": chosen}
    return record | {"seconds": seconds}, rows


def summary(runs: Sequence[dict[str, Any]], metric: str, n: int) -> dict[str, Any]:
    """The mean over seeds with its interval (Student's t), and the runs.

    Of one run it is that over the test examples.
    """
    values = [Score(metric, *run["scores"][metric], n) for run in runs]
    mean = over_seeds(values) if len(values) > 1 else values[0]
    figures = {key: round(getattr(mean, key), 4) for key in ("value", "low", "high")}
    return {**figures, "seeds": len(runs), "runs": list(runs)}


def verdict(runs: Sequence[dict[str, Any]]) -> str:
    """Who is ahead, where every seed's paired interval says the same."""
    gaps = [run["minus TF-IDF"] for run in runs]
    if all(high < 0 for _, _, high, _ in gaps):
        return f"{MODEL} loses to TF-IDF"
    if all(low > 0 for _, low, _, _ in gaps):
        return f"{MODEL} beats TF-IDF"
    return f"{MODEL} and TF-IDF: no difference that every seed shows"


def described(plan: Plan) -> dict[str, Any]:
    """All of a row that is known before a network has run."""
    task = drawn(plan, SEEDS[0])
    row: dict[str, Any] = {
        "task": str(task).split("\n  "),
        "kind": task.kind,
        "metric": next(iter(METRICS[task.kind])),
        "labels": len(task.labels),
        "train": len(task.train),
        "of": len(load_task(plan.task).train),
        "validation": len(task.validation),
        "test": len(task.test),
        "epochs": plan.epochs,
        "systems": {system: "not run" for system in (MODEL, RANDOM, TFIDF)},
        "verdict": "not run",
    }
    row["systems"]["gpt2"] = "not run: no network"
    if plan.floor:
        row["floor"] = {"value": plan.floor[0], "of": plan.floor[1]}
    if task.kind != "classes":
        row["systems"][TFIDF] = "not run: it names classes, not spans"
    return row


def fill(plan: Plan, row: dict[str, Any], record: dict[str, Any], device: str) -> None:
    """Run what a row lacks, and write the record after each run."""
    classes, systems = row["kind"] == "classes", row["systems"]
    metric, n = row["metric"], row["test"]
    for system in (MODEL, RANDOM):
        held = systems[system]
        runs = list(held["runs"]) if isinstance(held, dict) else []
        for seed in SEEDS[len(runs) :]:
            same = seed if plan.draws else SEEDS[0]
            words = words_run(plan, same)[1] if classes else None
            rate = record["tuning"][system]["rate"]
            config = config_for(plan, rate, seed, device)
            runs.append(one_run(system, plan, config, words))
            systems[system] = summary(runs, metric, n)
            print(plan.name, system, seed, runs[-1]["scores"][metric], flush=True)
            write(record)
    if classes:
        row["verdict"] = verdict(systems[MODEL]["runs"])
    else:
        row["verdict"] = "no rival but the network from random initialisation"


def write(record: dict[str, Any]) -> None:
    """Put the record beside the others, whole or not at all."""
    new = OUT.with_suffix(".new")
    new.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", "utf-8")
    new.replace(OUT)


def begun() -> dict[str, Any]:
    """The record as it stands, or a new one; rates and TF-IDF come first."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    record: dict[str, Any] = {
        "command": "MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/finetune.py",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": f"{choose('cpu', 'auto').describe()}, {platform.machine()}",
        "model": MODEL,
        "seeds": list(SEEDS),
        "intervals": "95 %: of a run over its test examples (bootstrap), of a mean "
        "over its seeds (Student's t), of a difference over pairs of answers",
        "tuning": {},
        "rows": {},
        "speed": "not run",
    }
    if OUT.is_file():
        record |= json.loads(OUT.read_text("utf-8"))
    tune(record["tuning"])
    write(record)
    for plan in PLANS:
        if plan.name in record["rows"]:
            continue
        row = record["rows"][plan.name] = described(plan)
        if row["kind"] == "classes":
            runs = [words_run(plan, s)[0] for s in SEEDS[: None if plan.draws else 1]]
            row["systems"][TFIDF] = summary(runs, row["metric"], row["test"])
            print(plan.name, TFIDF, row["systems"][TFIDF].get("value"), flush=True)
        write(record)
    return record


def main() -> int:
    """Run what the record lacks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--speed", action="store_true", help="only the speed")
    parser.add_argument("--row", help="only this one")
    parser.add_argument("--device", default="cpu", help="(default: cpu)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    record = begun()
    if asked.speed:
        record["speed"] = speed(MODEL)
    else:
        for plan in PLANS:
            if asked.row in (None, plan.name):
                fill(plan, record["rows"][plan.name], record, asked.device)
                write(record)
    write(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
