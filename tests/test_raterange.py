"""The rate-range test: it finds what a bowl's curvature says, and leaves no trace."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from minigpt.data import Batch, Windows, make_batches, pad_rows
from minigpt.model import GPT, GPTConfig
from minigpt.raterange import RateRange, rate_range, read_range
from minigpt.run import TrainConfig
from minigpt.train import fit, training_steps

V, T = 11, 5
SMALL = GPTConfig(
    vocab_size=V, context_length=T, n_layer=2, n_head=3, d_model=12, dropout=0.1
)
CONFIG = TrainConfig(
    steps=60, batch_size=8, eval_every=60, device="cpu", precision="float32"
)
# Each token tells the next: there is something to learn.
TOKENS = torch.arange(400) * 3 % V


def a_model() -> GPT:
    torch.manual_seed(1)
    return GPT(SMALL)


def windows() -> Windows:
    return Windows(TOKENS, context_length=T, batch_size=8)


def bowl(h: float, rates: list[float]) -> list[tuple[float, float]]:
    """Gradient descent on h w² / 2 while the rate grows: w ← w (1 − rate · h)."""
    w, curve = 1.0, []
    for rate in rates:
        w *= 1 - rate * h
        curve.append((rate, h * w * w / 2))
    return curve


@pytest.mark.parametrize("h", [0.5, 40.0])
def test_on_a_bowl_the_loss_is_lowest_at_two_over_the_curvature(h):
    rates = [10 ** (-4 + i / 10) for i in range(70)]
    found = read_range(bowl(h, rates), smoothing=1)
    # The last rate that still shrinks w is the last below 2 / h.
    assert found.lowest < 2 / h < 10**0.1 * found.lowest
    assert found.blow_up is not None
    assert found.steepest < 1 / h < found.lowest < found.blow_up
    # At the curvature's own rate, 1 / h, w would be 0 at once; it falls fastest before.
    assert 0.01 / h < found.steepest


def test_a_valley_by_hand():
    losses = [5.0, 5.0, 4.5, 2.0, 1.0, 3.0, 6.0, math.inf]
    curve = [(10.0**i, loss) for i, loss in enumerate(losses)]
    assert read_range(curve, smoothing=1) == RateRange(1e3, 1e4, 1e6)
    # Means of three: 5, 4.83, 3.83, 2.5, 2, 3.33, 6; the ends stand alone. Around the
    # third it falls from 4.83 to 2.5, more than anywhere else.
    assert read_range(curve, smoothing=3) == RateRange(1e2, 1e4, 1e6)
    assert read_range(curve[:5], smoothing=1).blow_up is None
    only_at_the_end = [*curve[:5], (1e5, math.nan)]
    assert read_range(only_at_the_end, smoothing=1).blow_up == 1e5


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "adafactor"])
def test_a_test_leaves_no_trace(optimizer):
    config = replace(CONFIG, optimizer=optimizer)
    tested, fresh = a_model().eval(), a_model()
    stream, again = windows(), windows()
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    curve = rate_range(tested, stream, config, steps=12)
    assert len(curve) == 12
    assert torch.equal(torch.rand(3), expected)
    assert_close(tested.state_dict(), fresh.state_dict(), rtol=0, atol=0)
    assert not tested.training
    assert all(p.grad is None for p in tested.parameters())
    assert torch.equal(next(stream).inputs, next(again).inputs)


def test_stories_are_told_from_where_they_stood_too():
    rows = pad_rows([[i, i + 1, i + 2] for i in range(8)])
    stream, again = (make_batches(rows, context_length=T, batch_size=3) for _ in "ab")
    rate_range(a_model(), stream, CONFIG, steps=5)
    assert torch.equal(next(stream).inputs, next(again).inputs)


def test_any_iterable_of_batches_will_do_and_may_end_early():
    stream = windows()
    four: list[Batch] = [next(stream) for _ in range(4)]
    assert len(rate_range(a_model(), four, CONFIG, steps=10)) == 3


def test_rates_grow_by_one_factor_and_each_loss_is_from_after_its_step():
    model = a_model().train()
    config = replace(CONFIG, optimizer="adamw", steps=3, schedule="constant", warmup=0)
    torch.manual_seed(0)
    curve = rate_range(model, windows(), config, lowest=4e-3, highest=4e-1, steps=3)
    assert_close([rate for rate, _ in curve], [4e-3, 4e-2, 4e-1])
    torch.manual_seed(0)
    # A plain run at the first rate has the same second loss, and no other one.
    losses = [r.loss for r in training_steps(model, windows(), config)]
    assert curve[0][1] == losses[1]
    assert curve[1][1] != losses[2]


def test_a_rate_far_too_high_ends_the_test(monkeypatch):
    config = replace(CONFIG, optimizer="adamw")
    curve = rate_range(a_model(), windows(), config, lowest=1e-3, highest=1e6, steps=60)
    assert len(curve) < 60
    assert curve[-1][1] > 2 * curve[0][1]
    assert not math.isnan(curve[-1][1])
    blow_up = read_range(curve).blow_up
    assert blow_up is not None
    assert blow_up <= curve[-1][0]


def test_the_steepest_rate_trains_and_its_neighbours_far_off_do_not():
    config = replace(CONFIG, optimizer="adamw", schedule="constant", warmup=0)
    model = a_model().eval()
    torch.manual_seed(0)
    curve = rate_range(model, windows(), config, lowest=1e-5, highest=10.0, steps=80)
    found = read_range(curve, smoothing=9)
    assert abs(curve[0][1] - math.log(V)) < 0.3
    assert found.blow_up is not None

    def reached(rate: float) -> float:
        records = fit(
            a_model(), TOKENS[:350], TOKENS[350:], replace(config, learning_rate=rate)
        )
        loss = records[-1].validation_loss
        assert loss is not None
        return loss

    best = reached(found.steepest)
    assert best < 0.5 * reached(curve[0][0])
    assert best < 0.5 * reached(found.blow_up)


@pytest.mark.parametrize(
    "wrong", [{"lowest": 0.0}, {"lowest": 2.0, "highest": 1.0}, {"steps": 1}]
)
def test_rates_that_do_not_grow_are_refused(wrong):
    with pytest.raises(ValueError, match="expected rates 0 < lowest < highest and at"):
        rate_range(a_model(), windows(), CONFIG, **wrong)


def test_too_short_a_curve_is_refused():
    curve = [(1.0, 2.0), (2.0, 1.0), (4.0, math.inf)]
    with pytest.raises(ValueError, match="at least 7 finite losses, got 5 and 2"):
        read_range(curve)
    with pytest.raises(ValueError, match=r"odd number of neighbours .* got 2 and 2"):
        read_range(curve, smoothing=2)
