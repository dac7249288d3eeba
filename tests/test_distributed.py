"""A run on several processes, three ways, is the run on one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from minigpt.alone import KINDS
from minigpt.data import IGNORE, Batch, shift
from minigpt.distributed import Strategy, by_process, by_role, joined
from minigpt.model import GPT, GPTConfig
from minigpt.train import next_token_loss

WORKER = Path(__file__).with_name("spread.py")


def spread(kind: str, part: str, saved: Path, *, processes: int = 2) -> dict:
    """What the first process of a run wrote."""
    result = saved.with_name(f"{kind}-{part}-{processes}.json")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [f"--nproc-per-node={processes}"]
    alone = [sys.executable] if kind == "alone" else start
    command = [*alone, str(WORKER), kind, part, str(saved), str(result)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(result.read_text("utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[str], tuple[dict, Path]]:
    """A whole run by its kind, and the folder that holds it after half of the steps."""

    @cache
    def run(kind: str) -> tuple[dict, Path]:
        saved = tmp_path_factory.mktemp(kind) / "saved"
        return spread(kind, "all", saved), saved

    return run


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


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_mean_of_the_shares_gradients_is_the_batchs_gradient(size):
    torch.manual_seed(0)
    shape = GPTConfig(vocab_size=11, context_length=5, n_layer=1, n_head=3, d_model=12)
    model = GPT(shape)
    rows = torch.randint(11, (4, 6))
    rows[0, 3:] = IGNORE
    batch = shift(rows)

    def gradient(share: Batch, scale: int) -> torch.Tensor:
        model.zero_grad()
        counted = (share.targets != IGNORE).sum() / (batch.targets != IGNORE).sum()
        (next_token_loss(model, *share) * counted * scale).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    group = [SimpleNamespace(kind="ddp", rank=r, size=size) for r in range(size)]
    parts = [gradient(Strategy.share(s, batch), Strategy.scale(s)) for s in group]
    assert_close(torch.stack(parts).mean(0), gradient(batch, 1))


def test_a_batch_that_does_not_divide_is_refused():
    three = SimpleNamespace(kind="fsdp", rank=0, size=3)
    with pytest.raises(ValueError, match="divides by 3 processes, got 4 rows: choose"):
        Strategy.share(three, shift(torch.zeros(4, 6, dtype=torch.int)))


@pytest.mark.dist
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_steps_of_one(kind, whole):
    """The same losses, gradient norms and weights, within float32's rounding."""
    (alone, _), (found, _) = whole("alone"), whole(kind)
    for name in ("losses", "norms"):
        assert len(found[name]) == 20
        assert found[name] == pytest.approx(alone[name], abs=1e-5), name
    assert found["marks"] == pytest.approx(alone["marks"], rel=1e-4, abs=0.05)


@pytest.mark.dist
@pytest.mark.parametrize(
    ("before", "after", "processes"),
    [("fsdp", "fsdp", 4), ("tp", "ddp", 1), ("ddp", "tp", 4), ("fsdp", "tp", 2)],
)
def test_a_checkpoint_goes_on_under_another_strategy_and_number(
    before, after, processes, whole
):
    (alone, _), (_, saved) = whole("alone"), whole(before)
    found = spread(after, "rest", saved, processes=processes)
    assert found["losses"] == pytest.approx(alone["losses"][10:], abs=1e-5)
    assert found["marks"] == pytest.approx(alone["marks"], rel=1e-4, abs=0.05)
