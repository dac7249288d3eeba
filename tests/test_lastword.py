"""The last word: both conventions on a model whose preferences are written down."""

import math

import pytest

from minigpt import lastword
from minigpt.generate import generate_batch
from minigpt.lastword import STOP_WORDS, filtered_words, last_words
from minigpt.questions import Question, last_word
from minigpt.tokenizer import CharTokenizer
from tests.bigrams import Bigrams, model_of, tokenizer_of

WORDS = ("lit", "the", "lamp", "boat", "and", "lamps")
TOKENIZER = tokenizer_of(*[w for w in WORDS for _ in range(9)], n_merges=25)
LIT = {
    # After "lit": a stop word, a mark, then the lamp, then the boat.
    (" lit", " the"): 0.5,
    (" lit", "."): 0.2,
    (" lit", " lamp"): 0.15,
    (" lit", " boat"): 0.05,
    (" lamp", "."): 0.9,
    (" the", " lamp"): 0.9,
    (".", " and"): 0.9,
}


def asked(*texts: str) -> list[Question]:
    return [last_word(text) for text in texts]


def test_the_words_of_this_test_are_tokens():
    assert all(len(TOKENIZER.encode(f" {word}")) == 1 for word in WORDS[:5])


def test_strict_wants_the_likeliest_token_and_the_paper_the_likeliest_word():
    strict, paper, ppl = last_words(
        model_of(TOKENIZER, LIT), TOKENIZER, asked("He lit lamp", "He lit the")
    )
    # " the" is the likeliest token; the likeliest word that is no stop word is "lamp".
    assert (strict.value, paper.value) == (0.5, 0.5)
    assert "strict" in strict.metric
    assert "stop-word filter" in paper.metric
    assert ppl.value == pytest.approx(math.exp((-math.log(0.15) - math.log(0.5)) / 2))
    assert {r.n for r in (strict, paper, ppl)} == {2}
    strict, paper, _ = last_words(
        model_of(TOKENIZER, LIT), TOKENIZER, asked("He lit lamp")
    )
    assert (strict.value, paper.value) == (0.0, 1.0)


def test_a_word_of_several_tokens_counts_only_whole():
    assert len(TOKENIZER.encode(" lampz")) == 2
    p = {(" lit", " lamp"): 0.9, (" lamp", "z"): 0.4, (" lamp", "."): 0.5}
    strict, _, ppl = last_words(
        model_of(TOKENIZER, p), TOKENIZER, asked("He lit lampz", "He lit lampz")
    )
    assert strict.value == 0.0
    assert ppl.value == pytest.approx(1 / (0.9 * 0.4))
    p |= {(" lamp", "z"): 0.6, (" lamp", "."): 0.3}
    strict, *_ = last_words(model_of(TOKENIZER, p), TOKENIZER, asked("He lit lampz"))
    assert strict.value == 1.0


def test_a_guess_goes_on_to_the_end_of_its_word():
    p = LIT | {(" lamp", "."): 0.1, (" lamp", "z"): 0.8, ("z", "."): 0.9}
    model = model_of(TOKENIZER, p)
    assert filtered_words(model, TOKENIZER, ["He lit"]) == ["lampz"]
    _, paper, _ = last_words(model, TOKENIZER, asked("He lit lamp", "He lit lampz"))
    assert paper.value == 0.5


def test_the_next_token_is_tried_where_a_word_turns_out_to_be_a_stop_word():
    # " t" is no stop word, but "t" + "o" is; then the boat.
    p = {(" lit", " "): 0.5, (" ", "t"): 0.9, ("t", "o"): 0.9, ("o", "."): 0.9}
    p |= {(" lit", " boat"): 0.3, (" boat", "."): 0.9}
    assert "to" in STOP_WORDS
    assert filtered_words(model_of(TOKENIZER, p), TOKENIZER, ["lit lit"]) == ["boat"]


def test_nothing_but_stop_words_and_marks_is_no_guess(monkeypatch):
    p = {(" lit", " the"): 0.5, (" lit", "."): 0.3, (" lit", " and"): 0.1}
    p |= {(" lit", " boat"): 0.05}
    model = model_of(TOKENIZER, p)
    assert filtered_words(model, TOKENIZER, ["He lit"]) == ["boat"]
    monkeypatch.setattr(lastword, "RANKED", 3)
    assert filtered_words(model, TOKENIZER, ["He lit"]) == [""]
    assert last_words(model, TOKENIZER, asked("He lit boat"))[1].value == 0.0


def test_passages_of_all_lengths_are_guessed_as_alone():
    model = model_of(TOKENIZER, LIT | {("s", " boat"): 0.9, (" boat", "."): 0.9})
    reads = ["He lit", "Ships", "lit " * 40 + "lit", "Ada lit the lamps and she lit"]
    together = filtered_words(model, TOKENIZER, reads)
    assert together == [filtered_words(model, TOKENIZER, [r])[0] for r in reads]
    assert together == ["lamp", "boat", "lamp", "lamp"]


def test_letters_as_tokens_will_do_too():
    tokenizer = CharTokenizer(" .abo")
    likely = {"o": " ", " ": "b", "b": "a", "a": "."}  # "bo" → " ba."
    table = model_of(tokenizer_of("a"), {}).table[:5, :5].clone().zero_()
    for before, after in likely.items():
        table[tokenizer.encode(before)[0], tokenizer.encode(after)[0]] = 5.0
    assert filtered_words(Bigrams(table), tokenizer, ["bo"]) == ["ba"]


def test_one_passage_has_no_interval_for_its_perplexity_and_many_have():
    model = model_of(TOKENIZER, LIT)
    assert last_words(model, TOKENIZER, asked("He lit lamp"))[2].interval is None
    ppl = last_words(model, TOKENIZER, asked(*["He lit lamp", "He lit boat"] * 8))[2]
    # Sixteen passages: ± 1.96 · sd / 4 around the mean of the logarithms.
    sd = math.log(0.15 / 0.05) / 2 * math.sqrt(16 / 15)
    low, high = ppl.interval
    assert high / ppl.value == pytest.approx(math.exp(1.959964 * sd / 4), rel=1e-4)
    assert ppl.value / low == pytest.approx(high / ppl.value)


def test_progress_reaches_the_end_and_guesses_are_greedy():
    seen = []
    model = model_of(TOKENIZER, LIT)
    filtered_words(model, TOKENIZER, ["He lit"] * 70, watch=lambda *at: seen.append(at))
    assert seen == [(64, 70), (70, 70)]
    prompt = TOKENIZER.encode("He lit lamp")
    assert generate_batch(model, [prompt], max_new_tokens=1)[0][-1:] == (
        TOKENIZER.encode(".")
    )
