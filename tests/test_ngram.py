import math
import time
from collections import Counter

import numpy as np
import pytest
from nltk.lm import MLE, KneserNeyInterpolated, Lidstone

from minigpt.ngram import (
    AddK,
    KneserNey,
    NGram,
    Smoothing,
    bits,
    bits_per_byte,
    cross_entropy,
    estimate_discounts,
    perplexity,
    sample,
)

V = 11
EVERY: list[Smoothing] = [
    AddK(0.0),
    AddK(0.5),
    KneserNey(),
    KneserNey(modified=False),
    KneserNey(discounts=(0.0, 0.7, 0.7, 0.7)),
]


@pytest.fixture
def sequences() -> list[np.ndarray]:
    """Zipf-like tokens: some pairs are frequent, some never occur; 10 never occurs."""
    rng = np.random.default_rng(0)
    return [np.minimum(rng.geometric(0.3, size=n), 10) - 1 for n in (3, 40, 1, 25, 60)]


def everygrams(sequences: list[np.ndarray], order: int) -> list[list[tuple[str, ...]]]:
    """For nltk: n-grams of each order, one start mark "s" before each sequence."""
    marked = [["s", *map(str, sequence)] for sequence in sequences]
    return [
        [
            tuple(words[i : i + n])
            for n in range(1, order + 1)
            for i in range(len(words) - n + 1)
        ]
        for words in marked
    ]


# Worked examples.
def test_a_bigram_by_hand() -> None:
    # 0 1 0 1 2: after 0 always 1; after 1 once 0 and once 2; the start is before 0.
    model = NGram.train([[0, 1, 0, 1, 2]], order=2, vocab_size=3, smoothing=AddK(0.0))
    assert model.count([0, 1]) == 2
    assert model.next_distribution([1]).tolist() == [0.5, 0, 0.5]
    assert model.next_distribution().tolist() == [1, 0, 0]
    assert model.surprisal([0, 1, 2]).tolist() == [0, 0, math.log(2)]
    assert model.surprisal([2])[0] == math.inf


def test_kneser_ney_by_hand() -> None:
    # Bigrams: s 0, 0 1 (twice), 1 0, 1 2. D = 1/2. Different predecessors: 0 has two
    # (s and 1), 1 and 2 have one: 4 in all. Lower order: (a − ½) / 4 + (3 · ½ / 4) / 3.
    model = NGram.train(
        [[0, 1, 0, 1, 2]],
        order=2,
        vocab_size=3,
        smoothing=KneserNey(discounts=(0.5, 0.5)),
    )
    lower = np.array([1.5, 0.5, 0.5]) / 4 + 1.5 / 4 / 3
    np.testing.assert_allclose(lower, [0.5, 0.25, 0.25])
    np.testing.assert_allclose(
        model.next_distribution([0]), np.array([0, 1.5, 0]) / 2 + 0.5 / 2 * lower
    )
    np.testing.assert_allclose(
        model.next_distribution([1]), np.array([0.5, 0, 0.5]) / 2 + 1.0 / 2 * lower
    )


def test_a_word_that_follows_one_word_only_is_not_expected_after_others() -> None:
    # 5 is as frequent as 4, but always after 3: elsewhere Kneser–Ney expects it less.
    told = [[3, 5], [3, 5], [3, 5], [0, 4], [1, 4], [2, 4]]
    model = NGram.train(told, order=2, vocab_size=8, smoothing=KneserNey((0.5, 0.5)))
    after_unknown = model.next_distribution([6])
    assert after_unknown[4] > 2 * after_unknown[5]


def test_discounts_by_hand() -> None:
    # Chen and Goodman's formula with n = 8, 4, 2, 1: Y = 8 / 16.
    assert estimate_discounts(8, 4, 2, 1) == (0.5, 1.25, 2.0)
    assert estimate_discounts(8, 4, 2, 1, modified=False) == (0.5, 0.5, 0.5)
    assert estimate_discounts(0, 4, 0, 1) == (0.5, 1.0, 1.5)


def test_larger_counts_lose_more_by_hand() -> None:
    # 8 words occur once, 4 twice, 2 three times, 1 four times: 26 tokens, 15 words.
    told = [*range(8), *[8, 9, 10, 11] * 2, *[12, 13] * 3, *[14] * 4]
    p = NGram.train([told], order=1, vocab_size=15).next_distribution()
    taken = 8 * 0.5 + 4 * 1.25 + 3 * 2.0
    expected = np.array([0.5] * 8 + [0.75] * 4 + [1.0] * 2 + [2.0])
    np.testing.assert_allclose(p, expected / 26 + taken / 26 / 15)


def test_what_begins_a_sequence_keeps_its_count_at_every_order() -> None:
    # Nothing comes before the start mark, so there are no predecessors to count.
    smoothing = KneserNey(discounts=(0.5, 0.5, 0.5))
    model = NGram.train(
        [[0], [0], [0], [1]], order=3, vocab_size=4, smoothing=smoothing
    )
    lower = np.array([0.5, 0.5, 0, 0]) / 2 + 1.0 / 2 / 4
    expected = np.array([2.5, 0.5, 0, 0]) / 4 + 1.0 / 4 * lower
    np.testing.assert_allclose(model.next_distribution(), expected)


def test_each_order_discounts_by_its_own_counts() -> None:
    # 4 bigrams occur once, 2 twice; unigrams have other numbers of predecessors.
    told = [[0, 1], [0, 2], [1, 2], [2, 1], [3, 4], [3, 4], [4, 3], [4, 3]]
    model = NGram.train(
        told, order=2, vocab_size=5, smoothing=KneserNey(modified=False)
    )
    smoothing = model.smoothing
    assert isinstance(smoothing, KneserNey)
    of = Counter(
        Counter((a, b) for a, b in [("s", w[0]) for w in told] + told).values()
    )
    expected = of[1] / (of[1] + 2 * of[2])
    assert smoothing.discount(model.levels[1].counts, 1) == (expected,) * 3


# Oracles.
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_equals_nltk_at_equal_discount(
    sequences: list[np.ndarray], order: int
) -> None:
    # nltk does not discount unigrams (so ours is 0 there), and gives n-grams that begin
    # with the start mark no predecessor, so contexts that hold it differ from order 3.
    # nltk has no unigram model of its own; it needs bigrams to count predecessors.
    order = max(order, 2)
    theirs = KneserNeyInterpolated(order, discount=0.7)
    theirs.fit(everygrams(sequences, order), vocabulary_text=[*map(str, range(V)), "s"])
    discounts = (0.0, *[0.7] * (order - 1))
    ours = NGram.train(
        sequences, order=order, vocab_size=V, smoothing=KneserNey(discounts)
    )
    compared = 0
    for sequence in sequences:
        for i in range(order - 1, len(sequence)):
            context = [str(token) for token in sequence[i - order + 1 : i]]
            expected = [theirs.score(str(w), context) for w in range(V)]
            np.testing.assert_allclose(
                ours.next_distribution(sequence[:i]), expected, atol=1e-12
            )
            compared += 1
    assert compared > 100


@pytest.mark.parametrize("order", [2, 3])
def test_add_k_equals_nltk(sequences: list[np.ndarray], order: int) -> None:
    plain, lidstone = MLE(order), Lidstone(0.3, order)
    for model in (plain, lidstone):
        model.fit(everygrams(sequences, order), vocabulary_text=map(str, range(V)))
    mle = NGram.train(sequences, order=order, vocab_size=V, smoothing=AddK(0.0))
    for sequence in sequences:
        for i in range(order - 1, len(sequence)):
            context = [str(token) for token in sequence[i - order + 1 : i]]
            expected = [plain.score(str(w), context) for w in range(V)]
            np.testing.assert_allclose(
                mle.next_distribution(sequence[:i]), expected, atol=1e-12
            )
            # nltk's vocabulary holds one word more, <UNK>: rescale its shares.
            added = np.array([lidstone.score(str(w), context) for w in range(V)])
            np.testing.assert_allclose(
                mle.smoothed(AddK(0.3)).next_distribution(sequence[:i]),
                added / added.sum(),
                atol=1e-12,
            )


def test_counts_of_eight_bytes_equal_a_dictionary() -> None:
    text = np.frombuffer(b"the tern turned to the turning tide; " * 40, dtype=np.uint8)
    model = NGram.train([text], order=8, vocab_size=256)
    expected = Counter(tuple(text[i : i + 8].tolist()) for i in range(len(text) - 7))
    assert len(expected) == 37
    assert all(model.count(ngram) == n for ngram, n in expected.items())
    assert model.count(list(b"tern tid")) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("order", "vocab_size"), [(8, 256), (5, 50_257)])
def test_millions_of_tokens_are_counted_in_seconds(order: int, vocab_size: int) -> None:
    # Like words: the k-th commonest comes in proportion to 1 / k.
    drawn = np.random.default_rng(0).random(2_000_000)
    tokens = (vocab_size**drawn).astype(int) - 1
    begin = time.process_time()
    model = NGram.train([tokens], order=order, vocab_size=vocab_size)
    assert time.process_time() - begin < 20
    runs = (tokens[i : len(tokens) - order + 1 + i].tolist() for i in range(order))
    counts = Counter(zip(*runs, strict=True))
    assert all(model.count(ngram) == n for ngram, n in counts.most_common(50))


# Invariants.
@pytest.mark.parametrize("smoothing", EVERY)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_sum_to_one_and_agree_with_surprisals(
    sequences: list[np.ndarray], smoothing: Smoothing, order: int
) -> None:
    model = NGram.train(sequences, order=order, vocab_size=V, smoothing=smoothing)
    other = np.random.default_rng(1).integers(0, V, 50)  # contexts and words unseen
    distributions = [model.next_distribution(other[:i]) for i in range(len(other))]
    np.testing.assert_allclose([p.sum() for p in distributions], 1, atol=1e-12)
    assert min(p.min() for p in distributions) >= 0
    p = np.array([p[token] for p, token in zip(distributions, other, strict=True)])
    np.testing.assert_allclose(np.exp(-model.surprisal(other)), p, atol=1e-12)


def test_many_sequences_are_surprising_one_by_one(sequences: list[np.ndarray]) -> None:
    model = NGram.train(sequences[:3], order=3, vocab_size=V)
    one_by_one = [model.surprisal(sequence) for sequence in sequences]
    np.testing.assert_array_equal(
        model.surprisals(sequences), np.concatenate(one_by_one)
    )
    assert cross_entropy(model, sequences) == np.concatenate(one_by_one).mean()


def test_an_unseen_word_is_impossible_to_counts_and_possible_to_kneser_ney(
    sequences: list[np.ndarray],
) -> None:
    model = NGram.train(sequences, order=3, vocab_size=V, smoothing=AddK(0.0))
    assert model.count([10]) == 0
    assert model.surprisal([0, 10])[1] == math.inf
    assert np.isfinite(model.smoothed(KneserNey()).surprisal([0, 10])).all()


def test_after_an_unseen_context_counts_say_nothing(
    sequences: list[np.ndarray],
) -> None:
    for k in (0.0, 0.5):
        model = NGram.train(sequences, order=3, vocab_size=V, smoothing=AddK(k))
        np.testing.assert_allclose(model.next_distribution([10, 10]), 1 / V)


def test_after_an_unseen_context_kneser_ney_uses_the_shorter_one(
    sequences: list[np.ndarray],
) -> None:
    model = NGram.train(sequences, order=3, vocab_size=V)
    np.testing.assert_array_equal(
        model.next_distribution([10, 0]), model.next_distribution([9, 10, 0])
    )


def test_the_first_token_is_predicted_from_first_tokens() -> None:
    model = NGram.train(
        [[0, 1, 1, 1], [0, 1]], order=3, vocab_size=3, smoothing=AddK(0.0)
    )
    assert model.next_distribution().tolist() == [1, 0, 0]


def test_an_order_longer_than_every_sequence_is_harmless() -> None:
    for smoothing in EVERY[:3]:
        model = NGram.train([[0, 1]], order=4, vocab_size=3, smoothing=smoothing)
        assert model.next_distribution([0, 1, 2, 0]).sum() == pytest.approx(1)


def test_less_than_the_best_constant_guess_is_lost_by_unigrams(
    sequences: list[np.ndarray],
) -> None:
    model = NGram.train(sequences, order=1, vocab_size=V, smoothing=AddK(0.0))
    counts = np.bincount(np.concatenate(sequences), minlength=V)
    p = counts[counts > 0] / counts.sum()
    assert cross_entropy(model, sequences) == pytest.approx(-(p * np.log(p)).sum())


def test_samples_follow_the_distribution_and_stop(sequences: list[np.ndarray]) -> None:
    model = NGram.train(sequences, order=2, vocab_size=V)
    rng = np.random.default_rng(0)
    draws = [
        sample(model, generator=rng, prefix=[3], max_new_tokens=1) for _ in range(4000)
    ]
    counts = np.bincount([new for _, new in draws], minlength=V)
    p = model.next_distribution([3])
    assert (np.abs(counts - 4000 * p) < 5 * np.sqrt(4000 * p * (1 - p)) + 1).all()
    ended = sample(model, generator=rng, stop=2, max_new_tokens=1000)
    assert ended.index(2) == len(ended) - 1 < 999


# Units.
def test_a_fair_die_in_every_unit() -> None:
    nats = math.log(6)
    assert perplexity(nats) == pytest.approx(6)
    assert bits(nats) == pytest.approx(2.584962500721156)
    # 100 throws written as 200 bytes ("4\n"): half of the bits for each byte.
    assert bits_per_byte(nats, tokens=100, n_bytes=200) == pytest.approx(bits(nats) / 2)


# Errors.
def test_bad_input_is_told_in_one_sentence(sequences: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="order of at least 1, got 0"):
        NGram.train(sequences, order=0, vocab_size=V)
    with pytest.raises(ValueError, match="at least one sequence"):
        NGram.train([], order=2, vocab_size=V)
    with pytest.raises(ValueError, match="at least one token to count"):
        NGram.train([[], []], order=2, vocab_size=V)
    with pytest.raises(ValueError, match="tokens from 0 to 4, got 7"):
        NGram.train([[0, 7]], order=2, vocab_size=5)
    with pytest.raises(ValueError, match="k of at least 0, got -1"):
        AddK(-1.0)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        KneserNey((0.5, 1.5))
    with pytest.raises(ValueError, match="each order, got 1: give at least 2"):
        NGram.train(sequences, order=2, vocab_size=V, smoothing=KneserNey((0.5,)))
    with pytest.raises(ValueError, match="one token and one byte, got 0 and 5"):
        bits_per_byte(1.0, tokens=0, n_bytes=5)
    model = NGram.train(sequences, order=2, vocab_size=V)
    with pytest.raises(ValueError, match=r"at most 2 tokens .* got 3"):
        model.count([1, 2, 3])
    with pytest.raises(ValueError, match="tokens from 0 to 10, got -1"):
        model.surprisal([0, -1])
    with pytest.raises(ValueError, match="tokens from 0 to 10, got 11"):
        model.next_distribution([11])
