"""Training: the loss is torch's, the loop fifteen lines, and a kill costs nothing."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from minigpt import train
from minigpt.checkpoint import load_folder
from minigpt.data import IGNORE, Windows, pad_rows
from minigpt.hardware import Hardware
from minigpt.model import GPT, GPTConfig
from minigpt.run import StepRecord, TrainConfig
from minigpt.train import (
    Diverged,
    fit,
    next_token_loss,
    training_steps,
    whole_split_loss,
)

B, T, V = 2, 5, 11
SMALL = GPTConfig(vocab_size=V, context_length=T, n_layer=2, n_head=3, d_model=12)
CPU = {"device": "cpu", "precision": "float32"}
CONFIG = TrainConfig(steps=20, batch_size=4, eval_every=5, warmup=3, **CPU)
TOKENS = torch.randint(V, (300,), generator=torch.Generator().manual_seed(0))
TRAIN, VAL = TOKENS[:250], TOKENS[250:]


def a_model(**changes) -> GPT:
    torch.manual_seed(1)
    return GPT(replace(SMALL, **changes))


def windows(batch_size: int = 4) -> Windows:
    return Windows(TRAIN, context_length=T, batch_size=batch_size)


def losses(records: list[StepRecord]) -> list[float]:
    return [record.loss for record in records]


def weights(model: GPT) -> dict[str, torch.Tensor]:
    return {name: w.clone() for name, w in model.state_dict().items()}


def assert_same_bits(one: GPT, other: GPT) -> None:
    assert_close(weights(one), weights(other), rtol=0, atol=0)


@pytest.mark.parametrize("most", [2**25, 4 * V, V], ids=["whole", "chunks", "rows"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_is_torchs_cross_entropy_in_any_chunks(monkeypatch, most, tied):
    monkeypatch.setattr(train, "_most_logits", lambda device: most)
    inputs, targets = next(windows(B))
    targets[0, 2:] = IGNORE
    ours, theirs = a_model(tied=tied), a_model(tied=tied)
    loss = next_token_loss(ours, inputs, targets)
    loss.backward()
    expected = F.cross_entropy(theirs(inputs).flatten(0, 1), targets.flatten())
    expected.backward()
    assert_close(loss, expected)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(mine.grad, other.grad)


def test_a_large_vocabulary_never_keeps_all_logits(monkeypatch):
    monkeypatch.setattr(train, "_most_logits", lambda device: 4 * 1000)
    model = GPT(replace(SMALL, vocab_size=1000))
    inputs = torch.randint(1000, (4, T))
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        # The head itself, (V, C), is a weight and no logits.
        kept.append(0 if tensor.shape[:1] == (1000,) else tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        next_token_loss(model, inputs, inputs).backward()
    assert max(kept) <= 4 * 1000 < inputs.numel() * 1000


def test_targets_that_do_not_count_change_nothing():
    model = a_model()
    inputs, targets = next(windows(B))
    targets[:, -1] = 7
    loss = next_token_loss(model, inputs, targets, ignore_index=7)
    assert_close(loss, next_token_loss(model, inputs[:, :-1], targets[:, :-1]))
    assert next_token_loss(model, inputs, torch.full_like(targets, IGNORE)) == 0


def test_fifteen_lines_and_fit_give_the_same_losses_bit_for_bit():
    config = replace(CONFIG, optimizer="adamw", schedule="cosine")
    model, batches, seen = a_model(), windows(), []
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    for step in range(20):
        left = 1 - (step - 3) / 17
        factor = (step + 1) / 3 if step < 3 else 0.5 * (1 - math.cos(math.pi * left))
        for group in optimizer.param_groups:
            group["lr"] = factor * 4e-3
        inputs, targets = next(batches)
        logits = model(inputs).flatten(0, 1)
        loss = F.cross_entropy(logits, targets.flatten(), reduction="sum") / 20
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen.append(loss.item())
    fitted, stepped = a_model(), a_model()
    assert losses(fit(fitted, TRAIN, VAL, config)) == seen
    assert losses(list(training_steps(stepped, windows(), config))) == seen
    assert_same_bits(fitted, model)
    assert_same_bits(stepped, model)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_small_parts_add_up_to_the_big_batch(optimizer):
    # Stories of unequal length: a mean of means would weigh the short ones too much.
    rows = pad_rows([[1, 2, 3, 4, 5, 6], [7, 8], [9, 1, 2], [3, 4]])
    config = replace(CONFIG, steps=3, optimizer=optimizer, learning_rate=0.01)
    whole, parts = a_model(), a_model()
    first = fit(whole, rows, rows, config)
    second = fit(parts, rows, rows, replace(config, micro_batch_size=1))
    # Each sum is taken in another order, in float32.
    assert_close(losses(first), losses(second), atol=2e-6, rtol=0)
    assert [r.tokens for r in first] == [r.tokens for r in second] == [9, 9, 9]
    # AdamW divides by the gradient's size, which makes rounding errors visible.
    assert_close(weights(whole), weights(parts), atol=1e-4, rtol=1e-3)


def test_a_batch_can_be_learnt_by_heart():
    config = replace(CONFIG, steps=150, learning_rate=0.02, eval_every=150)
    rows = next(windows(2)).inputs
    assert fit(a_model(), rows, rows, config)[-1].loss < 0.05


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32])
def test_tokens_as_they_lie_on_the_disk_give_the_same_run(dtype):
    ours, theirs = a_model(), a_model()
    found = fit(ours, TRAIN.to(dtype), VAL.to(dtype), CONFIG)
    expected = fit(theirs, TRAIN, VAL, CONFIG)
    assert [replace(r, seconds=0.0) for r in found] == [
        replace(r, seconds=0.0) for r in expected
    ]
    assert_same_bits(ours, theirs)


def test_bfloat16_follows_float32():
    config = replace(CONFIG, precision="bfloat16")
    half, full = fit(a_model(), TRAIN, VAL, config), fit(a_model(), TRAIN, VAL, CONFIG)
    assert losses(half) != losses(full)
    # Eight bits of mantissa: single losses differ in the third digit.
    assert_close(losses(half), losses(full), atol=0.03, rtol=0)


@pytest.mark.compile
def test_compiled_steps_follow_eager_ones():
    config = replace(CONFIG, compile=True)
    compiled = fit(a_model(), TRAIN, VAL, config)
    # Fused kernels round in another order; Muon's bfloat16 is not in play on float32.
    assert_close(
        losses(compiled), losses(fit(a_model(), TRAIN, VAL, CONFIG)), atol=1e-4, rtol=0
    )


def test_the_gradient_is_clipped_and_its_norm_reported():
    steps = training_steps(a_model(), windows(), replace(CONFIG, clip=1e-9))
    record = next(steps)
    assert record.gradient_norm > 0.1
    model = a_model()
    next(training_steps(model, windows(), replace(CONFIG, clip=1e-9, weight_decay=0.0)))
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).norm() < 1.01e-9


def test_the_rate_follows_the_schedule():
    records = fit(a_model(), TRAIN, VAL, CONFIG)
    assert [r.rate for r in records] == [CONFIG.rate(step) for step in range(20)]
    assert [r.step for r in records] == list(range(1, 21))
    assert {r.tokens for r in records} == {20}


def test_no_batch_is_drawn_for_a_step_that_is_not_taken():
    batches, again = windows(), windows()
    list(training_steps(a_model(), batches, replace(CONFIG, steps=3)))
    for _ in range(3):
        next(again)
    assert torch.equal(next(batches).inputs, next(again).inputs)


@pytest.mark.parametrize("n", [2, T, T + 1, 2 * T + 1, 3 * T])
def test_every_token_but_the_first_is_predicted_once(n):
    model = a_model()
    expected = []
    for start in range(0, n - 1, T):
        inputs, targets = TOKENS[start : n - 1][:T], TOKENS[start + 1 : n][:T]
        logits = model(inputs[None])[0]
        expected.append(F.cross_entropy(logits, targets, reduction="none"))
    found = whole_split_loss(model, TOKENS[:n], batch_size=2)
    assert len(torch.cat(expected)) == n - 1
    assert math.isclose(found, torch.cat(expected).mean().item(), rel_tol=1e-5)


def test_a_storys_padding_is_not_in_the_whole_split():
    model = a_model()
    long, short = [1, 2, 3, 4, 5, 6], [7, 8, 9]
    both = whole_split_loss(model, pad_rows([long, short]))
    each = [whole_split_loss(model, torch.tensor(row)) for row in (long, short)]
    assert math.isclose(both, (5 * each[0] + 2 * each[1]) / 7, rel_tol=1e-5)


def test_validation_leaves_the_mode_and_no_gradient():
    model = a_model(dropout=0.5).train()
    first = whole_split_loss(model, VAL)
    assert first == whole_split_loss(model, VAL)  # no dropout
    assert all(p.grad is None for p in model.parameters())
    half = Hardware(device=torch.device("cpu"), dtype=torch.bfloat16)
    assert whole_split_loss(model, VAL, hardware=half) != first
    with pytest.raises(IndexError):
        whole_split_loss(model, VAL + V)  # no such tokens
    assert model.training
    with pytest.raises(ValueError, match="at least 2 tokens to validate on, got 1"):
        whole_split_loss(model, VAL[:1])


def test_validation_between_steps_changes_no_step():
    often, once = a_model(dropout=0.2), a_model(dropout=0.2)
    torch.manual_seed(2)
    fit(often, TRAIN, VAL, replace(CONFIG, eval_every=1))
    torch.manual_seed(2)
    fit(once, TRAIN, VAL, CONFIG)
    assert_same_bits(often, once)


class Killed(Exception):
    """Stands for a kill, at a moment that a test can choose."""


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "adafactor"])
@pytest.mark.parametrize("rows", [False, True], ids=["text", "stories"])
def test_a_resumed_run_ends_bit_equal_to_one_never_stopped(tmp_path, optimizer, rows):
    data = TRAIN.view(-1, 5) if rows else TRAIN
    config = replace(CONFIG, optimizer=optimizer)

    def sitting(out: Path, die_at: int) -> tuple[GPT, list[StepRecord]]:
        def kill(record: StepRecord) -> None:
            if record.step == die_at:
                raise Killed

        model = a_model(dropout=0.1)
        return model, fit(model, data, VAL, config, out=out, callbacks=[kill])

    whole, expected = sitting(tmp_path / "whole", die_at=0)
    for moment in (3, 7, 12, 19):
        torch.manual_seed(moment)  # a new process has another random state
        with pytest.raises(Killed):
            sitting(tmp_path / "killed", die_at=moment)
    model, records = sitting(tmp_path / "killed", die_at=0)
    assert_same_bits(model, whole)
    assert [replace(r, seconds=0.0) for r in records] == [
        replace(r, seconds=0.0) for r in expected
    ]
    for name in ("best", "last"):
        kept = [load_folder(tmp_path / run / name).model for run in ("whole", "killed")]
        assert_same_bits(*kept)


def test_a_slope_that_is_no_number_in_float16_moves_no_weight_of_either_optimiser():
    model = a_model()
    before = weights(model)
    model.blocks[1].attention.qkv.weight.register_hook(lambda slope: slope * math.nan)
    config = replace(CONFIG, precision="float16")
    assert math.isnan(next(training_steps(model, windows(), config)).gradient_norm)
    assert_close(weights(model), before, rtol=0, atol=0)


def test_a_resumed_run_in_float16_goes_on_with_its_loss_scale(tmp_path, monkeypatch):
    def scaler(hardware: Hardware) -> torch.amp.GradScaler:
        # Starts where gradients overflow, and grows again soon.
        return torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=4)

    monkeypatch.setattr(Hardware, "scaler", scaler)
    config = replace(CONFIG, precision="float16")

    def sitting(out: Path, die_at: int) -> tuple[GPT, list[StepRecord]]:
        def kill(record: StepRecord) -> None:
            if record.step == die_at:
                raise Killed

        model = a_model()
        return model, fit(model, TRAIN, VAL, config, out=out, callbacks=[kill])

    whole, expected = sitting(tmp_path / "whole", die_at=0)
    # Steps were skipped and others taken, on both sides of the kill.
    assert [math.isinf(r.gradient_norm) for r in expected].count(True) >= 3
    assert math.isfinite(expected[-1].loss)
    with pytest.raises(Killed):
        sitting(tmp_path / "killed", die_at=13)
    model, records = sitting(tmp_path / "killed", die_at=0)
    assert losses(records) == losses(expected)
    assert_same_bits(model, whole)


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    first = fit(a_model(), TRAIN, VAL, CONFIG, out=tmp_path)
    model = a_model()
    assert fit(model, TRAIN, VAL, CONFIG, out=tmp_path) == first
    assert_same_bits(model, load_folder(tmp_path / "last").model)


def test_a_callback_can_end_the_run_after_a_save(tmp_path):
    records = fit(
        a_model(), TRAIN, VAL, CONFIG, out=tmp_path, callbacks=[lambda r: r.step == 7]
    )
    assert len(records) == 7
    assert len(fit(a_model(), TRAIN, VAL, CONFIG, out=tmp_path)) == 20


def test_patience_ends_a_run_that_no_longer_improves(tmp_path):
    config = replace(
        CONFIG, steps=400, patience=2, learning_rate=0.02, schedule="constant"
    )
    records = fit(a_model(), TRAIN[:20], VAL, config, out=tmp_path)
    assert len(records) < 400
    again = fit(a_model(), TRAIN[:20], VAL, config, out=tmp_path)
    assert len(again) == len(records)


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "adafactor"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_names_the_step_and_moves_nothing(
    tmp_path, monkeypatch, bad, optimizer
):
    model = a_model()
    true_loss, seen = train.next_token_loss, []

    def spoiled(*args):
        if model.training:
            seen.append(weights(model))
        return true_loss(*args) * (bad if len(seen) == 8 and model.training else 1.0)

    monkeypatch.setattr(train, "next_token_loss", spoiled)
    said = r"got (nan|inf) and \S+ at step 8: lower the .* or clip .* at less than 1$"
    with pytest.raises(Diverged, match=said):
        fit(model, TRAIN, VAL, replace(CONFIG, optimizer=optimizer), out=tmp_path)
    assert_close(weights(model), seen[-1], rtol=0, atol=0)
    kept = load_folder(tmp_path / "last").model
    assert_close(weights(kept), seen[5], rtol=0, atol=0)  # saved after five steps


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_activations_change_no_bit_and_are_not_kept(dropout):
    kept, again = a_model(dropout=dropout), a_model(dropout=dropout)
    sizes = []
    for model, recompute in ((kept, False), (again, True)):
        config = replace(CONFIG, recompute=recompute)
        torch.manual_seed(2)
        held = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, held=held: held.append(x.numel()) or x, lambda x: x
        ):
            records = list(training_steps(model, windows(), config))
        sizes.append((sum(held), losses(records)))
    assert sizes[0][1] == sizes[1][1]
    assert_same_bits(kept, again)
    assert sizes[1][0] < sizes[0][0]
    assert again.recompute
    assert not kept.recompute


def test_a_step_waits_for_the_device_once_whatever_the_micro_batches(monkeypatch):
    reads = []
    for name in ("item", "tolist", "__float__", "__bool__"):
        true = getattr(torch.Tensor, name)

        def counted(tensor, *args, true=true, name=name):
            reads.append(name)
            return true(tensor, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    config = replace(CONFIG, steps=2, micro_batch_size=1, optimizer="adamw")
    list(training_steps(a_model(), windows(), config))
    assert reads == ["tolist"] * 2


def test_the_kernel_that_is_asked_for_is_the_one_that_trains():
    model = a_model()
    asked = TrainConfig(**CPU, steps=1, attention="explicit")
    assert "attention explicit" in asked.hardware().describe()
    next(training_steps(model, windows(), asked))
    assert {block.attention.kernel for block in model.blocks} == {"explicit"}
