"""Batches: padding on either side, and the one token of each row that counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from minigpt.adapt.batches import collate, first_real, last_real, like_lengths
from minigpt.adapt.inputs import Item
from minigpt.labelled import KINDS
from tests.adapting import adapted, examples


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.booleans())
def test_the_last_real_token_is_found_whichever_side_is_padded(lengths, left):
    places = torch.arange(7)
    wanted = torch.tensor(lengths)[:, None]
    mask = places >= 7 - wanted if left else places < wanted
    last, first = last_real(mask), first_real(mask)
    assert last.sum(-1).tolist() == first.sum(-1).tolist() == [1] * len(lengths)
    ends = [7 if left else n for n in lengths]
    assert last.int().argmax(-1).tolist() == [end - 1 for end in ends]
    starts = [end - n for end, n in zip(ends, lengths, strict=True)]
    assert first.int().argmax(-1).tolist() == starts


def test_a_row_of_padding_is_an_error():
    mask = torch.tensor([[True, False], [False, False]])
    with pytest.raises(ValueError, match="a real token in each row, got a row of padd"):
        last_real(mask)


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_back_from_a_batch(kind, padding):
    model = adapted(kind)
    items = model.items(examples(kind))
    batch = collate(items, model.layout, padding=padding)
    rows = [row for item in items for row in item.rows]
    for i, row in enumerate(rows):
        assert tuple(batch.tokens[i][batch.mask[i]].tolist()) == row
        assert set(batch.tokens[i][~batch.mask[i]].tolist()) <= {model.layout.marks[1]}
    assert int(batch.reads.sum()) == sum(batch.sizes)
    assert not (batch.reads & ~batch.mask).any()
    assert len(batch.sizes) == len(items)
    assert batch.to(torch.device("cpu")).sizes == batch.sizes


def test_targets_by_hand():
    def targets(kind: str) -> torch.Tensor:
        model = adapted(kind)
        return collate(model.items(examples(kind)), model.layout).targets

    assert targets("classes").tolist() == [0, 1, 2]
    assert targets("choice").tolist() == [1, 2]
    assert targets("tags").tolist() == [0, 1, 1, 2, 0, 0]
    assert_close(
        targets("multilabel"), torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])
    )
    assert targets("spans").tolist() == [[[3, 4]], [[5, 5]], [[0, 1]]]
    numbers = targets("number")
    assert_close(numbers.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(numbers.std(correction=0), torch.tensor(1.0))


def test_a_batch_without_labels_has_no_targets():
    model = adapted("tags")
    items = model.items(examples("tags"), labelled=False)
    assert collate(items, model.layout).targets is None


def test_like_lengths_are_batched_together_and_each_item_once():
    lengths = [9, 2, 7, 2, 8, 1, 7]
    items = [Item(((0,) * n,), (), (), None, 0) for n in lengths]
    batches = like_lengths(items, 3)
    assert [[lengths[i] for i in batch] for batch in batches] == [
        [1, 2, 2],
        [7, 7, 8],
        [9],
    ]
    assert sorted(i for batch in batches for i in batch) == list(range(7))
