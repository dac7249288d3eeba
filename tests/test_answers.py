"""Answers: each convention on probabilities that are written down; the intervals."""

import math

import pytest
from scipy.stats import binomtest
from torch.testing import assert_close

from minigpt.answers import (
    Result,
    minimal_pairs,
    multiple_choice,
    partial_scoring,
    score_candidates,
    share,
    wilson,
)
from minigpt.questions import Question
from minigpt.tokenizer import CharTokenizer
from tests.bigrams import Bigrams, model_of, tokenizer_of

BYTES = tokenizer_of("ab")


def sums(model, tokenizer, *questions):
    found = score_candidates(model, tokenizer, list(questions))
    return [[float(one.nats.sum()) for one in scored] for scored in found]


def test_an_answer_is_scored_with_its_space_and_what_is_read_is_not():
    p = {("", "q"): 0.01, ("q", " "): 0.5, (" ", "a"): 0.25, (" ", "b"): 0.125}
    p[("a", "c")] = 0.5
    question = Question((("q", "ac"), ("q", "b")))
    (found,) = sums(model_of(BYTES, p), BYTES, question)
    assert_close(found, [math.log(2 * 4 * 2), math.log(2 * 8)], rtol=1e-5, atol=0)


def test_without_anything_to_read_the_end_mark_stands_before_it():
    p = {("", "a"): 0.5, ("", "b"): 0.25}
    (found,) = sums(model_of(BYTES, p), BYTES, Question((("", "a"), ("", "b"))))
    assert_close(found, [math.log(2), math.log(4)], rtol=1e-5, atol=0)


def test_without_an_end_mark_the_first_token_of_a_lone_sentence_is_not_scored():
    table = CharTokenizer("ab")
    p = Bigrams(model_of(BYTES, {}).table[:2, :2].softmax(-1).log())
    (found,) = sums(p, table, Question((("", "ab"), ("", "b"))))
    assert_close(found, [math.log(2), 0.0], rtol=1e-5, atol=0)


def test_length_decides_between_the_two_accuracies():
    """Four tokens of ln 2 each against one of ln 4: summed, the short answer wins."""
    p = {(" ", "a"): 0.5, ("a", "b"): 0.5, ("b", "c"): 0.5, (" ", "z"): 0.25}
    p |= {("c", "d"): 0.5}
    long_is_right = Question((("q", "abcd"), ("q", "z")), answer=0)
    plain, normed = multiple_choice(model_of(BYTES, p), BYTES, [long_is_right])
    assert (plain.value, normed.value) == (0.0, 1.0)
    short_is_right = Question(long_is_right.candidates, answer=1)
    plain, normed = multiple_choice(
        model_of(BYTES, p), BYTES, [short_is_right, long_is_right, short_is_right]
    )
    assert (plain.value, normed.value) == pytest.approx((2 / 3, 1 / 3))
    assert (plain.n, plain.unit, plain.task) == (3, "questions", "choice")
    assert plain.interval == wilson(2, 3)


def test_the_unit_of_length_is_the_character_not_the_token():
    """ " abc" is one token, " xy" are three; per token the second answer would win."""
    tokenizer = tokenizer_of(*["abc"] * 9, n_merges=3)
    assert len(tokenizer.encode(" abc")) == 1
    p = {("q", " abc"): 0.1, ("q", " "): 0.5, (" ", "x"): 0.25, ("x", "y"): 0.5}
    question = Question((("q", "abc"), ("q", "xy")), answer=0)
    scores = sums(model_of(tokenizer, p), tokenizer, question)[0]
    assert scores[0] / 3 < scores[1] / 2  # per character
    assert scores[0] / 1 > scores[1] / 3  # per token
    _, normed = multiple_choice(model_of(tokenizer, p), tokenizer, [question])
    assert normed.value == 1.0


def test_partial_scoring_leaves_the_names_out():
    """The rare name "B" (1 in 100) is no fault: only " z" after it counts."""
    p = {("", "A"): 0.9, ("", "B"): 0.01, ("A", " "): 0.2, ("B", " "): 0.8}
    question = Question((("A", "z"), ("B", "z")), answer=1)
    model = model_of(BYTES, p)
    (found,) = sums(model, BYTES, question)
    assert found[0] - found[1] == pytest.approx(math.log(0.8 / 0.2), rel=1e-5)
    (result,) = partial_scoring(model, BYTES, [question])
    assert (result.value, result.task) == (1.0, "winogrande")


def test_pairs_are_whole_sentences_and_kinds_are_counted_apart():
    p = {("", "a"): 0.5, ("", "b"): 0.25, ("a", "c"): 0.1, ("b", "c"): 0.9}
    pairs = [
        Question((("", "a"), ("", "b")), kind="first"),  # 0.5 against 0.25
        Question((("", "bc"), ("", "ac")), kind="second"),  # 0.225 against 0.05
        Question((("", "ac"), ("", "bc")), kind="second"),
    ]
    whole, *kinds = minimal_pairs(model_of(BYTES, p), BYTES, pairs)
    assert (whole.value, whole.n) == (pytest.approx(2 / 3), 3)
    assert [(k.metric.rpartition(" ")[2], k.value, k.n) for k in kinds] == [
        ("first", 1.0, 1),
        ("second", 0.5, 2),
    ]


def test_a_tie_is_a_miss():
    question = Question((("q", "a"), ("q", "b")), answer=0)
    results = multiple_choice(model_of(BYTES, {}), BYTES, [question])
    assert [result.value for result in results] == [0.0, 0.0]


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (8, 10), (1, 1), (913, 1838)])
def test_wilson_equals_scipys(hits, n):
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), rel=1e-6)


def test_a_result_prints_in_one_line():
    line = str(share("piqa", "accuracy", [True, True, False, True], "questions"))
    assert line.split() == (
        "piqa accuracy 0.75 [0.3006, 0.9544] n = 4 questions".split()
    )
    alone = str(Result("a", "b", 2.0, None, 1234, "tokens"))
    assert "no interval" in alone
    assert "n = 1,234 tokens" in alone


def test_no_question_is_said():
    with pytest.raises(ValueError, match="expected at least one question, got none"):
        multiple_choice(model_of(BYTES, {}), BYTES, [])
