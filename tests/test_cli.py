"""The command line: two commands make a sample, and bad input is one line and a 2."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from minigpt.callbacks import Interrupt
from minigpt.checkpoint import load_folder, save_pretrained
from minigpt.cli import build_parser, main
from minigpt.flags import attribute_help
from minigpt.model import GPT, GPTConfig
from minigpt.pretrained import load_pretrained
from minigpt.run import StepRecord, TrainConfig

TINY = (
    "--n-layer 1 --n-head 2 --d-model 8 --context-length 8 --steps 4 --batch-size 2 "
    "--eval-every 2 --warmup 0 --device cpu --precision float32"
).split()


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "tern.txt"
    path.write_text("Ada lights the lamp.\n" * 20, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(text: Path) -> Path:
    out = text.parent / "run"
    assert main(["train", "--data", str(text), "--out", str(out), *TINY]) == 0
    return out


def refused(argv: list[str], capsys) -> str:
    """The one line that bad input gets."""
    try:
        code = main(argv)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    return said.err


def test_training_ends_with_a_sample_and_says_what_it_chose(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "--data", str(text), "--out", str(out), *TINY]) == 0
    said = capsys.readouterr()
    assert "tern: 378 tokens, and 42 to validate on" in said.out
    assert "CharTokenizer, 15 tokens" in said.out
    assert "1 layers, 2 heads, 8 channels, context 8" in said.out
    assert "nats per token over the whole validation split, after step" in said.out
    assert f"{out / 'best'}; a sample:" in said.out
    assert "validation loss" in said.out
    assert json.loads((out / "run.json").read_text())["training"]["steps"] == 4


def test_the_same_command_again_goes_on(text, trained, capsys):
    before = (trained / "last" / "model.safetensors").read_bytes()
    argv = ["train", "--data", str(text), "--out", str(trained), *TINY]
    assert main(argv) == 0
    assert (trained / "last" / "model.safetensors").read_bytes() == before


def test_a_prompt_is_continued_and_a_seed_repeats_it(trained, capsys):
    argv = ["generate", "--model", str(trained / "best"), "--prompt", "Ada l"]
    texts = []
    for seed in ("1", "1", "2"):
        assert main([*argv, "--seed", seed, "--max-new-tokens", "20"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0].startswith("Ada l")
    assert len(texts[0]) == len("Ada l") + 20 + 1
    assert texts[0] == texts[1] != texts[2]


def test_temperature_zero_is_greedy_and_so_is_one_token_to_choose_from(trained, capsys):
    argv = ["generate", "--model", str(trained / "best"), "--prompt", "Ada"]
    texts = []
    for flags in (["--temperature", "0"], ["--top-k", "1"], ["--top-p", "0.001"]):
        assert main([*argv, *flags, "--max-new-tokens", "9"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2]


def test_an_empty_prompt_starts_a_new_text(trained, capsys):
    argv = ["generate", "--model", str(trained / "best"), "--max-new-tokens", "5"]
    assert main(argv) == 0
    assert len(capsys.readouterr().out) >= 5


def test_byte_pairs_are_learnt_and_written_with(text, tmp_path, capsys):
    out = tmp_path / "run"
    argv = ["train", "--data", str(text), "--out", str(out), *TINY]
    assert main([*argv, "--tokenizer", "bpe", "--vocab-size", "260"]) == 0
    assert "BPETokenizer, 260 tokens" in capsys.readouterr().out
    for prompt in ("Ada 燕", ""):
        assert main(["generate", "--model", str(out / "best"), "--prompt", prompt]) == 0
        assert capsys.readouterr().out.startswith(prompt)


def test_a_text_without_line_breaks_is_sampled_from_too(tmp_path, capsys):
    (tmp_path / "line.txt").write_text("tern " * 40)
    argv = ["train", "--data", str(tmp_path / "line.txt"), "--out", str(tmp_path / "r")]
    assert main([*argv, *TINY]) == 0


def test_info_describes_a_model_or_this_machine(trained, capsys):
    assert main(["info", "--model", str(trained / "best")]) == 0
    said = capsys.readouterr().out
    assert "1,072 parameters" in said
    assert "context 8" in said
    assert "float32" in said
    assert "CharTokenizer, 15 tokens" in said
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert "stories, letters, tinyshakespeare" in said
    assert "minigpt-stories" in said
    assert main(["info", "--model", "minigpt-stories"]) == 0
    assert "bfloat16, 1.04 MB on the disk" in capsys.readouterr().out


def test_a_model_that_ships_writes_by_its_name(capsys):
    argv = ["generate", "--model", "minigpt-stories", "--prompt", "One morning"]
    assert main([*argv, "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("One morning")


@pytest.mark.parametrize("dtype", [None, "float32", "float16"])
def test_an_export_is_the_model_in_the_format_asked_for(tmp_path, capsys, dtype):
    out = tmp_path / "copy"
    argv = ["export", "--model", "minigpt-stories", "--out", str(out)]
    assert main([*argv, *(["--dtype", dtype] if dtype else [])]) == 0
    assert f"weights    {dtype or 'bfloat16'}, " in capsys.readouterr().out
    before, after = load_pretrained("minigpt-stories"), load_pretrained(out)
    pairs = zip(before.model.parameters(), after.model.parameters(), strict=True)
    exact = dtype != "float16"
    for one, other in pairs:
        torch.testing.assert_close(
            one, other, atol=0 if exact else 1e-3, rtol=0 if exact else 1e-3
        )
    assert after.tokenizer is not None
    assert after.tokenizer.vocab_size == 576


def test_a_banded_model_exports_only_as_minigpt(tmp_path, capsys):
    shape = GPTConfig(vocab_size=11, context_length=5, d_model=12, n_head=3, band=2)
    save_pretrained(GPT(shape), None, tmp_path / "run", format="minigpt")
    out = tmp_path / "copy"
    argv = ["export", "--model", str(tmp_path / "run"), "--out", str(out)]
    assert 'got band=2: save it with format="minigpt"' in refused(argv, capsys)
    assert not out.exists()
    assert main([*argv, "--format", "minigpt", "--dtype", "bfloat16"]) == 0
    assert load_folder(out).model.config == shape


def test_an_export_into_a_folder_with_something_in_it_is_one_line(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("kept")
    argv = ["export", "--model", "minigpt-stories", "--out", str(tmp_path)]
    assert "expected a new or empty folder to export to" in refused(argv, capsys)
    argv = ["export", "--model", "minigpt-bass", "--out", str(tmp_path / "copy")]
    assert "expected a saved model in minigpt-bass" in refused(argv, capsys)


def test_too_little_memory_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("minigpt.hardware.available_memory", lambda: 100_000)
    argv = ["generate", "--model", "minigpt-stories"]
    assert "MB of free memory to load" in refused(argv, capsys)


def test_a_preset_sets_the_shape_and_flags_change_it():
    parse = build_parser().parse_args
    given = parse("train --data x --out y --preset gpt2 --n-layer 3".split())
    assert (given.preset, given.n_layer) == ("gpt2", 3)


def test_every_field_is_a_flag_with_its_help_and_default(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for cls in (GPTConfig, TrainConfig):
        for one in fields(cls):
            if one.name in ("vocab_size", "context_length"):
                continue
            assert f"--{one.name.replace('_', '-')}" in said
            assert attribute_help(cls)[one.name].split(".")[0][:40] in said
            if isinstance(one.default, (int, float, str)):
                assert f"(default: {one.default})" in said
    assert "(default: 128)" in said


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "minigpt: expected a file or one of stories, letters, .*no-such.txt"),
        ("", "minigpt: expected text in no-such, got none: the file is empty"),
        ("tern", "minigpt: expected at least 10 characters in no-such, got 4"),
        ("short text", "minigpt: expected at least 2 tokens to validate on, got 1"),
    ],
)
def test_a_missing_empty_or_short_text_is_one_line(tmp_path, capsys, content, line):
    path = tmp_path / "no-such.txt"
    if content is not None:
        path.write_text(content)
    out = tmp_path / "run"
    said = refused(["train", "--data", str(path), "--out", str(out), *TINY], capsys)
    assert re.match(line, said)
    assert not out.exists()


def test_a_prompt_the_model_cannot_read_is_one_line(trained, capsys):
    argv = ["generate", "--model", str(trained / "best"), "--prompt"]
    assert "'燕' at position 3" in refused([*argv, "Ada燕"], capsys)
    said = refused([*argv, "Ada" * 5], capsys)
    assert (
        "prompts of 1 to 8 tokens (the model's context_length), got one of 15" in said
    )


def test_a_folder_that_holds_another_model_is_one_line_and_untouched(
    text, trained, capsys
):
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    argv = ["train", "--data", str(text), "--out", str(trained), *TINY]
    said = refused([*argv, "--d-model", "16"], capsys)
    assert "d_model is 8 there, 16 here" in said
    assert "seed is 0 there, 5 here" in refused([*argv, "--seed", "5"], capsys)
    argv[4] = str(trained / "best")
    assert "with config.json in it: choose another folder" in refused(argv, capsys)
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before


def test_a_folder_that_cannot_be_written_is_one_line(text, capsys):
    argv = ["train", "--data", str(text), "--out", str(text / "run"), *TINY]
    assert "minigpt: expected a folder to write to, got" in refused(argv, capsys)


def test_a_model_that_is_not_there_or_lacks_a_tokenizer_is_one_line(tmp_path, capsys):
    argv = ["generate", "--model", str(tmp_path / "run")]
    assert "expected a saved model in" in refused(argv, capsys)
    shape = GPTConfig(vocab_size=11, context_length=5, d_model=12, n_head=3)
    save_pretrained(GPT(shape), None, tmp_path / "run")
    assert "expected a tokenizer in" in refused(argv, capsys)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["train", "--data", "x"], "the following arguments are required: --out"),
        (
            ["train", "--data", "x", "--out", "y", "--stpes", "3"],
            "unknown flags: --stpes 3",
        ),
        (
            ["train", "--data", "x", "--out", "y", "--steps", "many"],
            "invalid int value",
        ),
        (
            ["train", "--data", "x", "--out", "y", "--steps", "0"],
            "steps must be at lea",
        ),
        (["train", "--data", "x", "--out", "y", "--norm", "both"], "invalid choice"),
        (["dance"], "invalid choice: 'dance'"),
        ([], "the following arguments are required: command"),
    ],
)
def test_a_wrong_flag_is_one_line(argv, line, capsys):
    assert line in refused(argv, capsys)


def test_a_diverging_run_names_the_last_good_checkpoint(
    text, tmp_path, capsys, monkeypatch
):
    from minigpt import train

    true_loss, calls = train.next_token_loss, []

    def spoiled(model, *args):
        calls.extend([1] * model.training)
        return true_loss(model, *args) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(train, "next_token_loss", spoiled)
    out = tmp_path / "run"
    assert main(["train", "--data", str(text), "--out", str(out), *TINY]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "at step 4" in last
    assert last.endswith(f"{out / 'last'} is the last good checkpoint")
    assert load_folder(out / "last").model.config.d_model == 8


def test_the_first_interrupt_asks_and_the_second_insists():
    record = StepRecord(
        step=1, loss=1.0, rate=1.0, gradient_norm=1.0, tokens=1, seconds=1.0
    )
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        assert not interrupt(record)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt(record)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.slow
def test_ctrl_c_keeps_the_last_checkpoint_and_the_command_goes_on(text, tmp_path):
    out = tmp_path / "run"
    flags = [*TINY, "--steps", "600", "--eval-every", "50"]
    argv = [sys.executable, "-m", "minigpt", "train", "--data", str(text)]
    argv += ["--out", str(out), *flags]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "validation loss" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from" in said
    steps = len(json.loads((out / "run.json").read_text())["steps"])
    assert 50 <= steps < 600
    assert main(argv[3:]) == 0
    assert len(json.loads((out / "run.json").read_text())["steps"]) == 600


def test_a_run_that_cannot_fit_is_one_line_before_its_model_is_made(
    text, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("minigpt.plan.free_memory", lambda device: 1_000)
    monkeypatch.setattr("minigpt.cli.GPT", lambda config: pytest.fail("made"))
    argv = ["train", "--data", str(text), "--out", str(tmp_path / "run"), *TINY]
    said = refused(argv, capsys)
    assert "of free memory on cpu to train this model, got 1 kB: try a smaller" in said


def test_the_kernel_that_is_asked_for_is_said(text, tmp_path, capsys):
    argv = ["train", "--data", str(text), "--out", str(tmp_path / "run"), *TINY]
    assert main([*argv, "--attention", "explicit"]) == 0
    assert "attention explicit" in capsys.readouterr().out
