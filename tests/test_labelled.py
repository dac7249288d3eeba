"""Labelled examples: seven kinds in one shape, what they may be, what parts share."""

import math

import pytest

from minigpt.labelled import KINDS, Example, Leak, Span, Task, check_example

RUN = "one two three four five six seven eight"


def task(train, validation=(), test=(), **rest) -> Task:
    return Task(list(train), list(validation), list(test), **rest)


GOOD = {
    "classes": Example("a tern", "bird"),
    "multilabel": Example("a tern at sea", ("bird", "sea")),
    "number": Example("a tern", 0.5, "a gull"),
    "choice": Example("It flew", 1, choices=("up", "down")),
    "tags": Example("a tern", ("O", "B")),
    "spans": Example("a tern", (Span(2, 6, "bird"),)),
    "text": Example("a tern", "eine Seeschwalbe"),
}


def test_every_kind_has_an_example_that_is_accepted():
    assert tuple(GOOD) == KINDS
    for kind, example in GOOD.items():
        assert check_example(example, kind, "row 1") is example
    start, end, _ = GOOD["spans"].label[0]
    assert GOOD["spans"].text[start:end] == "tern"


def test_no_label_is_fine_for_some_kinds_and_means_none():
    assert check_example(Example("13", ()), "spans", "row 1").label == ()
    assert check_example(Example("13", ()), "multilabel", "row 1").label == ()


@pytest.mark.parametrize(
    ("kind", "change", "match"),
    [
        ("classes", {"text": " \n"}, "expected a text in row 7, got none"),
        ("classes", {"label": ""}, "the name of a class as label in row 7, got ''"),
        ("classes", {"label": 3}, "the name of a class as label in row 7, got 3"),
        ("multilabel", {"label": ("a", "")}, r"a list of names .* got \('a', ''\)"),
        ("multilabel", {"label": "a"}, "a list of names as labels in row 7, got 'a'"),
        ("number", {"label": math.nan}, "a finite number as label in row 7, got nan"),
        ("number", {"label": math.inf}, "a finite number as label in row 7, got inf"),
        ("number", {"label": "n/a"}, "a finite number as label in row 7, got 'n/a'"),
        ("choice", {"label": 2}, "one of 2 choices as label, from 0 to 1 .* got 2"),
        ("choice", {"label": -1}, "from 0 to 1 in row 7, got -1"),
        ("choice", {"choices": ("up",)}, "at least two choices, none of them empty"),
        ("choice", {"choices": ("up", " ")}, "at least two choices, none of them"),
        ("tags", {"label": ("O",)}, "one tag for each of 2 words in row 7"),
        ("tags", {"label": ("O", "")}, "a list of names as labels in row 7"),
        ("spans", {"label": (Span(2, 7),)}, "within 6 characters in row 7, got .*7"),
        ("spans", {"label": (Span(3, 3),)}, "spans of start < end within 6"),
        ("spans", {"label": (Span(-1, 3),)}, "spans of start < end within 6"),
        ("spans", {"label": "tern"}, "spans of start < end within 6 .* got 'tern'"),
        ("text", {"label": " "}, "a text to write in row 7, got ' '"),
    ],
)
def test_a_label_that_its_kind_cannot_have_is_named(kind, change, match):
    with pytest.raises(ValueError, match=match):
        check_example(GOOD[kind]._replace(**change), kind, "row 7")


def test_what_the_parts_share_is_counted_by_hand():
    found = task(
        [Example(f"{RUN} nine", 0), Example("short", 1)],
        # The first has a run of eight with another end, the second is known with
        # another label and a line break, the third is new.
        [Example(f"zero {RUN}", 0), Example("short\n", 0), Example("new", 1)],
        [Example("new", 0), Example(RUN, 0), Example("other", 0, "short")],
        labels=("a", "b"),
    ).leaks
    assert found == (Leak("validation", 3, 1, 1), Leak("test", 3, 1, 1))
    assert str(found[0]) == (
        "validation: of 3 examples, 1 also stand in train, and 1 share a run of eight "
        "words with it"
    )
    assert "1 also stand in train or validation" in str(found[1])


def test_a_run_is_seen_in_second_texts_and_choices_too():
    train = [Example("a", 0, RUN)]
    pair, choice = Example("b", 0, RUN), Example("c", 0, choices=("x", RUN))
    seven = Example(RUN.removesuffix(" eight"), 0)
    assert task(train, [pair, choice, seven], labels=("a",)).leaks[0].shared == 2


def test_labels_are_counted_in_every_part():
    one = task(
        [Example("a", 0), Example("b", 1), Example("c", 1)],
        [Example("d", 1)],
        labels=("no", "yes"),
    )
    assert one.counts() == {"no": (1, 0, 0), "yes": (2, 1, 0)}
    several = task(
        [Example("a", (0, 1)), Example("b", ())], labels=("x", "y"), kind="multilabel"
    )
    assert several.counts() == {"x": (1, 0, 0), "y": (1, 0, 0)}
    twice = Example("a b", (Span(0, 1, "x"), Span(2, 3, "x")))
    assert task([twice], labels=("x",), kind="spans").counts() == {"x": (1, 0, 0)}
    assert task([Example("a", 0.5)], labels=(), kind="number").counts() == {}


def test_a_task_says_what_it_is_and_what_was_found():
    rows = [Example("a", 0), Example("b", 1), Example("c", 1)]
    said = str(task(rows, rows[:1], labels=("no", "yes"), name="toy", note="by hand"))
    assert said.split("\n  ") == [
        "toy: classes, 3 train, 1 validation, 0 test",
        "2 labels, from no (1, 1, 0) to yes (2, 0, 0)",
        "validation: of 1 examples, 1 also stand in train, and 0 share a run of eight "
        "words with it",
        "test: of 0 examples, 0 also stand in train or validation, and 0 share a run "
        "of eight words with it",
        "by hand",
    ]
    only_test = str(task([], [], rows, labels=(), kind="choice"))
    assert only_test == "task: choice, 0 train, 0 validation, 3 test"


def test_few_takes_so_many_of_each_class_and_more_keep_the_fewer():
    rows = [Example(f"text {i}", i % 3) for i in range(90)]
    whole = task([*rows, Example("rare", 3)], rows[:5], labels=tuple("abcd"))
    five, ten = whole.few(5), whole.few(10)
    assert [n for n, *_ in five.counts().values()] == [5, 5, 5, 1]
    assert set(five.train) < set(ten.train) < set(whole.train)
    assert five.validation == whole.validation
    assert whole.few(5, seed=1).train != five.train == whole.few(5).train
    # The order of the rows decides nothing.
    turned = task(whole.train[::-1], labels=whole.labels).few(5)
    assert set(turned.train) == set(five.train)


def test_few_wants_classes():
    with pytest.raises(ValueError, match="of kind 'classes', got 'number': slice"):
        task([Example("a", 0.5)], labels=(), kind="number").few(5)
