"""Optimisers step as torch's do and decay what they should; schedules keep shape."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from minigpt.model import GPT, GPTConfig
from minigpt.optim import (
    AdamW,
    Muon,
    Together,
    adafactor,
    adamw,
    muon_and_adamw,
    orthogonalise,
    parameter_groups,
    rate,
)

SMALL = GPTConfig(vocab_size=11, context_length=5, n_layer=2, n_head=3, d_model=12)


def twins(*shapes: tuple[int, ...]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    return ours, [nn.Parameter(p.detach().clone()) for p in ours]


def give_equal_gradients(ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> None:
    for p, q in zip(ours, theirs, strict=True):
        p.grad = torch.randn_like(p)
        q.grad = p.grad.clone()


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.8)])
def test_adamw_is_torchs_adamw(weight_decay, betas):
    ours, theirs = twins((12, 5), (7,))
    options = {"lr": 0.01, "betas": betas, "weight_decay": weight_decay, "eps": 1e-6}
    first, second = AdamW(ours, **options), torch.optim.AdamW(theirs, **options)
    for _ in range(20):
        give_equal_gradients(ours, theirs)
        first.step()
        second.step()
    assert_close(ours, theirs)


def test_the_first_step_of_adamw_by_hand():
    # m = 0.1 g and v = 0.05 g², corrected to g and g²: the step is the sign of g.
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    w.grad = torch.tensor([0.3, -4.0])
    AdamW([w], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5).step()
    assert_close(w.data, torch.tensor([1 - 0.05 - 0.1, -2 + 0.1 + 0.1]))


def test_a_parameter_without_a_gradient_stays():
    still, moved = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    moved.grad = torch.ones(2, 2)
    for optimizer in (AdamW([still, moved]), Muon([still, moved])):
        optimizer.step()
    assert torch.equal(still.data, torch.ones(2, 2))
    assert not torch.equal(moved.data, torch.ones(2, 2))


def test_only_matrices_decay():
    model = GPT(SMALL)
    decayed, spared = parameter_groups(model.parameters(), weight_decay=0.1)
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in spared["params"]} == {1}
    everything = [*decayed["params"], *spared["params"]]
    assert len(everything) == len(list(model.parameters()))


def test_a_frozen_parameter_is_in_no_group():
    model = nn.Linear(3, 2, bias=False)
    model.weight.requires_grad_(False)
    assert parameter_groups(model.parameters(), weight_decay=0.1) == []


@pytest.mark.parametrize("shape", [(12, 12), (12, 48), (48, 12)])
def test_orthogonalising_brings_singular_values_near_one(shape):
    x = torch.randn(2, *shape) * 7
    values = torch.linalg.svdvals(orthogonalise(x, dtype=torch.float32))
    # The quintic does not converge to 1; its authors give about 0.7 to 1.2.
    assert 0.5 < values.min() < values.max() < 1.3
    # The directions stay: U Vᵀ has the same sign of overlap with x in every one.
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    overlap = u.mT @ orthogonalise(x, dtype=torch.float32) @ vh.mT
    assert (overlap.diagonal(dim1=-2, dim2=-1) > 0.5).all()


@pytest.mark.parametrize("shape", [(12, 12), (12, 20), (20, 12)])
def test_muon_is_torchs_muon_on_each_matrix(shape):
    ours, theirs = twins(shape, shape, shape)  # batched here, one by one there
    options = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    first, second = Muon(ours, **options), torch.optim.Muon(theirs, **options)
    for _ in range(3):
        give_equal_gradients(ours, theirs)
        first.step()
        second.step()
    # bfloat16 inside: batched and single products round differently in the last bit.
    assert_close(ours, theirs, atol=3 * 0.02 * 2**-7, rtol=0)


def test_muon_splits_queries_keys_and_values():
    (whole,), (copy,) = twins((36, 12))
    three = [nn.Parameter(part.clone()) for part in copy.detach().chunk(3)]
    options = {"lr": 0.02, "dtype": torch.float32}
    split, alone = Muon([whole], parts=3, **options), Muon(three, **options)
    whole.grad = torch.randn_like(whole)
    for part, grad in zip(three, whole.grad.chunk(3), strict=True):
        part.grad = grad.clone()
    split.step()
    alone.step()
    assert_close(whole.data, torch.cat([part.data for part in three]))
    joint = Muon([copy], **options)
    copy.grad = whole.grad.clone()
    joint.step()
    assert not torch.allclose(copy, whole, atol=1e-3)


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"rows divide by 1, got shape \(7,\)"):
        Muon([nn.Parameter(torch.ones(7))])
    with pytest.raises(ValueError, match=r"rows divide by 3, got shape \(8, 4\)"):
        Muon([nn.Parameter(torch.ones(8, 4))], parts=3)


def test_muon_takes_the_blocks_matrices_and_adamw_all_the_rest():
    model = GPT(SMALL)
    both = muon_and_adamw(model)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, other = (
        {names[id(p)] for group in one.param_groups for p in group["params"]}
        for one in both.optimizers
    )
    matrices = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
    assert muon == {f"blocks.{i}.{m}.weight" for i in range(2) for m in matrices}
    assert muon | other == set(names.values())
    assert not muon & other
    thirds = [g["params"] for g in both.param_groups if g.get("parts") == 3]
    assert {names[id(p)] for p in thirds[0]} == {
        f"blocks.{i}.attention.qkv.weight" for i in range(2)
    }


def test_optimisers_together_step_and_forget_as_one():
    first, second = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(3))
    one = torch.optim.SGD([first], lr=1.0)
    both = Together(one, adamw([second], lr=1.0, betas=(0.9, 0.95), weight_decay=0.0))
    first.grad, second.grad = torch.ones(2, 2), torch.ones(3)
    both.step()
    assert_close(first.data, torch.zeros(2, 2))
    assert_close(second.data, torch.zeros(3))
    both.zero_grad()
    assert first.grad is None
    assert second.grad is None


@pytest.mark.parametrize(
    ("shape", "oracle"),
    [
        ("cosine", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, 0.1)),
        ("linear", lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 20)),
        ("constant", lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0, 20)),
    ],
)
def test_schedules_are_torchs(shape, oracle):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = oracle(optimizer)
    for step in range(20):
        ours = rate(step, 20, shape=shape, floor=0.1)
        assert math.isclose(ours, scheduler.get_last_lr()[0], rel_tol=1e-6)
        optimizer.step()
        scheduler.step()


def test_wsd_warms_up_stays_and_falls_over_the_last_half():
    values = [rate(s, 12, shape="wsd", warmup=4, cooldown=0.5) for s in range(12)]
    up, flat, down = values[:4], values[4:9], values[9:]
    assert up == [0.25, 0.5, 0.75, 1.0]
    assert flat == [1.0] * 5
    assert_close(torch.tensor(down), torch.tensor([0.75, 0.5, 0.25]))
    assert rate(11, 12, shape="wsd", cooldown=0.0) == 1.0


def test_a_floor_is_reached_and_not_passed():
    for shape in ("cosine", "linear", "wsd"):
        assert math.isclose(rate(20, 20, shape=shape, floor=0.2), 0.2)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="cosine, linear, constant, wsd, got 'sine'"):
        rate(0, 1, shape="sine")


def test_adafactor_is_the_one_in_transformers():
    from transformers.optimization import Adafactor

    ours, theirs = twins((12, 5), (7,))
    first = adafactor(ours, lr=0.01, weight_decay=0.0)
    second = Adafactor(theirs, lr=0.01, scale_parameter=True, relative_step=False)
    for _ in range(20):
        give_equal_gradients(ours, theirs)
        first.step()
        second.step()
    assert_close(ours, theirs)


def test_adafactors_second_moment_by_hand():
    # After one step the means are those of the first gradient's squares: in the rows
    # 1 and 4, then 9 and 16, in the columns 1 and 9, then 4 and 16.
    w = nn.Parameter(torch.ones(2, 2))
    w.grad = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    optimizer = adafactor([w], lr=0.01, weight_decay=0.0)
    optimizer.step()
    state = optimizer.state[w]
    rows, columns = state["row_var"], state["col_var"]
    assert_close(rows, torch.tensor([[2.5], [12.5]]))
    assert_close(columns, torch.tensor([[5.0, 10.0]]))
    # v ≈ row · column / mean(row); the update g / √v is shrunk to root mean square 1,
    # and moves w by 0.01 of its own root mean square, which is 1.
    v = rows @ columns / 7.5
    update = w.grad / v.sqrt()
    update = update / max(1.0, update.square().mean().sqrt().item())
    assert_close(w.data, 1 - 0.01 * update)


def test_adafactor_keeps_a_row_and_a_column_where_adamw_keeps_two_matrices():
    def kept(optimizer: torch.optim.Optimizer) -> int:
        states = (state.values() for state in optimizer.state.values())
        return sum(x.numel() for values in states for x in values if x.ndim)

    model = GPT(SMALL)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    small = adafactor(model.parameters(), lr=0.01, weight_decay=0.0)
    large = adamw(model.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    small.step()
    large.step()
    weights = list(model.parameters())
    assert kept(large) == 2 * SMALL.n_parameters
    assert kept(small) == sum(sum(p.shape) for p in weights)


@pytest.mark.parametrize("name", ["adafactor", "adamw", "muon"])
def test_forty_steps_of_each_recipe_lower_the_loss(name):
    model = GPT(SMALL)
    tokens = torch.randint(11, (2, 6))
    make = {
        "adafactor": lambda: adafactor(model.parameters(), lr=0.1, weight_decay=0.1),
        "adamw": lambda: adamw(
            model.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.1
        ),
        "muon": lambda: muon_and_adamw(model, dtype=torch.float32),
    }
    optimizer = make[name]()
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        logits = model(tokens[:, :-1]).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
