"""Metrics equal scikit-learn's and SciPy's; intervals hold what they promise."""

import math
import re

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as theirs

from minigpt.adapt.metrics import (
    METRICS,
    Score,
    _student,
    accuracy,
    calibration,
    compare,
    confusion,
    macro_f1,
    matthews,
    over_seeds,
    overlap,
    pearson,
    rows_of,
    scores,
    spearman,
)
from minigpt.adapt.scores import UNREAD
from minigpt.labelled import Example, Span


@pytest.fixture
def drawn() -> np.ndarray:
    """Labels of four classes and what was said: right more often than not."""
    generator = np.random.default_rng(3)
    gold = generator.integers(4, size=200)
    said = np.where(generator.random(200) < 0.6, gold, generator.integers(4, size=200))
    return np.stack([gold, said], 1).astype(float)


def test_classes_are_scored_as_sklearn_scores_them(drawn):
    gold, said = drawn.T
    assert accuracy(drawn) == theirs.accuracy_score(gold, said)
    assert macro_f1(drawn) == pytest.approx(
        theirs.f1_score(gold, said, average="macro")
    )
    assert matthews(drawn) == pytest.approx(theirs.matthews_corrcoef(gold, said))
    assert (confusion(drawn, 4) == theirs.confusion_matrix(gold, said)).all()


def test_a_label_that_is_never_said_counts_against_macro_f1():
    rows = np.array([[0, 0], [0, 0], [0, 0], [1, 0]], dtype=float)
    assert accuracy(rows) == 0.75
    assert macro_f1(rows) == pytest.approx((2 * 3 / 7 + 0) / 2)
    assert matthews(rows) == 0.0


def test_numbers_are_scored_as_scipy_scores_them():
    generator = np.random.default_rng(1)
    gold = generator.integers(5, size=60).astype(float)  # with ties
    rows = np.stack([gold, gold + generator.normal(size=60)], 1)
    assert pearson(rows) == pytest.approx(stats.pearsonr(*rows.T).statistic)
    assert spearman(rows) == pytest.approx(stats.spearmanr(*rows.T).statistic)
    error = METRICS["number"]["absolute error"](rows)
    assert error == pytest.approx(theirs.mean_absolute_error(*rows.T))
    constant = np.array([[1.0, 2.0], [2.0, 2.0]])
    assert math.isnan(pearson(constant))


def test_many_labels_are_scored_as_sklearn_scores_them():
    gold = [(0, 2), (), (1,), (0,), (2,)]
    said = [(0,), (1,), (1,), (0, 2), (2,)]
    rows = rows_of("multilabel", [Example("a", g) for g in gold], said, 3)
    bits = [
        np.array([[i in some for i in range(3)] for some in x]) for x in (gold, said)
    ]
    for average in ("micro", "macro"):
        want = theirs.f1_score(*bits, average=average)
        assert METRICS["multilabel"][f"{average}-F1"](rows) == pytest.approx(want)
    exact = METRICS["multilabel"]["exact match"](rows)
    assert exact == theirs.accuracy_score(*bits) == 0.4


def test_no_label_due_and_none_said_is_right_as_sklearn_can_have_it():
    rows = rows_of("multilabel", [Example("a", ())] * 2, [(), ()], 3)
    none = np.zeros((2, 3), dtype=bool)
    for average in ("micro", "macro"):
        want = theirs.f1_score(none, none, average=average, zero_division=1.0)
        assert METRICS["multilabel"][f"{average}-F1"](rows) == want == 1.0


def test_tags_are_scored_word_by_word_as_sklearn_scores_them():
    gold, said = [(0, 1, 2), (2, 2)], [(0, 1, 1), (2, 0)]
    rows = rows_of("tags", [Example("a b c", g) for g in gold], said, 3)
    flat = [sum(gold, ()), sum(said, ())]
    want = theirs.f1_score(*flat, average="macro")
    assert METRICS["tags"]["macro-F1"](rows) == pytest.approx(want)
    assert METRICS["tags"]["accuracy of words"](rows) == theirs.accuracy_score(*flat)


def test_a_word_that_was_cut_off_counts_as_missed():
    rows = rows_of("tags", [Example("a b", (0, 1))], [(0, UNREAD)], 2)
    assert METRICS["tags"]["accuracy of words"](rows) == 0.5
    assert METRICS["tags"]["macro-F1"](rows) == 0.5


def test_spans_by_hand():
    text = "the old mill by the sea"
    gold = [(Span(4, 12),), (Span(4, 12),), (), (Span(4, 12), Span(20, 23, "sea"))]
    said = [(Span(4, 12),), (Span(8, 12),), (Span(0, 3),), (Span(20, 23, "sea"),)]
    rows = rows_of("spans", [Example(text, g) for g in gold], said)
    figures = {name: metric(rows) for name, metric in METRICS["spans"].items()}
    assert figures["exact match"] == 0.25
    # Words: 2 of 2; mill of old mill; none; sea of old mill sea.
    assert figures["overlap F1"] == pytest.approx((1 + 2 / 3 + 0 + 1 / 2) / 4)
    assert figures["span F1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    nothing = rows_of("spans", [Example(text, ())], [()])
    assert [metric(nothing) for metric in METRICS["spans"].values()] == [1, 1, 1]


def test_texts_overlap_as_in_squad():
    assert overlap("The old mill.", "the MILL") == pytest.approx(0.8)
    assert overlap("", "") == 1
    assert overlap("a", "") == 0
    rows = rows_of("text", [Example("x", "a b"), Example("x", "c")], ["a  b", "d"])
    assert METRICS["text"]["exact match"](rows) == 0.5


# How sure.
def test_the_interval_of_an_accuracy_is_near_the_binomial_one(drawn):
    score = scores("classes", drawn)["accuracy"]
    spread = 1.96 * math.sqrt(score.value * (1 - score.value) / 200)
    assert score.high - score.low == pytest.approx(2 * spread, rel=0.1)
    assert score.low < score.value < score.high
    assert (score.n, score.of) == (200, "examples")
    assert scores("classes", drawn)["accuracy"] == score


@pytest.mark.slow
def test_nineteen_intervals_in_twenty_hold_the_truth():
    """300 samples of 100 examples from a model that is right with probability 0.8."""
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        right = generator.random(100) < 0.8
        rows = np.stack([np.ones(100), right], 1)
        score = scores("choice", rows, resamples=400, seed=seed)["accuracy"]
        held += score.low <= 0.8 <= score.high
    # 285 expected; three standard deviations are 11, and the method is a little narrow.
    assert 268 <= held <= 298


def test_equal_systems_do_not_differ_and_unequal_ones_do(drawn):
    same = compare("classes", drawn, drawn)["accuracy"]
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    right = np.stack([drawn[:, 0], drawn[:, 0]], 1)
    better = compare("classes", right, drawn)["accuracy"]
    assert better.value == pytest.approx(1 - accuracy(drawn))
    assert better.p < 0.005
    assert better.low > 0
    assert compare("classes", drawn, right)["accuracy"].value == -better.value


def test_the_p_of_a_difference_is_near_mcnemars():
    """Ten examples that only one gets, and two that only the other does."""
    gold = np.zeros(60)
    one, two = gold.copy(), gold.copy()
    one[:2] = two[2:12] = 1
    rows = [np.stack([gold, said], 1) for said in (one, two)]
    found = compare("choice", *rows, resamples=4000)["accuracy"]
    exact = stats.binomtest(2, 12, 0.5).pvalue
    assert found.value == pytest.approx(8 / 60)
    assert found.p == pytest.approx(exact, abs=0.012)


def test_systems_are_compared_on_the_same_examples_only(drawn):
    with pytest.raises(
        ValueError, match=r"same examples, got \(200, 2\) and \(199, 2\)"
    ):
        compare("classes", drawn, drawn[1:])


def test_seeds_are_averaged_by_students_t():
    values = [0.8, 0.84, 0.79, 0.85]
    found = over_seeds([Score("accuracy", v, 0, 1, 500) for v in values])
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == (
        pytest.approx(low, 1e-3),
        pytest.approx(high, 1e-3),
    )
    assert str(found) == "accuracy 0.820 (95 %: 0.773 to 0.867, n = 4 seeds)"
    for freedom in (1, 5, 10, 11, 20, 100):
        assert _student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_one_seed_is_no_sample():
    one = Score("accuracy", 0.8, 0, 1, 5)
    with pytest.raises(
        ValueError, match="from at least 2 seeds, got 1 of accuracy: run"
    ):
        over_seeds([one])
    with pytest.raises(ValueError, match=r"one metric .* got 2 of F1, accuracy"):
        over_seeds([one, one._replace(name="F1")])


def test_a_label_for_each_example_is_needed():
    with pytest.raises(ValueError, match="each of 2 examples, got 1: score them tog"):
        rows_of("classes", [Example("a", 0)] * 2, [0])
    with pytest.raises(ValueError, match="each of 0 examples, got 0"):
        rows_of("classes", [], [])


# Sureness.
def test_calibration_by_hand():
    found = calibration([0.95, 0.91, 0.35, 0.4, 1.0], [True, False, False, True, True])
    assert found.counts == (2, 3)
    assert found.sure == pytest.approx((0.375, 2.86 / 3))
    assert found.right == pytest.approx((1 / 2, 2 / 3))
    gap = abs(0.375 - 1 / 2) * 2 + abs(2.86 / 3 - 2 / 3) * 3
    assert found.error == pytest.approx(gap / 5)


def test_whoever_is_right_as_often_as_sure_has_no_error():
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.3, 1, size=20_000)
    right = generator.random(20_000) < sure
    assert calibration(sure.tolist(), right.tolist()).error < 0.015
    bold = calibration((sure**0.3).tolist(), right.tolist())
    assert bold.error > 0.1


def test_figures_print_with_all_that_belongs_to_them(drawn):
    words = r"accuracy 0\.\d{3} \(95 %: 0\.\d{3} to 0\.\d{3}, n = 200 examples\)"
    assert re.fullmatch(words, str(scores("classes", drawn)["accuracy"]))
    difference = str(compare("classes", drawn, drawn)["accuracy"])
    assert difference == "accuracy +0.000 (95 %: +0.000 to +0.000, p = 1.000, n = 200)"


def test_rows_with_other_labels_are_other_examples(drawn):
    other = drawn.copy()
    other[0, 0] = 3 - other[0, 0]
    with pytest.raises(ValueError, match=r"and \(200, 2\), or other labels: score"):
        compare("classes", drawn, other)


def test_what_is_no_number_is_no_sign_of_a_difference():
    gold = np.random.default_rng(0).normal(size=30)
    near, constant = np.stack([gold, gold + 0.1], 1), np.stack([gold, gold * 0], 1)
    found = compare("number", near, constant, resamples=50)["Pearson"]
    assert math.isnan(found.value)
    assert found.p == 1


def test_a_constant_that_no_mean_can_hold_is_constant():
    gold = np.random.default_rng(0).normal(size=30)
    assert np.full(30, 0.1).mean() != 0.1
    assert math.isnan(pearson(np.stack([gold, np.full(30, 0.1)], 1)))
