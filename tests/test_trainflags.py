"""Under torchrun the same command trains on several processes and speaks once."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch.testing import assert_close

from minigpt.alone import KINDS
from minigpt.checkpoint import load_folder
from minigpt.cli import main

DOOMED = str(Path(__file__).with_name("doomed.py"))
FLAGS = (
    "--n-layer 2 --n-head 6 --d-model 12 --context-length 16 --steps 20 --batch-size 6 "
    "--eval-every 5 --warmup 2 --optimizer adamw --device cpu --precision float32"
).split()


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> list[str]:
    """`minigpt train` on a text, but for the folder."""
    text = tmp_path_factory.mktemp("text") / "tern.txt"
    text.write_text("Ada lights the lamp.\nThe tern flies at night.\n" * 40, "utf-8")
    return ["train", "--data", str(text), *FLAGS, "--out"]


@pytest.fixture(scope="module")
def alone(asked, tmp_path_factory) -> Path:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("run") / "alone"
    assert main([*asked, str(out)]) == 0
    return out


def started(processes: int, *command: str) -> subprocess.CompletedProcess[str]:
    """A command under torchrun."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [f"--nproc-per-node={processes}", *command]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(start, env=env, capture_output=True, text=True)


def steps_of(run: Path) -> list[list[float]]:
    """Losses, gradient norms and validation losses that a run wrote down."""
    steps = json.loads((run / "run.json").read_text("utf-8"))["steps"]
    assert len(steps) == 20
    names = ("loss", "gradient_norm", "validation_loss")
    return [[step[name] for step in steps if step[name]] for name in names]


def assert_same_run(one: Path, other: Path) -> None:
    for mine, theirs in zip(steps_of(one), steps_of(other), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    models = [load_folder(run / "best").model.state_dict() for run in (one, other)]
    # AdamW divides by the gradient's size, which makes rounding errors visible.
    assert_close(*models, atol=1e-4, rtol=1e-3)


def test_a_strategy_without_torchrun_is_one_line(asked, tmp_path, capsys):
    assert main([*asked, str(tmp_path / "run"), "--strategy", "ddp"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "expected to be started by torchrun, got a single process: run" in said


@pytest.mark.dist
@pytest.mark.parametrize("kind", KINDS)
def test_the_command_on_two_processes_is_the_run_of_one(asked, alone, tmp_path, kind):
    out = tmp_path / "run"
    flags = [*asked, str(out), "--strategy", kind, "--log", "tensorboard"]
    # torchrun would take --log for one of its own flags that begin so.
    done = started(2, "-m", "--", "minigpt.cli", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_run(out, alone)
    # One of them speaks.
    assert f"compile off, 2 processes, {kind}" in done.stdout
    for said in ("tokenizer  Char", "step     20", "best     ", "saved    "):
        assert done.stdout.count(said) == 1
    assert len(list(out.glob("events.out.*"))) == 1
    assert json.loads((out / "run.json").read_text("utf-8"))["processes"] == 2
    assert load_folder(out / "best").tokenizer is not None


@pytest.mark.dist
@pytest.mark.parametrize(
    ("kind", "victim", "after"), [("ddp", 0, 3), ("fsdp", 1, 3), ("tp", 1, 1)]
)
def test_a_killed_process_ends_the_run_and_any_number_goes_on(
    asked, alone, tmp_path, kind, victim, after
):
    out = tmp_path / "run"
    same = [*asked, str(out), "--strategy", kind]
    done = started(2, DOOMED, str(victim), *same)
    assert done.returncode == 1
    said = re.findall(r"minigpt: .*", done.stderr)
    assert len(said) == 1
    assert re.match(
        r"minigpt: expected 2 processes to the end, lost one \([^)]+\): \S+last holds "
        r"the run up to step (5|10|15), and the same command goes on from there, on "
        r"any number of processes$",
        said[0],
    )
    again = started(after, "-m", "minigpt.cli", *same)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "step      5" not in again.stdout
    assert_same_run(out, alone)


@pytest.mark.dist
def test_what_is_refused_is_said_once(asked, tmp_path):
    done = started(
        2, "-m", "minigpt.cli", *asked, str(tmp_path), "--strategy", "tp", "--n-head=3"
    )
    assert done.returncode == 1
    assert done.stderr.count("minigpt: ") == 1
    assert "minigpt: expected heads that divide by 2 processes, got 3" in done.stderr
    assert done.stdout == ""
