"""Samplers against worked numbers, transformers' processors, and counted draws."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from minigpt.sampling import (
    Chain,
    Greedy,
    RepetitionPenalty,
    Sampler,
    Temperature,
    TopK,
    TopP,
    draw,
)

NONE = torch.zeros(1, 1, dtype=torch.long)
P = torch.tensor([[0.5, 0.25, 0.15, 0.1]])
INF = float("inf")


def kept(sampler: Sampler, p: Tensor = P) -> list[int]:
    return sampler(p.log(), NONE)[0].isfinite().nonzero().flatten().tolist()


def test_worked_cuts_keep_the_tokens_worked_out() -> None:
    assert kept(Greedy()) == [0]
    assert kept(TopK(2)) == [0, 1]
    assert kept(TopK(9)) == [0, 1, 2, 3]
    # 0.5 alone reaches 0.5; 0.51 needs the second token, 0.75 no third.
    assert kept(TopP(0.5)) == [0]
    assert kept(TopP(0.51)) == [0, 1]
    assert kept(TopP(0.76)) == [0, 1, 2]
    assert kept(TopP(1.0)) == [0, 1, 2, 3]
    assert kept(TopP(1e-9)) == [0]


def test_temperature_bends_the_odds_by_its_inverse_power() -> None:
    p = Temperature(0.5)(P.log(), NONE).softmax(-1)
    torch.testing.assert_close(p, P**2 / (P**2).sum())


def test_penalty_lowers_only_what_occurred_and_once() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.0]])
    tokens = torch.tensor([[0, 1, 0, 3]])
    expected = torch.tensor([[1.0, -4.0, 1.0, 0.0]])
    torch.testing.assert_close(RepetitionPenalty(2.0)(logits, tokens), expected)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Temperature(0.7), TemperatureLogitsWarper(0.7)),
        (TopK(3), TopKLogitsWarper(3)),
        (TopK(50), TopKLogitsWarper(50)),
        (TopP(0.8), TopPLogitsWarper(0.8)),
        (TopP(0.05), TopPLogitsWarper(0.05)),
        (RepetitionPenalty(1.3), RepetitionPenaltyLogitsProcessor(1.3)),
    ],
    ids=["t", "k3", "k50", "p80", "p5", "penalty"],
)
def test_samplers_equal_transformers(ours: Sampler, theirs: Callable) -> None:
    logits = 3 * torch.randn(50, 11, dtype=torch.float64)
    tokens = torch.randint(11, (50, 5))
    torch.testing.assert_close(ours(logits, tokens), theirs(tokens, logits.clone()))


def test_samplers_compose_from_left_to_right() -> None:
    logits, tokens = torch.randn(2, 11), torch.randint(11, (2, 5))
    both = Temperature(0.5) | TopP(0.6) | TopK(3)
    step = Temperature(0.5)(logits, tokens)
    step = TopK(3)(TopP(0.6)(step, tokens), tokens)
    torch.testing.assert_close(both(logits, tokens), step)
    # The order matters: bending first leaves fewer tokens to hold probability p.
    assert kept(Temperature(0.5) | TopP(0.6)) == [0]
    assert kept(TopP(0.6) | Temperature(0.5)) == [0, 1]
    assert isinstance(both, Chain)
    assert Temperature(0.5) | TopK(3) == Temperature(0.5) | TopK(3)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=8, unique=True))
def test_top_1_is_greedy(values: list[float]) -> None:
    logits = torch.tensor([values], dtype=torch.float64)
    best = Greedy()(logits, NONE)
    assert best.isfinite().sum() == 1
    assert best.argmax() == logits.argmax()
    for cut in (TopK(1), TopP(1e-9), TopK(3) | TopP(1e-9)):
        assert torch.equal(cut(logits, NONE).isfinite(), best.isfinite())
        assert draw(cut(logits, NONE)).item() == logits.argmax().item()


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.floats(-30, 30), min_size=2, max_size=8),
    st.floats(0.01, 1),
)
def test_top_p_keeps_enough_and_no_token_too_many(
    values: list[float], p: float
) -> None:
    logits = torch.tensor([values], dtype=torch.float64)
    mass = logits.softmax(-1)
    mine = TopP(p)(logits, NONE).isfinite()
    assert mass[mine].sum() >= p - 1e-12
    assert mass[mine].sum() - mass[mine].min() < p + 1e-12
    assert mass[mine].min() >= mass[~mine].max() if not mine.all() else True


def test_draws_follow_the_probabilities() -> None:
    n, sampler = 20_000, Temperature(0.8) | TopK(5)
    logits = torch.randn(1, 11)
    p = sampler(logits, NONE).softmax(-1)[0]
    generator = torch.Generator().manual_seed(1)
    drawn = draw(sampler(logits, NONE).expand(n, -1), generator)
    counts = drawn.bincount(minlength=11)
    assert counts[p == 0].sum() == 0
    possible = p > 0
    expected = p[possible].double() / p[possible].double().sum() * n
    assert chisquare(counts[possible].numpy(), expected.numpy()).pvalue > 0.001
    # The same test sees a temperature that is forgotten.
    wrong = (TopK(5)(logits, NONE)).softmax(-1)[0][possible].double()
    off = chisquare(counts[possible].numpy(), (wrong / wrong.sum() * n).numpy())
    assert off.pvalue < 1e-6


def test_a_generator_for_each_row_makes_rows_independent_of_their_batch() -> None:
    logits = torch.randn(3, 11)
    seeded = [torch.Generator().manual_seed(seed) for seed in range(3)]
    together = draw(logits, seeded)
    for row in range(3):
        own = torch.Generator().manual_seed(row)
        assert draw(logits[row : row + 1], own).item() == together[row].item()


def test_half_precision_draws_every_token_of_a_large_vocabulary() -> None:
    # Added up in bfloat16, the probabilities would take a few hundred values.
    logits = torch.zeros(4_000, 5_000, dtype=torch.bfloat16)
    drawn = draw(logits, torch.Generator().manual_seed(0))
    assert abs(drawn.double().mean().item() / 2499.5 - 1) < 0.05
    assert len(drawn.unique()) > 2_500


@pytest.mark.parametrize(("u", "token"), [(0.0, 1), (1 - 2**-53, 2), (1.0, 2)])
def test_no_u_however_extreme_draws_an_impossible_token(
    u: float, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    extreme = torch.tensor([u], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: extreme)
    logits = torch.tensor([[-INF, 0.3, 0.1, -INF]])
    assert draw(logits).tolist() == [token]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Temperature(0.0), r"above 0 \(1e-6 at least\), got 0\.0: .* Greedy"),
        (lambda: Temperature(1e-38), r"temperature above 0 .*, got 1e-38: for no"),
        (lambda: Temperature(-1.0), r"temperature above 0 .*, got -1\.0: for no"),
        (lambda: Temperature(INF), "temperature above 0 .*, got inf: for no"),
        (lambda: Temperature(float("nan")), "temperature above 0 .*, got nan: for no"),
        (lambda: TopK(0), "at least 1 token, got 0: give a number of tokens"),
        (lambda: TopP(0.0), r"probability in \(0, 1\], got 0\.0: give a share"),
        (lambda: TopP(1.5), r"probability in \(0, 1\], got 1\.5: give a share"),
        (lambda: TopP(float("nan")), r"probability in \(0, 1\], got nan: give a"),
        (lambda: RepetitionPenalty(0.0), r"penalty above 0, got 0\.0: 1 changes nothi"),
    ],
)
def test_impossible_settings_are_refused(
    make: Callable[[], Sampler], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_coldest_temperature_is_greedy_and_the_hottest_uniform() -> None:
    logits = 50 * torch.randn(20, 11)
    none = NONE.expand(20, 1)
    cold = draw(Temperature(1e-6)(logits, none))
    assert torch.equal(cold, logits.argmax(-1))
    hot = Temperature(1e30)(logits, none).softmax(-1)
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 11))


def test_a_draw_from_nothing_is_refused() -> None:
    nothing = torch.tensor([[0.0, 1.0], [-INF, -INF]])
    with pytest.raises(ValueError, match="a chance for at least one token, got none"):
        draw(nothing)
    with pytest.raises(ValueError, match=r"got none \(or nan\): the samplers ruled"):
        draw(torch.tensor([[0.0, float("nan")]]))
