"""The planner's three counts, each beside a run that is counted tensor by tensor."""

from dataclasses import replace

import pytest
import torch

from minigpt.cli import main
from minigpt.data import Batch
from minigpt.generate import generate_batch
from minigpt.hardware import choose
from minigpt.model import GPT, GPTConfig
from minigpt.plan import (
    GPUS,
    activation_bytes,
    cache_bytes,
    flops_per_token,
    matrix_parameters,
    optimizer_bytes,
    plan,
    require_training_memory,
    size,
    training_memory,
)
from minigpt.run import TrainConfig, make_optimizer
from minigpt.train import fit, next_token_loss, training_steps

B, V = 2, 50
SHAPE = GPTConfig(vocab_size=V, context_length=320, n_layer=3, n_head=4, d_model=64)


def batch(config: GPTConfig) -> Batch:
    tokens = torch.randint(config.vocab_size, (B, config.context_length))
    return Batch(tokens, tokens)


def saved_bytes(config: GPTConfig, precision: str, *, recompute: bool = False) -> int:
    """Bytes that autograd really keeps of a forward pass, weights left out."""
    model = GPT(config)
    model.recompute = recompute
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, choose("cpu", precision).autocast():
        next_token_loss(model, *batch(config))
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_activations_are_what_autograd_keeps(precision):
    half = precision == "bfloat16"
    found = saved_bytes(SHAPE, precision)
    # Not activations: the log-probabilities of the words, and half-precision copies.
    found -= 4 * B * SHAPE.context_length * V
    found -= 2 * (matrix_parameters(SHAPE) + V * SHAPE.d_model) * half
    expected = activation_bytes(SHAPE, batch_size=B, half=half)
    assert found == pytest.approx(expected, rel=0.02)


def test_what_is_made_again_is_not_kept():
    """Each block's input stays; the plan adds one block in full, in the backward."""
    found = saved_bytes(SHAPE, "float32", recompute=True)
    tokens = B * SHAPE.context_length
    found -= 4 * tokens * V
    whole = activation_bytes(SHAPE, batch_size=B, half=False)
    expected = activation_bytes(SHAPE, batch_size=B, half=False, recompute=True)
    one_block = (whole - 8 * SHAPE.d_model * tokens) / SHAPE.n_layer
    assert found == pytest.approx(expected - one_block, rel=0.05)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_states_are_what_the_optimiser_holds(optimizer):
    model = GPT(SHAPE)
    config = TrainConfig(steps=1, optimizer=optimizer, device="cpu", batch_size=B)
    one = make_optimizer(model, config)
    list(training_steps(model, [batch(SHAPE)], config, optimizer=one))
    parts = getattr(one, "optimizers", (one,))
    held = sum(
        tensor.nbytes
        for part in parts
        for state in part.state.values()
        for tensor in state.values()
        if tensor.ndim  # the step counts are single numbers
    )
    assert held == optimizer_bytes(SHAPE, optimizer)
    memory = training_memory(SHAPE, batch_size=B, half=False, optimizer=optimizer)
    assert memory.weights == sum(p.nbytes for p in model.parameters())
    assert memory.gradients == memory.weights


def test_adafactor_holds_about_a_row_and_a_column_of_each_matrix():
    model = GPT(SHAPE)
    one = torch.optim.Adafactor(model.parameters())
    next_token_loss(model, *batch(SHAPE)).backward()
    one.step()
    held = sum(
        tensor.nbytes
        for state in one.state.values()
        for tensor in state.values()
        if tensor.ndim
    )
    assert held == pytest.approx(optimizer_bytes(SHAPE, "adafactor"), rel=0.02)


def test_arithmetic_is_what_torch_counts():
    """Forward and backward of one block stack, counted operation by operation."""
    from torch.utils.flop_counter import FlopCounterMode

    model = GPT(SHAPE)
    for layer in model.blocks:
        layer.attention.kernel = "explicit"
    with FlopCounterMode(display=False) as counter:
        next_token_loss(model, *batch(SHAPE)).backward()
    tokens = B * SHAPE.context_length
    # The explicit formula multiplies the masked half too, which is no useful work.
    whole = 6.0 * SHAPE.n_layer * SHAPE.context_length * SHAPE.d_model
    expected = tokens * (flops_per_token(SHAPE) + whole)
    # The first layer's input needs no gradient beyond the embedding; biases and norms
    # are counted by us as products and by torch not at all.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_gpt3_cost_what_its_paper_says():
    """Brown et al. 2020, table D.1: 3.14e23 FLOPs for 300 billion tokens."""
    gpt3 = GPTConfig.preset("gpt3-175b")
    flops = flops_per_token(gpt3, attention=False) * 300e9
    assert flops == pytest.approx(3.14e23, rel=0.005)


def test_a_plan_by_hand():
    """A weight of GPT-2 takes 16 bytes of states and half a weight two more."""
    gpt2 = GPTConfig.preset("gpt2")
    found = plan(gpt2, gpu="a100", gpus=1, tokens=1e9, micro_batch_size=4)
    copies = 2 * 12 * 12 * 768**2
    assert found.memory.states == 16 * 124_439_808 + copies
    flops = 6 * (124_439_808 - 1024 * 768) + 6 * 12 * 1024 * 768
    assert found.seconds == pytest.approx(flops * 1e9 / (312e12 * 0.4))
    assert found.fits
    assert "fits" in str(found)


def test_what_does_not_fit_says_what_to_try():
    large = GPTConfig.preset("gpt3-175b")
    alone = plan(large, gpus=1)
    assert "does not fit: try strategy fsdp on" in str(alone)
    needed = int(str(alone).split("fsdp on ")[1].split(" ")[0].replace(",", ""))
    assert plan(large, gpus=needed).memory.states <= alone.available
    # Copies are as large on every device: a thousand of them already suffice as shards.
    for gpus, enough in ((1, needed), (1024, 1024)):
        said = str(plan(large, gpus=gpus, strategy="ddp"))
        assert f"try strategy fsdp on {enough:,} devices" in said
    wide = plan(large, gpus=1024, micro_batch_size=64)
    assert "smaller micro-batch" in str(wide)
    assert plan(large, gpus=1024, recompute=True).fits


def test_every_gpu_of_the_table_has_a_peak():
    for name in GPUS:
        assert plan(SHAPE, gpu=name).seconds > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gpu": "h1000"}, r"expected a gpu t4, .*h200, got 'h1000'"),
        ({"gpus": 0}, "expected at least 1 gpu, got 0"),
        ({"mfu": 1.5}, r"expected an mfu in \(0, 1\].* got 1.5"),
    ],
)
def test_a_mistake_is_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        plan(SHAPE, **options)


def test_bytes_read_well():
    assert [size(x) for x in (12.0, 3.5e3, 80e9)] == ["12 bytes", "3.5 kB", "80 GB"]


def test_the_command_line_plans_and_refuses(capsys):
    asked = "plan --preset gpt3-175b --gpus 1024 --tokens 300e9 --recompute"
    assert main(asked.split()) == 0
    said = capsys.readouterr().out
    assert "174,604,259,328 parameters" in said
    assert "3.19e+23 FLOPs for 3e+11 tokens" in said
    assert main(["plan", "--mfu", "2"]) == 2
    assert "expected an mfu" in capsys.readouterr().err


CPU = choose("cpu", "float32")


def with_free(monkeypatch, n_bytes: float | None) -> None:
    monkeypatch.setattr("minigpt.plan.free_memory", lambda device: n_bytes)


def total(windows: int, **change) -> float:
    return training_memory(SHAPE, batch_size=windows, half=False, **change).total


@pytest.mark.parametrize(
    ("free", "advice"),
    [
        (total(7), "try micro_batch_size 4$"),
        (total(3), "try micro_batch_size 2$"),
        (total(1, recompute=True), "try micro_batch_size 1 with recompute$"),
        (
            total(1, recompute=True, optimizer="adafactor"),
            "try micro_batch_size 1 with recompute and optimizer adafactor$",
        ),
        (1e6, "try a smaller model, or several devices with strategy fsdp$"),
    ],
)
def test_a_run_that_does_not_fit_is_told_the_least_that_would(
    monkeypatch, free, advice
):
    with_free(monkeypatch, free)
    needed, got = size(total(8)), size(free)
    said = f"expected {needed} of free memory on cpu to train this model, got {got}: "
    with pytest.raises(MemoryError, match=said + advice):
        require_training_memory(SHAPE, batch_size=8, hardware=CPU)


def test_a_run_that_fits_or_may_fit_is_let_through(monkeypatch):
    for free in (total(8), None):
        with_free(monkeypatch, free)
        require_training_memory(SHAPE, batch_size=8, hardware=CPU)
    # What is there already needs no room.
    with_free(monkeypatch, total(8) - 1000)
    require_training_memory(SHAPE, batch_size=8, hardware=CPU, held=1000)


def test_fit_foresees_its_memory_before_the_first_step(monkeypatch):
    tokens = torch.randint(V, (2000,))
    with_free(monkeypatch, total(2))
    fitting = TrainConfig(
        steps=1, batch_size=8, device="cpu", precision="float32", optimizer="adamw"
    )
    said = "try micro_batch_size 2$"
    with pytest.raises(MemoryError, match=said):
        fit(GPT(SHAPE), tokens, tokens[:400], fitting)
    fit(GPT(SHAPE), tokens, tokens[:400], replace(fitting, micro_batch_size=2))
    # Stories of 21 tokens in a context of 320: eight of them are less than one window.
    stories = torch.randint(V, (50, 21))
    with_free(monkeypatch, total(1))
    fit(GPT(SHAPE), stories, stories[:4], fitting)


def test_a_cache_is_as_large_as_foreseen_and_too_large_a_one_is_refused(monkeypatch):
    model = GPT(SHAPE)
    cache = model.new_cache(B, 30)
    need = cache_bytes(SHAPE, batch_size=B, capacity=30)
    assert cache.keys.nbytes + cache.values.nbytes == need
    prompts = [[1, 2, 3]] * B
    monkeypatch.setattr("minigpt.hardware.available_memory", lambda: need)
    generate_batch(model, prompts, max_new_tokens=27)
    monkeypatch.setattr("minigpt.hardware.available_memory", lambda: need - 1)
    said = "keep keys and values of 2 texts of 30 tokens, .* give fewer prompts at once"
    with pytest.raises(MemoryError, match=said):
        generate_batch(model, prompts, max_new_tokens=27)
    generate_batch(model, prompts, max_new_tokens=1, use_cache=False)
