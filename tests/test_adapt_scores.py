"""Scores: the best valid span by trying all, and what each kind says, by hand."""

import pytest
import torch
from sklearn.metrics import log_loss
from torch.testing import assert_close

from minigpt.adapt.inputs import Layout, Marks
from minigpt.adapt.scores import (
    UNREAD,
    best_span,
    by_example,
    named,
    said,
    scores_loss,
)
from minigpt.labelled import Example, Kind, Span
from tests.adapting import adapted


def layout(kind: Kind) -> Layout:
    labels = ("no", "so", "yes")
    return Layout(kind=kind, labels=labels, marks=Marks(9, 10, 11), context_length=64)


@pytest.mark.parametrize("longest", [1, 3, 30])
def test_the_best_span_is_the_best_of_all_valid_ones(longest):
    for _ in range(50):
        starts, ends = torch.randn(9), torch.randn(9)
        tried = {
            (i, j): float(starts[i] + ends[j])
            for i in range(8)
            for j in range(i, min(8, i + longest))
        }
        place, margin = best_span(starts, ends, longest=longest)
        assert place == max(tried, key=tried.__getitem__)
        none = float(starts[8] + ends[8])
        assert margin == pytest.approx(max(tried.values()) - none, abs=1e-5)


def test_a_span_that_would_end_before_it_starts_is_not_said():
    starts = torch.tensor([0.0, 0.0, 9.0, -5.0])
    ends = torch.tensor([9.0, 1.0, 0.0, -5.0])
    place, margin = best_span(starts, ends)
    assert place in ((0, 0), (2, 2))
    assert margin == 9 + 10


def test_no_answer_wins_where_the_last_position_scores_more():
    model = adapted("spans")
    text = "ab cd"
    (item,) = model.items([Example(text, (), "h")], labelled=False)
    scores = torch.zeros(6, 2)
    scores[3, 0] = scores[4, 1] = 2.0
    found = said(scores, item, Example(text, ()), model.layout)
    assert (found.label, found.answer) == ((Span(3, 5),), ("cd",))
    assert found.scores == (4.0,)
    scores[5] = 2.5
    none = said(scores, item, Example(text, ()), model.layout)
    assert (none.label, none.answer, none.scores) == ((), (), (-1.0,))


def test_spans_of_several_labels_are_said_beside_each_other():
    shape = layout("spans")
    example = Example("ab", ())
    item = adapted("spans").items([example], labelled=False)[0]
    scores = torch.full((3, 6), -1.0)
    scores[0, 0] = scores[1, 1] = scores[1, 4] = scores[1, 5] = 3.0
    found = said(scores, item, example, shape)
    assert found.label == (Span(0, 2, "no"), Span(1, 2, "yes"))
    assert found.answer == ("ab", "b")


def one(kind: Kind, scores: list[list[float]], example: Example):
    shape = layout(kind)
    item = adapted(kind).items([example], labelled=False)[0]
    return said(torch.tensor(scores), item, example, shape)


def test_what_each_kind_says_by_hand():
    found = one("classes", [[0.0, 2.0, 1.0]], Example("a", 0))
    assert (found.label, found.answer) == (1, "so")
    assert sum(found.scores) == pytest.approx(1)
    assert found.scores[1] == pytest.approx(0.6652, abs=1e-4)
    many = one("multilabel", [[0.1, -0.1, 3.0]], Example("a", ()))
    assert (many.label, many.answer) == ((0, 2), ("no", "yes"))
    assert many.scores[1] < 0.5 < many.scores[0]
    assert one("number", [[2.5]], Example("a", 0.0)).label == 2.5
    choice = one("choice", [[1.0], [3.0]], Example("a", 0, choices=("b", "c")))
    assert (choice.label, choice.answer) == (1, "c")
    tags = one("tags", [[0.0, 0, 9], [9, 0, 0]], Example("a b", ()))
    assert (tags.label, tags.answer) == ((2, 0), ("yes", "no"))


def test_a_word_that_was_cut_off_has_no_tag():
    model = adapted("tags")
    said_ = model.predict([Example("a b " * 15, ())])[0]
    assert len(said_.label) == 30
    assert said_.label[-1] == UNREAD
    assert UNREAD not in said_.label[:11]
    assert said_.answer[-1] == ""
    assert said_.scores[-1] == 0


# Losses.
def test_the_loss_of_a_class_is_sklearns():
    scores, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    want = log_loss(targets, scores.double().softmax(-1), labels=[0, 1, 2])
    assert float(scores_loss("classes", scores, targets, (1,) * 6)) == pytest.approx(
        want
    )


def test_a_choice_among_two_is_not_a_choice_among_three():
    scores, sizes = torch.randn(5, 1), (2, 3)
    loss = scores_loss("choice", scores, torch.tensor([1, 2]), sizes)
    two, three = scores[:2, 0].log_softmax(0)[1], scores[2:, 0].log_softmax(0)[2]
    assert_close(loss, -(two + three) / 2)
    padded = by_example(scores, sizes)
    assert padded.shape == (2, 3, 1)
    assert float(padded[0, 2, 0]) == -torch.inf


def test_padding_takes_no_part_in_the_loss_of_spans():
    scores, sizes = torch.randn(7, 4, requires_grad=True), (4, 3)
    targets = torch.tensor([[[0, 1], [3, 3]], [[2, 2], [0, 0]]])
    loss = scores_loss("spans", scores, targets, sizes)
    short, long = scores[4:], scores[:4]
    parts = [
        -rows[:, 2 * label + end].log_softmax(0)[targets[i, label, end]]
        for i, rows in enumerate((long, short))
        for label in range(2)
        for end in range(2)
    ]
    assert_close(loss, sum(parts) / 8)
    loss.backward()
    assert scores.grad.isfinite().all()


def test_names_become_indices_and_a_new_one_is_an_error():
    assert named(["yes", "no"], layout("classes")) == [2, 0]
    with pytest.raises(ValueError, match="among no, so, yes, got 'maybe': the model"):
        named(["yes", "maybe"], layout("classes"))


def test_a_batch_of_which_no_word_could_be_read_moves_nothing():
    scores = torch.zeros(0, 3, requires_grad=True)
    loss = scores_loss("tags", scores, torch.zeros(0, dtype=torch.long), (0,))
    loss.backward()
    assert loss.item() == 0
