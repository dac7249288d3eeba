"""A run on several processes, three ways, is the run on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigpt.distributed import KINDS, by_process, by_role, joined

WORKER = Path(__file__).with_name("spread.py")


def spread(kind: str, part: str, folder: Path, *, processes: int = 2) -> dict:
    """What the first process of a run wrote."""
    result = folder / f"{kind}-{part}-{processes}.json"
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [f"--nproc-per-node={processes}"]
    alone = [sys.executable] if kind == "alone" else start
    command = [*alone, str(WORKER), kind, part, str(folder / "saved"), str(result)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(result.read_text("utf-8"))


def test_regrouping_the_projections_is_undone_exactly():
    rows = torch.arange(24.0).view(12, 2)
    assert torch.equal(by_role(by_process(rows, 2), 2), rows)
    # Two processes: the first gets the first half of q, of k and of v.
    assert by_process(rows, 2)[:6, 0].tolist() == [0, 2, 8, 10, 16, 18]


def test_without_torchrun_the_sentence_says_how_to_start(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(ValueError, match="expected to be started by torchrun, got a"),
        joined("ddp"),
    ):
        pass


@pytest.mark.dist
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_steps_of_one(kind, tmp_path):
    """The same losses, gradient norms and weights, within float32's rounding."""
    alone, found = (spread(k, "all", tmp_path) for k in ("alone", kind))
    for name in ("losses", "norms"):
        assert found[name] == pytest.approx(alone[name], abs=1e-5), name
    assert found["marks"] == pytest.approx(alone["marks"], rel=1e-4, abs=0.05)


@pytest.mark.dist
@pytest.mark.parametrize(
    ("before", "after", "processes"),
    [("fsdp", "fsdp", 4), ("tp", "ddp", 1), ("ddp", "tp", 4), ("fsdp", "tp", 2)],
)
def test_a_checkpoint_goes_on_under_another_strategy_and_number(
    before, after, processes, tmp_path
):
    alone = spread("alone", "all", tmp_path)
    first = spread(before, "first", tmp_path)
    second = spread(after, "second", tmp_path, processes=processes)
    losses = first["losses"] + second["losses"]
    assert losses == pytest.approx(alone["losses"], abs=1e-5)
    assert second["marks"] == pytest.approx(alone["marks"], rel=1e-4, abs=0.05)
