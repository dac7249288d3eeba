"""Loggers write what a record holds, read back by the loggers' own programs."""

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from minigpt.callbacks import Progress, TensorBoard, WeightsAndBiases, scalars
from minigpt.cli import main
from minigpt.pretrained import load_pretrained, reference_curve
from minigpt.run import StepRecord

RECORDS = [
    StepRecord(step=1, loss=2.5, rate=0.5, gradient_norm=3.0, tokens=80, seconds=2.0),
    StepRecord(
        step=2,
        loss=2.0,
        rate=1.0,
        gradient_norm=1.5,
        tokens=80,
        seconds=1.0,
        validation_loss=2.25,
    ),
]


def test_a_record_has_a_name_for_each_of_its_numbers():
    assert scalars(RECORDS[0]) == {
        "loss/training": 2.5,
        "gradient norm": 3.0,
        "rate": 0.5,
        "tokens per second": 40.0,
    }
    measured = scalars(RECORDS[1])
    assert measured["loss/validation"] == 2.25
    assert measured["loss/training"] == 2.0


def test_tensorboard_reads_every_step_back(tmp_path: Path):
    with TensorBoard(tmp_path) as log:
        for record in RECORDS:
            assert not log(record)
    events = EventAccumulator(str(tmp_path)).Reload()
    for name in scalars(RECORDS[1]):
        read = {event.step: event.value for event in events.Scalars(name)}
        assert read == {r.step: scalars(r)[name] for r in RECORDS if name in scalars(r)}


@pytest.mark.slow
def test_weights_and_biases_keeps_every_step_offline(tmp_path: Path, monkeypatch):
    import wandb
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    with WeightsAndBiases(tmp_path) as log:
        for record in RECORDS:
            assert not log(record)
    wandb.teardown()  # waits for the process that writes, as the end of a program does
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    store, rows = DataStore(), []
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        entry = wandb_internal_pb2.Record()
        entry.ParseFromString(data)
        if entry.WhichOneof("record_type") == "history":
            pairs = ((".".join(i.nested_key) or i.key, i) for i in entry.history.item)
            rows.append({key: float(item.value_json) for key, item in pairs})
    store._fp.close()
    for row, record in zip(rows, RECORDS, strict=True):
        assert scalars(record).items() <= row.items()
        assert row["_step"] == record.step


@pytest.mark.parametrize(
    ("package", "log"), [("tensorboard", TensorBoard), ("wandb", WeightsAndBiases)]
)
def test_a_logger_that_is_not_installed_is_one_sentence(
    tmp_path, monkeypatch, package, log
):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"the package {package} .* found none: inst"):
        log(tmp_path)


def test_a_reference_stands_beside_where_both_were_measured(capsys):
    with Progress(3, ["chosen"], reference={2: 2.125, 3: 2.0}) as progress:
        for record in RECORDS:
            progress(record)
    shown = capsys.readouterr()
    assert "validation loss 2.2500  reference 2.1250" in shown.out + shown.err
    with Progress(3, ["chosen"], reference={1: 2.125}) as progress:
        progress(RECORDS[1])
    shown = capsys.readouterr()
    assert "reference" not in shown.out + shown.err


@pytest.mark.parametrize("name", ["minigpt-base", "minigpt-shakespeare"])
def test_a_shipped_run_falls_and_ends_at_its_last_step(name):
    curve = reference_curve(name)
    assert load_pretrained(name).model
    losses = [curve[step] for step in sorted(curve)]
    assert losses == sorted(losses, reverse=True)
    assert len(curve) >= 6


def test_a_run_without_a_record_is_named(tmp_path, capsys):
    with pytest.raises(
        ValueError, match="minigpt-base or minigpt-shakespeare, got 'x'"
    ):
        reference_curve("x")


def test_the_command_logs_where_it_is_asked_to(tmp_path, capsys):
    text = tmp_path / "tern.txt"
    text.write_text("the ferry waits at the pier\n" * 60, "utf-8")
    shape = "--n-layer 1 --n-head 2 --d-model 8 --context-length 8 --steps 4".split()
    run = [
        *shape,
        "--eval-every",
        "2",
        "--device",
        "cpu",
        "--reference",
        "minigpt-base",
    ]
    argv = ["train", "--data", str(text), "--out", str(tmp_path / "run"), *run]
    assert main([*argv, "--log", "tensorboard"]) == 0
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Scalars("loss/training")] == [1, 2, 3, 4]
    assert main([*argv, "--reference", "x"]) == 2
    assert "expected a run with a record" in capsys.readouterr().err
