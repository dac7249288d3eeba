"""Batches: every window can come, none leaks, and a stream goes on where it stood."""

import pytest
import torch
from torch.testing import assert_close

from minigpt.data import (
    IGNORE,
    Stories,
    Windows,
    check_predictable,
    encode_text,
    make_batches,
    pad_rows,
    shift,
)
from minigpt.stories import END
from minigpt.subword import BPETokenizer
from minigpt.texts import Text
from minigpt.tokenizer import CharTokenizer, WordTokenizer

B, T = 2, 5


def test_targets_are_the_inputs_one_step_later():
    batch = next(Windows(torch.arange(100), context_length=T, batch_size=B))
    assert batch.inputs.shape == (B, T)
    assert_close(batch.targets, batch.inputs + 1)


def test_every_start_index_is_drawn_and_no_other():
    # 9 tokens, windows of 5 and the next token: starts 0, 1, 2, 3, all of them.
    windows = Windows(torch.arange(9), context_length=T, batch_size=64)
    starts = next(windows).inputs[:, 0]
    assert set(starts.tolist()) == {0, 1, 2, 3}
    assert next(windows).targets.max() == 8  # the last token is a target


def test_starts_are_equally_likely():
    windows = Windows(torch.arange(9), context_length=T, batch_size=4000)
    counts = next(windows).inputs[:, 0].bincount()
    # Four outcomes, 4000 draws: the standard deviation of each count is 27.
    assert (counts - 1000).abs().max() < 5 * 27


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_type_gives_the_same_batches(dtype):
    batch = next(Windows(torch.arange(50).to(dtype), context_length=T, batch_size=B))
    same = next(Windows(torch.arange(50), context_length=T, batch_size=B))
    assert batch.inputs.dtype == torch.int64
    assert_close(batch, same)


@pytest.mark.parametrize(
    "tokens", [torch.arange(40), torch.arange(30).view(5, 6)], ids=["text", "stories"]
)
def test_a_restored_stream_goes_on_where_it_stood(tokens):
    def stream(seed):
        return make_batches(tokens, context_length=T, batch_size=3, seed=seed)

    first = stream(seed=1)
    for _ in range(4):  # into the second pass over the stories
        next(first)
    state = first.state()
    expected = [next(first) for _ in range(6)]
    second = stream(seed=2)
    second.restore(state)
    assert_close([next(second) for _ in range(6)], expected, rtol=0, atol=0)


def test_a_pass_over_the_stories_shows_each_of_them_once():
    rows = torch.arange(7)[:, None].expand(7, 4)
    batches = Stories(rows, context_length=T, batch_size=3)
    seen = torch.cat([next(batches).inputs[:, 0] for _ in range(7)])
    assert seen.view(3, 7).sort().values.tolist() == [list(range(7))] * 3
    assert seen[:7].tolist() != seen[7:14].tolist()


def test_a_batch_may_be_larger_than_the_collection():
    batches = Stories(torch.arange(8).view(2, 4), context_length=T, batch_size=5)
    assert next(batches).inputs.shape == (5, 3)


def test_padding_is_no_target_and_a_valid_input():
    batch = shift(pad_rows([[3, 1, 4, 1], [5]]))
    assert batch.inputs.tolist() == [[3, 1, 4], [5, 0, 0]]
    assert batch.targets.tolist() == [[1, 4, 1], [IGNORE] * 3]


def test_a_storys_first_word_is_predicted_from_the_mark_before_it():
    tokenizer = WordTokenizer(["red", "kettle", END])
    text = Text("toy", f"red kettle {END}\nkettle {END}\n", "", END)
    rows = encode_text(text, text.train, tokenizer)
    assert rows.tolist() == [[2, 0, 1, 2], [2, 1, 2, IGNORE]]


def test_a_mark_that_a_tokenizer_keeps_apart_is_one_token():
    tokenizer = BPETokenizer.train(["red kettle"], vocab_size=257, special_tokens=[END])
    text = Text("toy", f"ab {END}\n", "", END)
    rows = encode_text(text, text.train, tokenizer)
    assert rows.tolist() == [[tokenizer.end_id, *tokenizer.encode("ab"), 256]]


def test_books_are_packed_into_one_row_with_a_mark_on_either_side():
    mark = "<|endoftext|>"
    tokenizer = BPETokenizer.train(["ab"], vocab_size=257, special_tokens=[mark])
    text = Text("toy", f"ab{mark}b", "", mark, packed=True)
    a, b, end = (*tokenizer.encode("a"), *tokenizer.encode("b"), tokenizer.end_id)
    assert encode_text(text, text.train, tokenizer).tolist() == [end, a, b, end, b, end]


def test_running_text_is_one_row_of_tokens():
    tokenizer = CharTokenizer.train("abc")
    assert encode_text(Text("t", "cab", ""), "cab", tokenizer).tolist() == [2, 0, 1]


def test_text_and_stories_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"more than context_length = 5 .* got 5"):
        make_batches(torch.arange(5), context_length=5, batch_size=1)
    with pytest.raises(ValueError, match=r"at most 6 tokens .* got 7"):
        make_batches(torch.ones(3, 7, dtype=torch.int), context_length=5, batch_size=1)
    next(make_batches(torch.arange(6), context_length=5, batch_size=1))
    next(make_batches(torch.ones(3, 6).int(), context_length=5, batch_size=1))


def test_no_rows_are_no_endless_stream():
    with pytest.raises(ValueError, match="expected at least one story, got none"):
        Stories(torch.zeros(0, 5, dtype=torch.int32), context_length=T, batch_size=B)


@pytest.mark.parametrize(
    ("rows", "n"), [(torch.zeros(0, 5), 0), (pad_rows([[1], [2]]), 1)]
)
def test_rows_without_a_target_cannot_be_validated_on(rows, n):
    wide = torch.cat([rows.int(), torch.full((len(rows), 3), IGNORE)], 1)
    with pytest.raises(ValueError, match=f"at least 2 tokens to validate on, got {n}"):
        check_predictable(wide)
