"""results/finetune.json holds what a figure needs, and its verdicts follow from it."""

import json
from pathlib import Path
from typing import Any

import pytest

RECORD = json.loads(
    (Path(__file__).parents[1] / "results" / "finetune.json").read_text("utf-8")
)
ROWS: dict[str, Any] = RECORD["rows"]
BASE, RANDOM, WORDS = "minigpt-base", "random initialisation", "TF-IDF"
DATA = (
    "banking77 movie-polarity subjectivity sentfin-headlines snli-small "
    "restaurant8k-spans xquad-en shop-messages headlines"
).split()


def done(row: dict[str, Any], system: str) -> bool:
    held = row["systems"][system]
    return isinstance(held, dict) and len(held["runs"]) >= len(RECORD["seeds"])


def test_every_set_has_a_row_and_a_row_that_was_not_run_says_so():
    assert {name.partition(",")[0] for name in ROWS} == set(DATA)
    few = [f"{n} per class" for n in (5, 10, 20, 50)]
    assert {f"banking77, {size}" for size in (*few, "full")} <= ROWS.keys()
    for row in ROWS.values():
        assert row["systems"]["gpt2"] == "not run: no network"
        for held in row["systems"].values():
            assert isinstance(held, dict) or held.startswith("not run")
        assert row["verdict"] == "not run" or (done(row, BASE) and done(row, RANDOM))


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_takes_all_examples_is_called_full(name):
    assert (ROWS[name]["train"] == ROWS[name]["of"]) == name.endswith(", full")


@pytest.mark.parametrize("name", ROWS)
def test_each_figure_has_n_seeds_and_an_interval(name):
    row = ROWS[name]
    for system, held in row["systems"].items():
        if not isinstance(held, dict):
            continue
        assert held["low"] <= held["value"] <= held["high"]
        seeds = [run["seed"] for run in held["runs"]]
        assert seeds == RECORD["seeds"][: len(seeds)]
        assert held["seeds"] == len(seeds)
        mean = sum(run["scores"][row["metric"]][0] for run in held["runs"]) / len(seeds)
        assert held["value"] == pytest.approx(mean, abs=1e-4)
        for run in held["runs"]:
            value, low, high = run["scores"][row["metric"]]
            assert 0 <= low <= value <= high <= 1
            if system != WORDS:
                assert run["cut"]["test"][1] == row["test"]
                assert run["cut"]["train"][1] == row["train"]


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if done(row, BASE)])
def test_who_loses_to_word_counts_is_said(name):
    row = ROWS[name]
    if row["kind"] != "classes" or row["verdict"] == "not run":
        return
    gaps = [run["minus TF-IDF"] for run in row["systems"][BASE]["runs"]]
    loses = all(high < 0 for _, _, high, _ in gaps)
    beats = all(low > 0 for _, low, _, _ in gaps)
    assert ("loses to TF-IDF" in row["verdict"]) == loses
    assert ("beats TF-IDF" in row["verdict"]) == beats


def test_a_rate_is_the_best_of_validation_and_not_the_lowest_tried():
    for system in (BASE, RANDOM):
        found = RECORD["tuning"][system]["validation accuracy"]
        best = float(max(found, key=found.__getitem__))
        assert RECORD["tuning"][system]["rate"] == best > min(map(float, found))


def test_pretraining_beats_the_same_network_drawn_at_random_with_few_examples():
    row = ROWS["banking77, 10 per class"]
    base, random = row["systems"][BASE], row["systems"][RANDOM]
    assert base["low"] > random["high"]
    assert base["seeds"] == random["seeds"] == len(RECORD["seeds"]) >= 3


def test_an_example_costs_at_most_three_fifths_of_what_trainer_takes():
    speed = RECORD["speed"]
    assert speed["rounds"] >= 6
    for peer, ratio in speed["ratio"].items():
        low, high = speed["interval"][peer]
        assert low <= ratio <= high <= 0.6
