"""Published sets: each row as its authors meant it, with the counts they give."""

from functools import cache

import pytest

from minigpt.labelled import Span
from minigpt.published import SOURCES
from minigpt.rows import to_examples
from minigpt.tasks import load_task


def converted(name: str, row: dict) -> list:
    rows = list(SOURCES[name].convert(row))
    return to_examples(rows, name, SOURCES[name].kind)[1] if rows else []


def test_an_apostrophe_does_not_hide_a_company():
    row = {
        "Title": "Sebi, Moody's: a headline",
        "Decisions": "{'Sebi': 'neutral', 'Moody's': 'negative', \"Dr's\": 'positive'}",
    }
    found = converted("sentfin-headlines", row)
    assert [(e.text_pair, e.label) for e in found] == [
        ("Sebi", "neutral"),
        ("Moody's", "negative"),
        ("Dr's", "positive"),
    ]
    assert converted("sentfin-single", row) == []
    alone = converted("sentfin-single", {**row, "Decisions": "{'Sebi': 'neutral'}"})
    assert [(e.text_pair, e.label) for e in alone] == [(None, "neutral")]


def test_an_absent_start_is_zero_and_no_label_is_no_span():
    row = {
        "userInput": {"text": "13 at 6pm"},
        "context": {"requestedSlots": ["people", "first_name", "people"]},
        "labels": [
            {"slot": "people", "valueSpan": {"endIndex": 2}},
            {"slot": "time", "valueSpan": {"startIndex": 6, "endIndex": 9}},
        ],
    }
    (found,) = converted("restaurant8k-spans", row)
    assert found.label == (Span(0, 2, "people"), Span(6, 9, "time"))
    assert found.text_pair == "people, first name"
    (found,) = converted("restaurant8k-spans", {"userInput": {"text": "Hi"}})
    assert (found.label, found.text_pair) == ((), "nothing")


def test_a_question_points_into_its_paragraph():
    answers = {"text": ["308", "gave up 308"], "answer_start": [13, 5]}
    row = {"context": "They gave up 308", "question": "How many?", "answers": answers}
    (found,) = converted("xquad-en", row)
    assert [found.text[start:end] for start, end, _ in found.label] == ["308"]


def test_choices_and_the_beginning_that_they_share():
    options = ["Ada thanked Gus because Ada", "Ada thanked Gus because Gus"]
    row = {"context_options": options, "continuation": "was kind.", "gold": 1}
    (found,) = converted("winogrande-val", row)
    assert (found.text, found.label) == ("Ada thanked Gus because", 1)
    assert found.choices == ("Ada was kind.", "Gus was kind.")
    row = {"goal": "Make tea", "sol1": "boil water", "sol2": "boil sand", "label": "0"}
    (found,) = converted("piqa-valid", row)
    assert (found.label, found.choices) == (0, ("boil water", "boil sand"))


def test_a_pair_on_which_nobody_agreed_is_left_out():
    row = {"premise": "a", "hypothesis": "b", "label": "neutral"}
    assert converted("snli", row)[0].label == "neutral"
    assert [converted("snli", {**row, "label": no}) for no in ("-", "")] == [[], []]


def test_every_source_says_where_it_is_to_be_had():
    for name, source in SOURCES.items():
        assert (source.files and source.home) or source.hub, name
        assert bool(source.hub) == bool(source.splits), name


# The checks of every call take their time on ten thousand rows: each set once.
loaded = cache(load_task)

# name: (train + validation, test, labels) or, with no published split, all rows.
SIZES = {
    "banking77": (10_003, 3_080, 77),
    "movie-polarity": (10_662, None, 2),
    "subjectivity": (10_000, None, 2),
    "sentfin-headlines": (14_405, None, 3),
    "sentfin-single": (7_906, None, 3),
    "snli-small": (9_842, 9_824, 3),
    "restaurant8k-spans": (8_198, 3_731, 5),
    "xquad-en": (1_190, None, 1),
    "piqa-valid": (0, 1_838, 0),
    "arc-easy-test": (0, 2_376, 0),
    "winogrande-val": (0, 1_267, 0),
}


@pytest.mark.data
@pytest.mark.parametrize("name", [n for n, s in SOURCES.items() if s.files])
def test_a_set_has_its_published_size_and_its_parts_do_not_leak(name):
    learnt, tested, labels = SIZES[name]
    task = loaded(name)
    n, n_test = len(task.train) + len(task.validation), len(task.test)
    assert (n, n_test) == ((learnt, tested) if tested else (learnt - n_test, n_test))
    assert len(task.labels) == labels
    assert task.leaks[0].duplicates == 0
    if tested is None:
        assert task.leaks[1].duplicates == 0
        assert "no published split" in task.note
        assert abs(n_test - learnt / 10) <= learnt / 50


@pytest.mark.data
def test_banking77_six_test_texts_are_in_train_and_classes_are_uneven():
    task = loaded("banking77")
    assert task.leaks[1].duplicates == 6
    counts = task.counts().values()
    assert {test for _, _, test in counts} == {40}
    sizes = [train + validation for train, validation, _ in counts]
    assert (min(sizes), max(sizes)) == (35, 187)


@pytest.mark.data
def test_snli_small_says_what_it_trains_on_and_no_premise_is_on_both_sides():
    task = loaded("snli-small")
    assert "trains on the published dev file" in task.note
    parts = [{e.text for e in p} for p in (task.train, task.validation, task.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) - len(parts[0] & parts[2])
    assert not parts[0] & parts[1]


@pytest.mark.data
def test_restaurant_spans_start_at_zero_and_many_utterances_have_none():
    task = loaded("restaurant8k-spans")
    spans = [span for e in task.test for span in e.label]
    assert any(span.start == 0 for span in spans)
    assert sum(not e.label for e in task.test) == 1_352
    # One of a kind at most: a head with one start and one end for each label suffices.
    assert all(len({s.label for s in e.label}) == len(e.label) for e in task.test)
    assert task.leaks[1].duplicates == 112


@pytest.mark.data
def test_xquad_is_cut_by_paragraph_and_answers_stand_where_it_says():
    task = loaded("xquad-en")
    parts = [{e.text for e in p} for p in (task.train, task.validation, task.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 240
    every = [*task.train, *task.validation, *task.test]
    (first,) = [e for e in every if "did the Panthers defense surrender" in e.text_pair]
    assert first.text[slice(*first.label[0][:2])] == "308"


@pytest.mark.data
def test_winogrande_choices_begin_where_the_options_differ():
    for example in loaded("winogrande-val").test:
        first = {choice.split()[0] for choice in example.choices}
        assert example.text
        assert len(first) == 2
