"""A run's settings are checked, and its folder is only ever its own."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from minigpt import run as run_module
from minigpt.checkpoint import load_folder, optimizer_tensors, save_pretrained
from minigpt.model import GPT, GPTConfig
from minigpt.optim import Together
from minigpt.run import Run, StepRecord, TrainConfig, make_optimizer, parts
from minigpt.tokenizer import CharTokenizer

SMALL = GPTConfig(vocab_size=11, context_length=5, n_layer=2, n_head=3, d_model=12)
CPU = {"device": "cpu", "precision": "float32"}
CONFIG = TrainConfig(steps=4, batch_size=2, eval_every=2, **CPU)


def a_run(out: Path | None, config=CONFIG, shape=SMALL, seed=0) -> Run:
    torch.manual_seed(0)
    tokens = torch.randint(11, (60,), generator=torch.Generator().manual_seed(seed))
    tokenizer = CharTokenizer.train("abcdefghijk")
    return Run(GPT(shape), tokens[:50], tokens[50:], config, tokenizer, out)


def record(step: int, validation_loss: float | None = None) -> StepRecord:
    return StepRecord(
        step=step,
        loss=2.0,
        rate=1.0,
        gradient_norm=0.5,
        tokens=10,
        seconds=0.01,
        validation_loss=validation_loss,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"micro_batch_size": 0}, "micro_batch_size must be at least 1, got 0"),
        ({"learning_rate": 0.0}, r"learning_rate must be above 0, got 0\.0"),
        ({"clip": -1.0}, r"clip must be above 0, got -1\.0"),
        ({"cooldown": 1.5}, r"cooldown must be in \[0, 1\], got 1\.5"),
        ({"warmup": -1}, "warmup must be at least 0, got -1"),
        ({"beta2": 1.0}, r"beta2 must be in \[0, 1\), got 1\.0"),
    ],
)
def test_a_setting_outside_its_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("optimizer", "must be one of muon, adamw, adafactor, got 'sgd'"),
        ("schedule", "must be one of cosine, linear, constant, wsd, got 'sgd'"),
    ],
)
def test_an_unknown_name_is_refused(name, message):
    config = object.__new__(TrainConfig)  # past the type checker, as a file would come
    vars(config).update(vars(CONFIG), **{name: "sgd"})
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


def test_the_optimizer_is_the_one_asked_for():
    model = GPT(SMALL)
    one = make_optimizer(model, replace(CONFIG, optimizer="adamw", learning_rate=0.3))
    assert isinstance(one, torch.optim.AdamW)
    assert parts(one) == (one,)
    assert one.param_groups[0]["lr"] == 0.3
    lean = make_optimizer(model, replace(CONFIG, optimizer="adafactor"))
    assert isinstance(lean, torch.optim.Adafactor)
    assert [group["weight_decay"] for group in lean.param_groups] == [0.1, 0.0]
    both = make_optimizer(model, replace(CONFIG, optimizer="muon"))
    assert isinstance(both, Together)
    assert len(parts(both)) == 2
    assert parts(both)[0].dtype == torch.float32  # as the products on this device are


def test_a_save_and_a_resume_bring_everything_back(tmp_path):
    first = a_run(tmp_path / "run")
    first.resume()
    for batch in (next(first.batches), next(first.batches)):
        first.model(batch.inputs).sum().backward()
        first.optimizer.step()
    first.records = [record(1), record(2, 1.5)]
    first.save()
    expected = next(first.batches), torch.rand(3)
    second = a_run(tmp_path / "run")
    torch.rand(100)
    second.resume()
    assert second.records == first.records
    weights = [dict(run.model.state_dict()) for run in (first, second)]
    assert_close(weights[0], weights[1], rtol=0, atol=0)
    states = [optimizer_tensors(parts(run.optimizer)) for run in (first, second)]
    assert_close(states[0], states[1], rtol=0, atol=0)
    found = next(second.batches), torch.rand(3)
    assert torch.equal(found[0].inputs, expected[0].inputs)
    assert torch.equal(found[1], expected[1])


def test_best_is_saved_when_it_is_the_best_and_last_always(tmp_path):
    run = a_run(tmp_path)
    bias = run.model.blocks[0].norm1.bias
    for step, loss in ((1, 2.0), (2, 1.0), (3, 1.5)):
        with torch.no_grad():
            bias.fill_(step)
        run.records.append(record(step, loss))
        run.save()
    kept = {
        name: load_folder(tmp_path / name).model.blocks[0].norm1.bias[0].item()
        for name in ("best", "last")
    }
    assert kept == {"best": 2.0, "last": 3.0}
    assert load_folder(tmp_path / "best").tokenizer is not None
    assert not (tmp_path / "best" / "training.json").exists()
    said = json.loads((tmp_path / "run.json").read_text())
    assert said["best"] == 1.0
    assert said["parameters"] == SMALL.n_parameters
    assert [step["step"] for step in said["steps"]] == [1, 2, 3]
    assert [step["tokens_read"] for step in said["steps"]] == [10, 20, 30]
    assert said["steps"][0]["tokens_per_second"] == said["tokens_per_second"] == 1000


def test_before_any_validation_the_best_is_infinite_and_run_json_is_json(tmp_path):
    run = a_run(tmp_path)
    run.records.append(record(1))
    run.save()
    assert run.best == math.inf
    text = (tmp_path / "run.json").read_text()
    strict = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert strict["best"] is None
    assert not (tmp_path / "best").exists()


def test_utilisation_is_arithmetic_over_a_peak_that_says_whose_it_is(
    monkeypatch,
):
    run = a_run(None)
    run.records = [replace(record(i), seconds=s) for i, s in ((1, 9.0), (2, 0.01))]
    run.records.append(replace(record(3), seconds=0.02))
    said = run.record()
    # The middle one of 1.1, 500 and 1,000: a first step that compiles says little.
    assert said["tokens_per_second"] == 500
    assert said["peak_measured"]
    share = 500 * said["flops_per_token"] / said["peak_flops"]
    assert math.isclose(said["utilisation"], share)
    # Six for each weight but the positions', and 6 · layers · T · C for attention.
    arithmetic = 6 * (SMALL.n_parameters - 5 * 12) + 6 * 2 * 5 * 12
    assert said["flops_per_token"] == arithmetic
    monkeypatch.setattr(run_module, "peak_flops", lambda hardware: (1e6, True))
    other = a_run(None)
    other.records = run.records
    assert math.isclose(other.record()["utilisation"], 500 * arithmetic / 1e6)
    assert not other.record()["peak_measured"]
    assert said["peak_memory"] > 10_000_000
    run.records = []
    assert run.record()["tokens_per_second"] == 0


def test_a_step_that_the_scaler_skipped_is_json(tmp_path):
    run = a_run(tmp_path)
    run.records.append(replace(record(1), gradient_norm=math.inf))
    run.save()
    text = (tmp_path / "run.json").read_text()
    said = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert said["steps"][0]["gradient_norm"] is None


def test_the_loss_scaler_is_saved_and_comes_back(tmp_path):
    config = replace(CONFIG, precision="float16")
    first = a_run(tmp_path, config)
    first.records.append(record(1, 2.0))
    # Two steps: one with an infinite gradient, which halves the scale, and a good one.
    for gradient in (math.inf, 1.0):
        for optimizer in parts(first.optimizer):
            for group in optimizer.param_groups:
                for p in group["params"]:
                    p.grad = torch.full_like(p, gradient)
            first.scaler.scale(torch.zeros(()))
            first.scaler.step(optimizer)
        first.scaler.update()
    first.save()
    second = a_run(tmp_path, config)
    assert second.scaler.get_scale() == 2 * first.scaler.get_scale()
    second.resume()
    state = second.scaler.state_dict()
    assert state == first.scaler.state_dict()
    assert state["_growth_tracker"] == 1
    # A folder that was written without one starts with a new scale.
    plain = a_run(tmp_path / "plain", replace(CONFIG, precision="float32"))
    assert plain.scaler.state_dict() == {}


def test_patience_counts_validations_without_a_better_one():
    run = a_run(None, replace(CONFIG, patience=2))
    stale = []
    for step, loss in enumerate((3.0, None, 2.0, 2.5, None, 2.1), start=1):
        run.records.append(record(step, loss))
        stale.append(run.stale)
    assert stale == [False, False, False, False, False, True]
    run.config = CONFIG
    assert not run.stale


def test_validation_is_due_every_so_often_and_at_the_end():
    run = a_run(None, replace(CONFIG, steps=5))
    assert [step for step in range(1, 6) if run.due(step)] == [2, 4, 5]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"shape": replace(SMALL, d_model=24)}, "d_model is 12 there, 24 here"),
        ({"config": replace(CONFIG, steps=9)}, "steps is 4 there, 9 here"),
        ({"seed": 1}, "the text is .* there, .* here"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_untouched(tmp_path, other, message):
    first = a_run(tmp_path)
    first.records.append(record(1, 2.0))
    first.save()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=f"to hold this run, got another.*{message}"):
        a_run(tmp_path, **other).resume()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_changes_no_weight_may_differ(tmp_path):
    first = a_run(tmp_path)
    first.records.append(record(1, 2.0))
    first.save()
    second = a_run(tmp_path, replace(CONFIG, eval_every=1, patience=3, recompute=True))
    second.resume()
    assert len(second.records) == 1


def test_a_folder_with_a_model_or_an_unwanted_run_is_refused(tmp_path):
    save_pretrained(GPT(SMALL), None, tmp_path / "model")
    with pytest.raises(ValueError, match=r"without a model .* with config\.json in it"):
        a_run(tmp_path / "model").resume()
    save_pretrained(GPT(SMALL), None, tmp_path / "other" / "last")
    with pytest.raises(ValueError, match=r"without a model .* with last in it"):
        a_run(tmp_path / "other").resume()
    a_run(tmp_path / "run").save()
    with pytest.raises(ValueError, match=r"without a model .* with last in it"):
        a_run(tmp_path / "run").resume(allowed=False)


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"a folder to write to, got .*file.run \("):
        a_run(tmp_path / "file" / "run").resume()


def test_a_banded_model_is_saved_in_our_own_format(tmp_path):
    run = a_run(tmp_path, shape=replace(SMALL, band=2))
    run.records.append(record(1, 2.0))
    run.save()
    assert load_folder(tmp_path / "best").model.config.band == 2
