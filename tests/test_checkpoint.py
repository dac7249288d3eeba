"""Checkpoints: `transformers` loads what we save, and a cut-off write is no loss."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from minigpt.checkpoint import (
    load_folder,
    optimizer_tensors,
    random_tensors,
    restore_optimizers,
    restore_random,
    save_pretrained,
)
from minigpt.model import GPT, GPTConfig
from minigpt.storage import write_json
from minigpt.tokenizer import CharTokenizer

SMALL = GPTConfig(vocab_size=11, context_length=7, n_layer=2, n_head=3, d_model=12)
SHAPES = {
    "gpt2": SMALL,
    "untied": replace(SMALL, tied=False),
    "narrow": replace(SMALL, d_mlp=20, norm_eps=1e-3, dropout=0.1),
    "gpt1": replace(SMALL, norm="post"),
    "gpt1 untied": replace(SMALL, norm="post", tied=False),
}


def random_model(config: GPTConfig) -> GPT:
    """Random biases and norms too: at 0 and 1 a swapped pair would not show."""
    model = GPT(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    return model


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(11, (2, 5))


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_transformers_loads_what_we_save_with_equal_logits(tmp_path, config, tokens):
    from transformers import AutoModelForCausalLM

    model = random_model(config)
    save_pretrained(model, None, tmp_path)
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
    with torch.no_grad():
        assert_close(theirs.eval()(tokens).logits, model(tokens))


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, config, tokens):
    model = random_model(config)
    save_pretrained(model, CharTokenizer.train("abcdefghijk"), tmp_path)
    again, tokenizer = load_folder(tmp_path)
    assert again.config == config
    assert torch.equal(again(tokens), model(tokens))
    assert not again.training
    assert tokenizer is not None
    assert tokenizer.decode([0, 10]) == "ak"


def test_a_folder_without_tokenizer_loads_without_one(tmp_path):
    save_pretrained(GPT(SMALL), None, tmp_path)
    assert load_folder(tmp_path).tokenizer is None


@pytest.mark.parametrize("kind", ["GPT2", "OpenAIGPT"])
def test_we_load_what_transformers_saves(tmp_path, kind, tokens):
    import transformers

    shape = {"vocab_size": 11, "n_positions": 7, "n_layer": 2, "n_head": 3}
    config = getattr(transformers, f"{kind}Config")(n_embd=12, **shape)
    theirs = getattr(transformers, f"{kind}LMHeadModel")(config).eval()
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    theirs.save_pretrained(tmp_path)
    model, _ = load_folder(tmp_path)
    assert_close(model(tokens), theirs(tokens).logits)


def test_names_without_prefix_and_old_buffers_load_as_on_the_hub(tmp_path, tokens):
    model = random_model(SMALL)
    save_pretrained(model, None, tmp_path)
    path = tmp_path / "model.safetensors"
    bare = {k.removeprefix("transformer."): v for k, v in load_file(path).items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 7, 7)
    save_file(bare, path)
    assert torch.equal(load_folder(tmp_path).model(tokens), model(tokens))


@pytest.mark.data
def test_the_published_tiny_gpt2_gives_its_published_logits():
    folder = Path(os.environ["MINIGPT_DATA"]) / "weights-tiny-random-gpt2"
    import numpy as np

    expected = np.load(folder / "expected_hf.npz")
    found = load_folder(folder).model(torch.tensor(expected["input_ids"]))
    assert_close(found, torch.tensor(expected["logits"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"band": 3}, "got band=3"),
        ({"bias": False}, "got bias=False"),
        ({"norm": "post", "d_mlp": 20}, "got d_mlp=20"),
    ],
)
def test_what_transformers_would_compute_otherwise_saves_only_as_minigpt(
    tmp_path, changes, reason, tokens
):
    model = random_model(replace(SMALL, **changes))
    with pytest.raises(ValueError, match=f'{reason}: save it with format="minigpt"'):
        save_pretrained(model, None, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    save_pretrained(model, None, tmp_path, format="minigpt")
    assert torch.equal(load_folder(tmp_path).model(tokens), model(tokens))
    from transformers import AutoConfig

    with pytest.raises(ValueError, match="minigpt"):
        AutoConfig.from_pretrained(tmp_path)


def test_a_broken_or_foreign_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a saved model in .*found no config"):
        load_folder(tmp_path)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    config.write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match=r"in .*config\.json, got 'llama'"):
        load_folder(tmp_path)
    config.write_text('{"model_ty')
    with pytest.raises(ValueError, match=r"a JSON object in .*config\.json"):
        load_folder(tmp_path)
    save_pretrained(GPT(SMALL), None, tmp_path)
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"whole safetensors file, .*model\.safetens"):
        load_folder(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"the file .*model\.safetensors"):
        load_folder(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path):
    save_pretrained(GPT(SMALL), None, tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**content, "n_positions": 9})
    with pytest.raises(ValueError, match=r"shape \(9, 12\) for position_embedding.*7"):
        load_folder(tmp_path)
    write_json(tmp_path / "config.json", {**content, "n_layer": 3})
    with pytest.raises(ValueError, match=r"the weight h\.2\.ln_1\.weight in .*others"):
        load_folder(tmp_path)


def test_a_model_is_found_while_its_folder_is_being_replaced(tmp_path):
    save_pretrained(GPT(SMALL), None, tmp_path / "best.old")
    assert load_folder(tmp_path / "best").model.config == SMALL


def test_the_vocabulary_must_fit_the_embedding(tmp_path):
    save_pretrained(GPT(SMALL), CharTokenizer.train("abcdefghijk"), tmp_path)
    CharTokenizer.train("abcdefghijklm").save(tmp_path)
    with pytest.raises(
        ValueError, match=r"of at most 11 tokens for .* got 13: use the"
    ):
        load_folder(tmp_path)
    with pytest.raises(
        ValueError, match=r"of at most 11 tokens for .* got 12: use the"
    ):
        save_pretrained(GPT(SMALL), CharTokenizer.train("abcdefghijkl"), tmp_path)


def test_too_little_memory_is_said_before_anything_is_allocated(tmp_path, monkeypatch):
    save_pretrained(GPT(SMALL), None, tmp_path)
    monkeypatch.setattr("minigpt.hardware.available_memory", lambda: 1000)

    def read(_):
        raise AssertionError("a weight was read")

    monkeypatch.setattr("minigpt.storage.Stored.read", read)
    with pytest.raises(MemoryError, match=r"MB of free memory to load .*test_too_lit"):
        load_folder(tmp_path)


def test_as_much_memory_as_the_weights_and_the_largest_is_enough(tmp_path, monkeypatch):
    model = GPT(SMALL)
    save_pretrained(model, None, tmp_path)
    largest = max(w.nbytes for w in model.parameters())
    needed = sum(w.nbytes for w in model.parameters()) + largest
    monkeypatch.setattr("minigpt.hardware.available_memory", lambda: needed)
    load_folder(tmp_path)
    monkeypatch.setattr("minigpt.hardware.available_memory", lambda: needed - 1)
    with pytest.raises(MemoryError, match="close other programs, choose a smaller"):
        load_folder(tmp_path)
    load_folder(tmp_path, dtype=torch.bfloat16)


def test_loading_draws_no_random_number_and_can_be_trained_on(tmp_path, tokens):
    save_pretrained(GPT(SMALL), None, tmp_path)
    state = torch.get_rng_state()
    model = load_folder(tmp_path).model
    assert torch.equal(torch.get_rng_state(), state)
    model(tokens).sum().backward()
    assert all(w.grad is not None and w.is_contiguous() for w in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["huggingface", "minigpt"])
def test_saved_as_half_it_is_half_the_size_and_loads_as_float32(
    tmp_path, dtype, form, tokens
):
    model = random_model(SMALL)
    save_pretrained(model, None, tmp_path, format=form, dtype=dtype)
    name = str(dtype).removeprefix("torch.")
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == name
    stored = load_file(tmp_path / "model.safetensors").values()
    assert {w.dtype for w in stored} == {dtype}
    rounded = {n: w.to(dtype).float() for n, w in model.state_dict().items()}
    assert_close(load_folder(tmp_path).model.state_dict(), rounded, atol=0, rtol=0)
    half = load_folder(tmp_path, dtype=dtype).model
    assert {w.dtype for w in half.parameters()} == {dtype}
    save_pretrained(half, None, tmp_path / "again", format=form)
    again = load_file(tmp_path / "again" / "model.safetensors").values()
    assert {w.dtype for w in again} == {dtype}


def test_a_weight_that_float16_cannot_hold_is_refused(tmp_path):
    model = random_model(SMALL)
    with torch.no_grad():
        model.blocks[1].mlp.up.bias[3] = -70_000.0
    with pytest.raises(
        ValueError, match=r"7e\+04 in blocks\.1\.mlp\.up\.bias: save as"
    ):
        save_pretrained(model, None, tmp_path / "m", dtype=torch.float16)
    assert not (tmp_path / "m").exists()
    save_pretrained(model, None, tmp_path / "m", dtype=torch.bfloat16)


def test_whole_numbers_are_no_dtype_to_load_as_and_no_weights(tmp_path):
    save_pretrained(GPT(SMALL), None, tmp_path)
    with pytest.raises(
        ValueError, match=r"floating-point dtype to load .* torch\.int8"
    ):
        load_folder(tmp_path, dtype=torch.int8)
    path = tmp_path / "model.safetensors"
    name = "transformer.h.0.mlp.c_fc.weight"
    save_file({**load_file(path), name: torch.ones(12, 48, dtype=torch.int8)}, path)
    with pytest.raises(
        ValueError, match=rf"expected {name} in .* got I8: a compressed"
    ):
        load_folder(tmp_path)


def test_a_config_of_another_version_of_ours_is_named(tmp_path):
    save_pretrained(GPT(SMALL), None, tmp_path, format="minigpt")
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    for ours in ({**content["minigpt"], "rotary": True}, "4x128"):
        write_json(path, {**content, "minigpt": ours})
        with pytest.raises(
            ValueError, match=r"fields of GPTConfig under minigpt in .*"
        ):
            load_folder(tmp_path)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_a_restored_optimizer_steps_as_if_never_stopped(kind):
    def steps(n: int, stop_after: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(4, 3))
        options = {"lr": 0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {})}
        optimizer = kind([weight], **options)
        for step in range(n):
            if step == stop_after:
                saved, optimizer = (
                    optimizer_tensors((optimizer,)),
                    kind([weight], **options),
                )
                restore_optimizers((optimizer,), saved)
            weight.grad = torch.sin(weight.detach() + step)
            optimizer.step()
        return weight.detach()

    assert torch.equal(steps(6, stop_after=3), steps(6, stop_after=None))


def test_a_restored_generator_draws_the_same_numbers():
    state = random_tensors()
    expected = torch.rand(5)
    restore_random(state)
    assert torch.equal(torch.rand(5), expected)


def test_nothing_on_the_way_is_pickled(tmp_path, monkeypatch):
    import pickle

    def refuse(*_, **__):
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "dump", "dumps", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    save_pretrained(GPT(SMALL), None, tmp_path)
    load_folder(tmp_path)
    shutil.rmtree(tmp_path)
