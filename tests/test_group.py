"""Several processes under `fit` take the steps of one; a lost one ends the run."""

import math
import re
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from minigpt.alone import ALONE, KINDS, Lost, Processes
from minigpt.checkpoint import load_folder
from minigpt.data import IGNORE, Batch, Windows, pad_rows, shift
from minigpt.distributed import Strategy
from minigpt.group import Group, filled_up, how_to_go_on, running
from minigpt.model import GPT, GPTConfig
from minigpt.recipe import TrainConfig
from minigpt.run import StepRecord
from minigpt.train import fit, next_token_loss, training_steps

T, V = 5, 11
SHAPE = GPTConfig(vocab_size=V, context_length=T, n_layer=2, n_head=3, d_model=12)
CPU = {"device": "cpu", "precision": "float32"}
CONFIG = TrainConfig(steps=6, batch_size=4, eval_every=3, optimizer="adamw", **CPU)
TOKENS = torch.randint(V, (120,), generator=torch.Generator().manual_seed(0))


def a_fit(out: Path | None, processes: Processes = ALONE, **changes) -> list:
    torch.manual_seed(1)
    config = replace(CONFIG, **changes)
    model = GPT(SHAPE)
    return fit(model, TOKENS[:90], TOKENS[90:], config, out=out, processes=processes)


def curve(records: list[StepRecord]) -> list[tuple[float | None, ...]]:
    return [(r.loss, r.gradient_norm, r.validation_loss) for r in records]


@pytest.fixture
def torchrun(monkeypatch) -> Iterator[None]:
    """As torchrun would start the only process of a group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**environment, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("count", [1, 4, 6])
def test_the_shares_of_a_batch_are_its_rows_each_once(size, count):
    inputs = torch.arange(1, 1 + count * T).view(count, T)
    batch = Batch(inputs, inputs + 100)
    shares = []
    for rank in range(size):
        one = SimpleNamespace(kind="ddp", rank=rank, size=size)
        shares.append(Strategy.share(one, filled_up(batch, size)))
    assert len({len(share.inputs) for share in shares}) == 1
    rows = torch.cat([share.targets for share in shares])
    real = rows[rows[:, 0] != IGNORE]
    assert sorted(real.tolist()) == batch.targets.tolist()
    assert (rows[rows[:, 0] == IGNORE] == IGNORE).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_of_one_takes_the_steps_of_one_process(torchrun, tmp_path, kind):
    alone = a_fit(tmp_path / "alone", micro_batch_size=2)
    with running(kind, device="cpu") as processes:
        assert isinstance(processes, Processes)
        found = a_fit(tmp_path / "group", processes, micro_batch_size=2)
        # A finished run has nothing left to do.
        assert curve(a_fit(tmp_path / "group", processes, micro_batch_size=2)) == (
            curve(found)
        )
    for mine, theirs in zip(curve(found), curve(alone), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    best = [load_folder(tmp_path / name / "best").model for name in ("alone", "group")]
    assert_close(best[0].state_dict(), best[1].state_dict(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_made_again_change_no_loss_of_a_group(torchrun, kind):
    curves = []
    for recompute in (False, True):
        with running(kind, device="cpu") as processes:
            curves.append(curve(a_fit(None, processes, recompute=recompute)))
    assert curves[0] == curves[1]


# The compiler looks at every gradient there might be.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.compile
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_blocks_follow_eager_ones_in_a_group(torchrun, kind):
    torch.compiler.reset()  # nothing of another strategy's blocks
    with running(kind, device="cpu") as processes:
        found = curve(a_fit(None, processes, compile=True))
    # Fused kernels round in another order.
    for mine, theirs in zip(found, curve(a_fit(None)), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


def test_dropout_goes_on_where_it_stopped_on_as_many_processes(torchrun, tmp_path):
    model_of = replace(SHAPE, dropout=0.3)

    def sitting(out: Path, group: Processes, stop: int) -> list[float]:
        torch.manual_seed(1)
        records = fit(
            GPT(model_of),
            TOKENS[:90],
            TOKENS[90:],
            CONFIG,
            out=out,
            processes=group,
            callbacks=[lambda record: record.step == stop],
        )
        return [record.loss for record in records]

    with running("ddp", device="cpu") as group:
        whole = sitting(tmp_path / "whole", group, 0)
    with running("ddp", device="cpu") as group:
        assert len(sitting(tmp_path / "parts", group, 4)) == 4
    with running("ddp", device="cpu") as group:
        assert sitting(tmp_path / "parts", group, 0) == whole


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("fsdp", {"optimizer": "muon"}, "adamw with strategy fsdp, got muon: it needs"),
        ("tp", {"optimizer": "muon"}, "adamw with strategy tp, got muon: it needs"),
        ("fsdp", {"optimizer": "adafactor"}, "adamw with strategy fsdp, got adafactor"),
        ("tp", {"optimizer": "adafactor"}, "adamw with strategy tp, got adafactor: it"),
        ("tp", {"precision": "float16"}, "bfloat16 with strategy tp, got float16: its"),
    ],
)
def test_what_parts_of_weights_cannot_do_is_refused(torchrun, kind, changes, said):
    with (
        pytest.raises(ValueError, match=f"^expected .* {said}"),
        running(kind, device="cpu") as group,
    ):
        a_fit(None, group, **changes)


@pytest.mark.parametrize("optimizer", ["muon", "adafactor"])
def test_copies_know_every_optimiser_and_it_goes_on(torchrun, tmp_path, optimizer):
    alone = a_fit(None, optimizer=optimizer)
    for stop in (3, 0):
        torch.manual_seed(1)
        with running("ddp", device="cpu") as group:
            found = fit(
                GPT(SHAPE),
                TOKENS[:90],
                TOKENS[90:],
                replace(CONFIG, optimizer=optimizer),
                out=tmp_path,
                processes=group,
                callbacks=[lambda record, stop=stop: record.step == stop],
            )
    for mine, theirs in zip(curve(found), curve(alone), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_a_model_that_was_not_spread_is_refused(torchrun):
    batches = Windows(TOKENS, context_length=T, batch_size=2)
    with (
        pytest.raises(ValueError, match="spread over the group, got a whole one: call"),
        running("ddp", device="cpu") as group,
    ):
        next(training_steps(GPT(SHAPE), batches, CONFIG, processes=group))


def test_a_run_of_one_process_is_not_gone_on_with_by_a_group(torchrun, tmp_path):
    a_fit(tmp_path)
    with (
        pytest.raises(ValueError, match=r"of several processes in .*last, got one of"),
        running("fsdp", device="cpu") as group,
    ):
        a_fit(tmp_path, group)


def test_a_run_of_a_group_is_not_gone_on_with_by_one_process(torchrun, tmp_path):
    with running("fsdp", device="cpu") as group:
        a_fit(tmp_path, group)
    with pytest.raises(ValueError, match=r"expected a run of one process in .*, got o"):
        a_fit(tmp_path)


def test_stories_with_rows_that_count_for_nothing_have_the_same_mean(torchrun):
    rows = pad_rows([[1, 2, 3, 4, 5, 6], [7, 8], [9, 1, 2]])
    batch = shift(rows)
    filled = filled_up(batch, 4)
    assert filled.inputs.shape == (4, T)
    assert torch.equal(filled.inputs[:3], batch.inputs)
    assert (filled.inputs[3] == 0).all()
    assert int((filled.targets != IGNORE).sum()) == int((batch.targets != IGNORE).sum())


def test_what_is_summed_over_the_group_is_what_each_has_a_part_of(
    torchrun, monkeypatch
):
    """A group of one in which a sum over processes counts each number four times."""
    monkeypatch.setattr(Strategy, "reduced", lambda self, number: 4 * number.double())
    four = torch.tensor(4.0, dtype=torch.double)
    for kind, of_rows, of_shards in (("ddp", 4, 1), ("fsdp", 4, 2), ("tp", 1, None)):
        with running(kind, device="cpu") as group:
            assert isinstance(group, Group)
            torch.manual_seed(1)
            model = GPT(SHAPE)
            group.spread(model, CONFIG)
            loss = group.loss_of(model, next_token_loss)(*shift(TOKENS[None, : T + 1]))
            loss.backward()
            norm = group.strategy.clip(model, 1e9)
            assert torch.equal(group.add(torch.ones(())) * 4, of_rows * four)
            assert [group.agree(stop) for stop in (False, True)] == [False, True]
            group.strategy.reduced = lambda number: number + 1  # another wants to
            assert group.agree(False)
        if kind == "ddp":
            whole = norm
        elif of_shards is not None:
            assert_close(norm, of_shards * whole)
        else:  # some weights are split by heads, and the others are not
            assert whole < norm < 2 * whole


def test_gradients_of_copies_are_summed_after_the_last_part_of_a_batch(torchrun):
    with running("ddp", device="cpu") as group:
        assert isinstance(group, Group)
        group.spread(GPT(SHAPE), CONFIG)
        waiting = []
        for more in (True, False):
            group.expect(more)
            waiting.append(not group.spread_model.require_backward_grad_sync)
        assert waiting == [True, False]


def test_processes_with_other_rows_drop_out_others_and_slices_the_same(torchrun):
    for kind, seed in (("ddp", 8), ("fsdp", 8), ("tp", 3)):
        with running(kind, device="cpu") as group:
            assert isinstance(group, Group)
            torch.manual_seed(3)
            model = GPT(SHAPE)
            group.strategy.rank = 1
            group.spread(model, replace(CONFIG, seed=7))
            assert torch.initial_seed() == seed


def test_random_states_come_back_to_as_many_processes_only(torchrun, tmp_path):
    with running("ddp", device="cpu") as group:
        model = GPT(SHAPE)
        group.spread(model, CONFIG)
        optimizers = [torch.optim.AdamW(model.parameters())]
        kept = group.save(tmp_path, model, None, optimizers)
        drawn = torch.rand(3)
        more = {**kept, "random.cpu.1": kept["random.cpu.0"]}
        for states, again in ((more, False), (kept, True)):
            torch.manual_seed(5)
            group.restore(tmp_path, model, optimizers, states)
            assert torch.equal(torch.rand(3), drawn) == again


def test_the_first_goes_ahead_and_lets_the_others_in_even_when_it_fails(
    torchrun, monkeypatch
):
    said = []
    with running("ddp", device="cpu") as group:
        monkeypatch.setattr(torch.distributed, "barrier", lambda: said.append("wait"))
        for first in (True, False):
            group.first = first
            with group.in_turn():
                said.append("done")
        group.first = True
        with pytest.raises(OSError, match="no folder"), group.in_turn():
            raise OSError("no folder")
        monkeypatch.undo()
    assert said == ["done", "wait", "wait", "done", "wait"]


def test_a_disk_that_cannot_be_written_is_one_sentence(torchrun, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with running("fsdp", device="cpu") as group:
        model = GPT(SHAPE)
        group.spread(model, CONFIG)
        optimizers = [torch.optim.AdamW(model.parameters())]
        said = r"expected to write .*sharded, got .*file.*: the checkpoint that was th"
        with pytest.raises(OSError, match=said):
            group.save(tmp_path / "file", model, None, optimizers)


def test_the_first_process_to_say_why_is_the_only_one(torchrun):
    with running("ddp", device="cpu") as group:
        assert isinstance(group, Group)
        assert [group.strategy.speaks() for _ in range(3)] == [True, False, False]
        assert Strategy("ddp", group.strategy.mesh).speaks()


def test_a_process_with_nothing_new_to_say_ends_in_silence(torchrun):
    def refused() -> None:
        with running("ddp", device="cpu") as group:
            assert isinstance(group, Group)
            group.strategy.speaks()
            raise ValueError("said already")

    with pytest.raises(SystemExit, match="1"):
        refused()


@pytest.mark.parametrize("saved", [True, False])
def test_a_broken_connection_is_a_lost_process_and_says_how_to_go_on(
    torchrun, tmp_path, saved
):
    if saved:
        with running("ddp", device="cpu") as group:
            a_fit(tmp_path, group)
    end = "holds the run up to step 6, and the same" if saved else "nothing was saved y"
    said = f"expected 1 processes to the end, lost one .Connection closed.: .*{end}"
    before = torch.distributed.is_initialized()
    try:
        with (
            pytest.raises(Lost, match=said),
            running("ddp", device="cpu", out=tmp_path),
        ):
            raise RuntimeError("[gloo/pair.cc:547] Connection closed")
    finally:
        # Nobody takes leave of a group that is gone.
        assert torch.distributed.is_initialized()
        assert not before
        torch.distributed.destroy_process_group()


def test_torchrun_without_a_strategy_and_the_reverse_are_refused(monkeypatch):
    with (
        pytest.raises(ValueError, match="expected to be started by torchrun, got a"),
        running("ddp"),
    ):
        pass
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ValueError, match="strategy ddp, fsdp or tp under torchrun, got"),
        running(None),
    ):
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    with running(None) as processes:
        assert processes is ALONE


def test_without_a_folder_there_is_nothing_to_go_on_from(tmp_path):
    for out in (None, tmp_path):
        assert re.match("nothing was saved yet, so the same", how_to_go_on(out))
    assert math.isfinite(a_fit(tmp_path)[-1].loss)
    assert "holds the run up to step 6" in how_to_go_on(tmp_path)
