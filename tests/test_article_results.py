"""results/article.json holds a whole sweep, and what appendix C says follows."""

import json
from pathlib import Path
from statistics import fmean

RECORD = json.loads(
    (Path(__file__).parents[1] / "results" / "article.json").read_text("utf-8")
)
ACCURACY: dict[str, dict[str, float]] = RECORD["accuracy"]


def test_every_rate_was_run_with_every_seed_that_is_named():
    assert RECORD["seeds"]
    for by_seed in ACCURACY.values():
        assert {str(seed) for seed in RECORD["seeds"]} <= by_seed.keys()


def test_where_the_article_starts_nothing_is_learned_and_the_best_rate_is_higher():
    means = {float(rate): fmean(by.values()) for rate, by in ACCURACY.items()}
    best = max(means, key=means.__getitem__)
    assert min(means) == 1e-5
    assert means[1e-5] < 2 / 14 < means[best] / 3
    assert min(means) < best < max(means)  # the grid reaches beyond it on both sides
    assert best > 4e-4
