"""Killed at any moment, a write included, a run ends as if nothing had happened."""

import multiprocessing
import random
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from minigpt.checkpoint import load_folder
from minigpt.model import GPT, GPTConfig
from minigpt.run import StepRecord, TrainConfig
from minigpt.storage import read_json, recovered
from minigpt.train import fit

V, T = 11, 5
TOKENS = torch.randint(V, (300,), generator=torch.Generator().manual_seed(0))
CONFIG = TrainConfig(
    steps=200, batch_size=4, eval_every=1, warmup=3, device="cpu", precision="float32"
)


def a_model() -> GPT:
    torch.manual_seed(1)
    shape = GPTConfig(
        vocab_size=V, context_length=T, n_layer=2, n_head=3, d_model=12, dropout=0.1
    )
    return GPT(shape)


def sit(out: Path, seed: int, started: Connection) -> None:
    """One process's part of a run that is saved after every step."""
    torch.set_num_threads(1)
    model = a_model()
    torch.manual_seed(seed)

    def report(record: StepRecord) -> None:
        if not started.closed:
            started.send(record.step)
            started.close()

    fit(model, TOKENS[:250], TOKENS[250:], CONFIG, out=out, callbacks=[report])


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path):
    # A fork server has torch loaded, so that a new process starts at once.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["minigpt.train"])

    def start(out: Path, seed: int) -> BaseProcess:
        here, there = processes.Pipe(duplex=False)
        process = processes.Process(target=sit, args=(out, seed, there))
        process.start()
        there.close()
        here.recv()  # the first step is done
        here.close()
        return process

    begun = time.perf_counter()
    whole = start(tmp_path / "whole", seed=0)
    whole.join()
    assert whole.exitcode == 0
    longest = (time.perf_counter() - begun) / 40
    draw, reached = random.Random(0), []
    # Each step is followed by a save, so that most kills fall into a write.
    for kill in range(24):
        # Until there is something to resume, a run begins as the whole one did.
        saved = recovered(tmp_path / "killed" / "last").exists()
        process = start(tmp_path / "killed", seed=kill if saved else 0)
        time.sleep(draw.uniform(0, longest))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        state = recovered(tmp_path / "killed" / "last") / "training.json"
        reached.append(len(read_json(state)["records"]) if state.exists() else 0)
    assert 20 < reached[-1] < 200
    assert reached == sorted(reached)
    final = start(tmp_path / "killed", seed=99)
    final.join()
    assert final.exitcode == 0
    for name in ("best", "last"):
        kept = [load_folder(tmp_path / run / name).model for run in ("whole", "killed")]
        states = [model.state_dict() for model in kept]
        assert_close(*states, rtol=0, atol=0)
