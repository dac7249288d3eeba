"""Storage: a write that is cut off is no loss, and a damaged file is named."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minigpt.storage import (
    list_tensors,
    read_json,
    read_tensors,
    recovered,
    replacing_folder,
    write_json,
    write_tensors,
)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"old": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"to write .*a\.json, got .*No space.*unchanged"):
        write_json(tmp_path / "a.json", {"new": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def folder_with(path: Path, content: str) -> None:
    path.mkdir()
    (path / "file").write_text(content)


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    last = tmp_path / "last"
    with replacing_folder(last) as new:
        (new / "file").write_text("1")
    with pytest.raises(FileNotFoundError), replacing_folder(last) as new:
        shutil.copy(last / "absent", new / "file")
    assert (last / "file").read_text() == "1"
    with replacing_folder(last) as new:
        (new / "file").write_text("2")
    assert (last / "file").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("left", [("last",), ("old",), ("last", "old"), ("old", "new")])
def test_killed_between_any_two_moves_one_whole_folder_is_left(tmp_path, left):
    # What a kill can leave behind, in the order of the moves inside a replacement.
    for name in left:
        folder_with(tmp_path / name.replace("o", "last.o").replace("n", "last.n"), name)
    path = tmp_path / "last"
    assert (recovered(path) / "file").read_text() == left[0]
    with replacing_folder(path) as new:
        (new / "file").write_text("next")
    assert (path / "file").read_text() == "next"
    assert [found.name for found in tmp_path.iterdir()] == ["last"]


def test_a_header_says_what_the_tensors_are_and_each_reads_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {
        "half": torch.randn(2, 5).to(torch.bfloat16),
        "single": torch.randn(3, 4).T,
        "whole": torch.arange(6),
    }
    write_tensors(path, tensors)
    stored = list_tensors(path)
    assert {name: one.shape for name, one in stored.items()} == {
        name: tuple(w.shape) for name, w in tensors.items()
    }
    for name, tensor in tensors.items():
        assert torch.equal(stored[name].read(), tensor)
    assert stored["half"].dtype == torch.bfloat16
    assert stored["half"].n_bytes == 2 * 5 * 2
    with pytest.raises(ValueError, match=r"expected whole in .*a\.safetensors as F64"):
        _ = stored["whole"].dtype


@pytest.mark.parametrize("read", [list_tensors, read_tensors])
def test_a_file_that_is_cut_off_foreign_or_absent_is_named(tmp_path, read):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match=r"the file .*a\.safetensors, found no"):
        read(path)
    save_file({"x": torch.randn(5)}, path)
    whole = path.read_bytes()
    for damaged in (whole[:-7], whole[:5], b"", b"no header at all" * 9):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a whole safetensors file, got .*a\.saf"):
            read(path)


def test_a_file_that_changes_between_header_and_weight_is_an_error(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.randn(5)}, path)
    stored = list_tensors(path)["x"]
    save_file({"y": torch.randn(5)}, path)
    with pytest.raises(ValueError, match=r"a whole safetensors file, got .* x"):
        stored.read()


@pytest.mark.parametrize("text", ['{"a": 1', "[1]", ""])
def test_what_is_no_json_object_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a JSON object in .*a\.json, got something"):
        read_json(tmp_path / "a.json")
