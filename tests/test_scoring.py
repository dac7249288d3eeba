"""Scoring: every token once, in its context; sums, units and intervals by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from minigpt import scoring
from minigpt.model import GPT, GPTConfig
from minigpt.pretrained import load_pretrained
from minigpt.scoring import (
    Row,
    score_rows,
    score_text,
    text_row,
    tokens_and_bytes,
    windows,
)
from minigpt.subword import GPT1Tokenizer
from minigpt.tokenizer import CharTokenizer
from minigpt.train import whole_split_loss
from tests.bigrams import Bigrams, model_of, tokenizer_of

V = 11


def random_gpt(context_length: int = 8, vocab_size: int = V) -> GPT:
    config = GPTConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        n_layer=2,
        n_head=3,
        d_model=12,
        init_std=0.5,
        dropout=0.5,
    )
    return GPT(config)


def test_windows_by_hand():
    # Nine tokens, four read at once, two new ones in each window after the first.
    assert list(windows(9, context=4, stride=2)) == [(0, 1, 5), (2, 5, 7), (4, 7, 9)]
    assert list(windows(8, context=4, stride=2))[-1] == (3, 7, 8)
    assert list(windows(5, context=4, stride=2)) == [(0, 1, 5)]
    # An answer at the end of a long row: one window, filled up with what came before.
    assert list(windows(20, 18, context=8, stride=4)) == [(11, 18, 20)]
    assert list(windows(1, context=4, stride=2)) == []


@given(
    length=st.integers(2, 60),
    first=st.integers(1, 59),
    context=st.integers(1, 20),
    stride=st.integers(1, 20),
)
@settings(max_examples=300, deadline=None)
def test_every_token_is_scored_once_with_enough_before_it(
    length, first, context, stride
):
    stride = min(stride, context)
    scored = []
    for begin, at, end in windows(length, first, context=context, stride=stride):
        assert end - 1 - begin <= context  # the model reads all but the last
        for position in range(at, end):
            assert position - begin >= min(position, context + 1 - stride)
            scored.append(position)
    assert scored == list(range(first, length))


def test_surprisal_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
    (whole,) = score_rows(Bigrams(p.log()), [Row([0, 0, 1, 2])])
    assert_close(whole.nats, -np.log([0.5, 0.25, 0.7]), rtol=1e-6, atol=0)
    assert whole.greedy.tolist() == [True, False, True]
    (last,) = score_rows(Bigrams(p.log()), [Row([0, 0, 1, 2], first=3)])
    assert_close(last.nats, -np.log([0.7]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_each_window_reads_what_it_should(stride):
    """Every surprisal equals that of one forward pass over the window's own tokens."""
    model, row = random_gpt().eval(), torch.randint(V, (30,))
    (scored,) = score_rows(model, [Row(row.tolist())], stride=stride)
    expected = []
    for begin, at, end in windows(30, context=8, stride=stride):
        logp = model(row[None, begin : end - 1])[0].log_softmax(-1)
        for position in range(at, end):
            expected.append(-logp[position - begin - 1, row[position]].item())
    assert_close(scored.nats, np.array(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("stride", "n_tokens"), [(5, 71), (15, 61), (1, 20), (8, 16)])
def test_equal_to_the_sliding_window_of_transformers(tmp_path, stride, n_tokens):
    """Their guide's loop: windows of max_length tokens, all but the new ones masked.

    (Where the last window is not full, theirs is short and ours reaches back.)
    """
    transformers = pytest.importorskip("transformers")
    max_length = 16
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=max_length, n_embd=12, n_layer=2, n_head=3
    )
    config.initializer_range = 0.3
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path)
    row = torch.randint(V, (1, n_tokens))
    nats, n_scored, before = 0.0, 0, 0
    for begin in range(0, n_tokens, stride):
        end = min(begin + max_length, n_tokens)
        labels = row[:, begin:end].clone()
        labels[:, : -(end - before)] = -100
        with torch.no_grad():
            loss = theirs(row[:, begin:end], labels=labels).loss
        n = int((labels[:, 1:] != -100).sum())
        nats, n_scored, before = nats + loss.item() * n, n_scored + n, end
        if end == n_tokens:
            break
    with pytest.warns(UserWarning, match="no tokenizer beside the model"):
        ours = load_pretrained(tmp_path).model
    # Their window counts the token that is only predicted; ours what is read.
    (scored,) = score_rows(
        ours, [Row(row[0].tolist())], stride=stride, context=max_length - 1
    )
    assert n_scored == len(scored.nats) == n_tokens - 1
    assert_close(scored.nats.sum(), np.float64(nats), rtol=1e-5, atol=0)


def test_without_overlap_it_is_the_validation_loss_of_training():
    model, text = random_gpt(vocab_size=4), "abca" * 20 + "b"
    tokenizer = CharTokenizer("abcd")
    score = score_text(model, tokenizer, text, stride=8)
    tokens = torch.tensor(tokenizer.encode(text))
    assert score.loss == pytest.approx(whole_split_loss(model, tokens), rel=1e-5)
    assert (score.tokens, score.n_bytes) == (80, 80)


def test_rows_are_scored_together_as_alone(monkeypatch):
    model = random_gpt()
    rows = [Row(torch.randint(V, (n,)).tolist(), 1 + n // 3) for n in (2, 30, 9, 5, 17)]
    monkeypatch.setattr(scoring, "MOST_LOGITS", 3 * V)  # three positions to a chunk
    together = score_rows(model, rows)
    for row, scored in zip(rows, together, strict=True):
        assert len(scored.nats) == len(row.tokens) - row.first
        assert_close(
            score_rows(model, [row])[0].nats, scored.nats, rtol=1e-5, atol=1e-6
        )


def test_small_batches_give_the_same(monkeypatch):
    model, rows = random_gpt(), [Row(torch.randint(V, (25,)).tolist())]
    before = score_rows(model, rows)[0].nats
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 1)
    assert_close(score_rows(model, rows)[0].nats, before, rtol=1e-5, atol=1e-6)


def test_the_models_mode_comes_back_and_progress_ends_at_the_total():
    model, seen = random_gpt().train(), []
    row = Row(torch.randint(V, (40,)).tolist())
    first = score_rows(model, [row], watch=lambda *at: seen.append(at))[0].nats
    assert model.training
    assert_close(score_rows(model, [row])[0].nats, first)  # no dropout, though training
    assert seen[-1][0] == seen[-1][1] > 40


def test_a_text_by_hand_from_the_end_mark_on():
    tokenizer = tokenizer_of("ab")
    model = model_of(tokenizer, {("", "a"): 0.5, ("a", "b"): 0.25, ("b", "a"): 0.125})
    score = score_text(model, tokenizer, "aba")
    assert score.nats == pytest.approx(math.log(2 * 4 * 8))
    assert (score.tokens, score.n_bytes, score.words, score.documents) == (3, 3, 1, 1)
    assert score.bits_per_byte == pytest.approx((1 + 2 + 3) / 3)
    assert score.perplexity == pytest.approx(4.0)
    assert score.word_perplexity == pytest.approx(64.0)
    assert score.interval is None


def test_documents_begin_anew():
    tokenizer = tokenizer_of("ab")
    model = model_of(tokenizer, {("", "a"): 0.5, ("a", "b"): 0.25, ("b", "a"): 0.125})
    two = score_text(model, tokenizer, ["ab", "a"])
    assert two.nats == pytest.approx(math.log(2 * 4) + math.log(2))
    assert (two.tokens, two.documents) == (3, 2)


def test_without_an_end_mark_the_first_token_is_not_scored_nor_its_bytes():
    tokenizer = CharTokenizer("aé")
    table = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
    score = score_text(Bigrams(table), tokenizer, "éaé")
    assert score.nats == pytest.approx(math.log(2) + math.log(4))
    assert (score.tokens, score.n_bytes) == (2, 3)
    assert score.bits_per_byte == pytest.approx(1.0)


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    tokenizer = CharTokenizer("abcd")
    score = score_text(Bigrams(torch.zeros(4, 4)), tokenizer, "abcd" * 9)
    assert score.perplexity == pytest.approx(4)
    assert score.bits_per_byte == pytest.approx(2)


def test_bytes_go_to_the_token_that_completes_a_character():
    tokens, lengths = tokens_and_bytes(tokenizer_of("x"), "a燕b")
    assert len(tokens) == 5
    assert lengths.tolist() == [1, 0, 0, 3, 1]


def test_what_a_tokenizer_loses_is_shared_out():
    # GPT-1 lowers and drops white space: 7 bytes of text, 5 of tokens.
    table = {s: i for i, s in enumerate(("<unk>", "a", "b", "a</w>", "b</w>"))}
    tokens, lengths = tokens_and_bytes(GPT1Tokenizer(table, []), "A  b  A")
    assert len(tokens) == 3
    assert lengths.sum() == pytest.approx(7)


def test_the_interval_by_hand():
    # 40 documents of one byte after the mark: half cost 1 bit, half 3. The mean is 2,
    # the standard deviation sqrt(40/39), its error that over sqrt(40).
    tokenizer = tokenizer_of("ab")
    model = model_of(tokenizer, {("", "a"): 0.5, ("", "b"): 0.125})
    score = score_text(model, tokenizer, ["a", "b"] * 20)
    assert score.bits_per_byte == pytest.approx(2)
    assert score.deviation == pytest.approx(math.sqrt(1 / 39))
    low, high = score.interval
    assert (low + high) / 2 == pytest.approx(2)
    assert high - low == pytest.approx(2 * 1.959964 * math.sqrt(1 / 39))


def test_the_interval_of_long_text_holds_what_it_should():
    """Over many texts drawn from one source, 95 in 100 intervals hold its entropy."""
    rng = np.random.default_rng(0)
    tokenizer = CharTokenizer("ab")
    table = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    stationary = np.array([0.75, 0.25])
    entropy = -(stationary[:, None] * table.numpy() * np.log2(table.numpy())).sum()
    model, held = Bigrams(table.log(), context_length=256), 0
    for _ in range(60):
        text, at = [], 0
        for u in rng.random(3001):
            text.append("ab"[at])
            at = int(u > table[at, 0])
        low, high = score_text(model, tokenizer, "".join(text)).interval
        held += low < entropy < high
    assert 50 <= held <= 60


def test_tokens_of_one_mood_are_one_voice():
    """Thirty stretches of a hundred equal tokens say as much as thirty tokens."""
    moods = np.random.default_rng(0).random(30)
    found = scoring._deviation([moods.repeat(100)], [np.ones(3000)])
    assert found == pytest.approx(scoring.bits(moods.std(ddof=1) / math.sqrt(30)))


def test_figures_convert():
    score = scoring.TextScore(
        nats=70 * math.log(2),
        tokens=10,
        n_bytes=35,
        words=7,
        documents=1,
        context=8,
        stride=4,
        deviation=0.5,
    )
    assert score.bits_per_byte == pytest.approx(2)
    assert score.per_token(2.0) == pytest.approx(score.perplexity)
    assert score.perplexity == pytest.approx(2**7)
    assert score.word_perplexity == pytest.approx(2**10)
    assert score.per_word(1e6) == math.inf


def test_a_row_begins_with_the_mark_and_what_is_read():
    assert text_row(tokenizer_of("a"), [1, 2], [7]) == ([256, 7, 1, 2], 2)
    assert text_row(CharTokenizer("ab"), [1, 0]) == ([1, 0], 1)


def test_every_mistake_is_one_sentence():
    model, tokenizer = random_gpt(), CharTokenizer("ab")
    rows = [Row([1, 2, 3])]
    for stride in (0, 9):
        with pytest.raises(ValueError, match=rf"stride from 1 to 8 .*got {stride}"):
            score_rows(model, rows, stride=stride)
    with pytest.raises(ValueError, match=r"context from 1 to 8 .*got 9"):
        score_rows(model, rows, context=9)
    with pytest.raises(ValueError, match=r"from token 1 on, got first=0"):
        score_rows(model, [Row([1, 2], first=0)])
    for text in ("", "a", []):
        with pytest.raises(ValueError, match="expected a text of at least one token"):
            score_text(model, tokenizer, text)
    with pytest.raises(ValueError, match=r"logits are numbers, got nan"):
        score_rows(Bigrams(torch.full((4, 4), math.nan)), rows)
