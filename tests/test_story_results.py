"""results/story_tasks.json: who does not read must guess; what pretraining is worth."""

import json
from pathlib import Path
from typing import Any

import pytest

RECORD = json.loads(
    (Path(__file__).parents[1] / "results" / "story_tasks.json").read_text("utf-8")
)
ROWS: dict[str, Any] = RECORD["rows"]
KINDS = ("entailment", "choice", "spans", "tags", "summary", "chinese")
SIZES = [(2, 125), (2, 500), (2, 2000), (1, 500), (3, 500)]


def test_each_kind_has_its_rows_on_two_thousand_test_examples():
    names = {f"{k}, difficulty {d}, {n} examples" for k in KINDS for d, n in SIZES}
    assert ROWS.keys() == names
    assert all(row["test"] >= 2000 for row in ROWS.values())


@pytest.mark.parametrize("name", ROWS)
def test_each_figure_is_a_mean_of_three_seeds_within_its_interval(name):
    for system in ("pretrained", "random"):
        found = ROWS[name][system]
        assert len(found["each"]) == len(RECORD["seeds"]) == 3
        assert found["value"] == pytest.approx(sum(found["each"]) / 3, abs=1e-4)
        low, high = found["interval"]
        assert low <= found["value"] <= high


@pytest.mark.parametrize("name", ROWS)
def test_who_is_ahead_follows_from_the_intervals(name):
    row = ROWS[name]
    mine, other = row["pretrained"]["interval"], row["random"]["interval"]
    assert (row["pretrained is ahead"] == "yes") == (mine[0] > other[1])


@pytest.mark.parametrize(("kind", "most"), [("entailment", 0.38), ("choice", 0.55)])
def test_who_does_not_read_the_story_has_to_guess(kind, most):
    for dial in (1, 2, 3):
        found = RECORD["parts"]["blind"][f"{kind}, {dial}"]
        assert found["n"] >= 2000
        figures = [v["value"] for name, v in found.items() if name != "n"]
        assert len(figures) == 3
        assert max(figures) <= most


@pytest.mark.parametrize("kind", ["entailment", "spans", "tags", "summary"])
def test_pretraining_is_ahead_outside_the_intervals(kind):
    rows = [ROWS[f"{kind}, difficulty 2, {n} examples"] for n in (125, 500, 2000)]
    assert "yes" in [row["pretrained is ahead"] for row in rows]


def test_the_confusions_are_of_every_test_example():
    judged = RECORD["parts"]["judged"]
    table = judged["confusion"]
    assert sum(map(sum, table)) == judged["test"]
    hits = sum(table[i][i] for i in range(3))
    assert judged["accuracy"] == pytest.approx(hits / judged["test"], abs=1e-4)
