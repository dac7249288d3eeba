"""Splits: nothing is lost, nothing leaks, every class is everywhere."""

from random import Random

import pytest

from minigpt.labelled import Example, Span
from minigpt.splits import make_task, split


def rows(*sizes: int) -> list[Example]:
    """So many different texts of each class, named a, b, …"""
    return [
        Example(f"text {name} {i}", name)
        for name, n in zip("abcdefgh", sizes, strict=False)
        for i in range(n)
    ]


def texts(part) -> set[str]:
    return {example.text for example in part}


def test_eighty_ten_ten_of_each_class_and_nothing_is_lost():
    task = make_task("toy", "classes", {"all": rows(100, 50, 20)})
    assert task.counts() == {"a": (80, 10, 10), "b": (40, 5, 5), "c": (16, 2, 2)}
    three = [texts(part) for part in (task.train, task.validation, task.test)]
    assert set.union(*three) == texts(rows(100, 50, 20))
    assert sum(map(len, three)) == 170
    assert task.note == "no published split: cut by hash of the text, seed 0"


def test_the_smallest_class_is_in_every_part():
    assert make_task("toy", "classes", {"all": rows(30, 3)}).counts()["b"] == (1, 1, 1)


def test_the_text_decides_and_not_the_order_of_the_rows():
    mixed = rows(40, 40)
    Random(1).shuffle(mixed)
    one, other = (make_task("t", "classes", {"all": r}) for r in (rows(40, 40), mixed))
    assert texts(one.test) == texts(other.test)
    assert one.train != other.train  # the rows of a part stay as they came
    again = make_task("t", "classes", {"all": rows(40, 40)}, seed=1)
    assert texts(one.test) != texts(again.test)


def test_examples_with_one_text_stay_in_one_part():
    pairs = [
        Example(f"premise {i}{' ' * j}", name, f"hypothesis {j}")
        for i in range(30)
        for j, name in enumerate("abc")
    ]
    task = make_task("pairs", "classes", {"all": pairs})
    three = [
        {e.text.strip() for e in part}
        for part in (task.train, task.validation, task.test)
    ]
    assert sum(map(len, three)) == len(set.union(*three)) == 30
    assert task.leaks[0].duplicates == task.leaks[1].duplicates == 0


def test_a_published_test_part_stays_whole_and_is_never_trained_on():
    published = {"train": rows(50, 50), "test": rows(70, 70)[40:60]}
    task = make_task("toy", "classes", published)
    assert [e.text for e in task.test] == [e.text for e in published["test"]]
    assert (len(task.train), len(task.validation)) == (90, 10)
    assert texts(task.train + task.validation) == texts(published["train"])
    assert task.note == "validation from train, cut by hash of the text, seed 0"
    assert task.leaks[1].duplicates == 10


def test_a_published_validation_part_becomes_the_test_part_where_there_is_none():
    task = make_task("t", "classes", {"train": rows(20, 20), "validation": rows(5, 5)})
    assert (len(task.train), len(task.validation), len(task.test)) == (36, 4, 10)
    assert task.note.startswith("test is the published validation part")


def test_three_published_parts_are_taken_as_they_are():
    parts = {"train": rows(4, 4), "validation": rows(2, 2), "test": rows(1, 1)}
    task = make_task("t", "classes", parts, note="said")
    assert (len(task.train), len(task.validation), len(task.test)) == (8, 4, 2)
    assert task.note == "said"


def test_a_test_part_alone_trains_nothing():
    choices = [Example("It flew", 1, choices=("up", "down"))]
    task = make_task("t", "choice", {"test": choices})
    assert (task.train, task.validation, task.test) == ([], [], choices)
    assert (task.labels, task.note) == ((), "nothing to train on: for testing only")


def test_names_become_indices_in_one_order_everywhere():
    ten = [Example(f"text {i}", str(i % 11)) for i in range(110)]
    task = make_task("stars", "classes", {"all": ten})
    assert task.labels == tuple(map(str, range(11)))
    assert {(e.text, task.labels[e.label]) for e in task.train} <= {
        (e.text, e.label) for e in ten
    }
    several = [Example(f"text {i}", ("b", "a", "b")[: i % 4]) for i in range(40)]
    several = make_task("m", "multilabel", {"all": several})
    assert several.labels == ("a", "b")
    assert {e.label for e in several.train} == {(), (1,), (0, 1)}
    tags = make_task("t", "tags", {"test": [Example("a b c", ("O", "B", "O"))]})
    assert (tags.labels, tags.test[0].label) == (("B", "O"), (1, 0, 1))
    spans = make_task("s", "spans", {"test": [Example("ab", (Span(0, 1, "x"),))]})
    assert (spans.labels, spans.test[0].label) == (("x",), (Span(0, 1, "x"),))


def test_other_kinds_are_cut_as_a_whole():
    numbers = [Example(f"text {i}", i / 7) for i in range(50)]
    task = make_task("n", "number", {"all": numbers})
    assert (len(task.train), len(task.validation), len(task.test)) == (40, 5, 5)
    # The lists are from one stratum: five different numbers are no five classes.
    assert split(numbers[:2], (0.1,), "number", "n")[1]


def test_a_rare_label_among_several_is_trained_on():
    often = [Example(f"text {i}", ("often",)) for i in range(60)]
    seldom = [Example(f"more {i}", ("often", "seldom")) for i in range(3)]
    rare = [Example("last", ("often", "rare"))]
    task = make_task("m", "multilabel", {"all": [*often, *seldom, *rare]})
    assert task.counts()["seldom"] == (1, 1, 1)
    assert task.counts()["rare"] == (1, 0, 0)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"all": []}, "expected examples in toy, got none: it is empty"),
        ({"train": rows(9, 9), "test": []}, "expected examples in toy, got none"),
        ({}, "expected examples in toy, got none"),
        ({"all": rows(9)}, "at least 2 labels in toy, got 'a': there is nothing to"),
        (
            {"all": rows(9, 1)},
            "at least 3 different texts of each label in toy, .* got 1 with label 'b'",
        ),
        ({"all": rows(9, 2, 1, 1)}, r"got 1 with label 'c' \(and of 2 other labels\)"),
        ({"all": 9 * rows(1, 1)}, "at least 3 different texts .* got 1 with label 'a'"),
        ({"train": rows(9, 1), "test": rows(1, 1)}, "at least 2 different texts"),
        (
            {"train": rows(9, 9), "test": rows(9, 9, 1)},
            "every label of test in the training part of toy too, got 'c' in test only",
        ),
        ({"train": rows(9, 9), "holdout": rows(9, 9)}, "got train, holdout: rename"),
        ({"validation": rows(9, 9)}, "expected parts named train, validation and test"),
        ({"validation": rows(9, 9), "test": rows(9, 9)}, "got validation, test"),
    ],
)
def test_what_cannot_be_split_is_said_in_one_sentence(parts, match):
    with pytest.raises(ValueError, match=match):
        make_task("toy", "classes", parts)


def test_too_few_rows_of_another_kind_are_said_too():
    few = [Example(f"text {i}", i / 7) for i in range(2)]
    with pytest.raises(ValueError, match=r"at least 3 different texts .* got 2 in it"):
        make_task("n", "number", {"all": few})


@pytest.mark.parametrize("held_out", [0.0, 0.5, -1.0])
def test_a_share_that_leaves_nothing_is_refused(held_out):
    with pytest.raises(ValueError, match=rf"between 0 and 0\.5, got {held_out}"):
        make_task("toy", "classes", {"all": rows(9, 9)}, held_out=held_out)


@pytest.mark.parametrize("held_out", [0.1, 0.4, 0.49])
@pytest.mark.parametrize("n", range(3, 9))
def test_every_part_has_a_text_of_each_class_however_much_is_held_out(n, held_out):
    task = make_task("toy", "classes", {"all": rows(n, n)}, held_out=held_out)
    for counts in task.counts().values():
        assert min(counts) >= 1
        assert sum(counts) == n
