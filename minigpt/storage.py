"""Chapter 5. Storage: a file on the disk is there as a whole, or is still the old one.

Everything is written under another name, synced to the disk and renamed, so that a
reader sees the old file or the new one, and a run killed at any moment has lost
nothing. Nothing is pickled: a file cannot run code.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

# Numbers that a weight may be stored in, as safetensors names them.
NUMBERS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


class Stored(NamedTuple):
    """Where a tensor lies, under which name, and what it is, before it is read."""

    file: Path
    name: str
    shape: tuple[int, ...]
    kind: str

    @property
    def dtype(self) -> torch.dtype:
        """The format of its numbers.

        Raises:
            ValueError: whole numbers, or another format that no weight has.
        """
        if self.kind not in NUMBERS:
            raise ValueError(
                f"expected {self.name} in {self.file} as {', '.join(NUMBERS)}, got "
                f"{self.kind}: a compressed model must be restored before it is loaded"
            )
        return NUMBERS[self.kind]

    @property
    def n_bytes(self) -> int:
        """Its size on the disk, and in memory while it is read."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor; its memory is the file's own pages until it is copied.

        The file is opened for this one tensor: pages of an open file that were read
        count as memory in use, and would add up to a second model.

        Raises:
            ValueError: the file has changed since, or is damaged.
        """
        with _opened(self.file) as file:
            return file.get_tensor(self.name)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"expected the file {path}, found none: copy it again")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(_broken(path, error)) from None


def _broken(path: Path, error: SafetensorError) -> str:
    return (
        f"expected a whole safetensors file, got {path} ({error}): it is truncated or "
        f"foreign, so take another checkpoint"
    )


def list_tensors(path: Path) -> dict[str, Stored]:
    """What a safetensors file holds, from its header alone.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or no safetensors file at all.
    """
    with _opened(path) as file:
        parts = {name: file.get_slice(name) for name in file.keys()}
        return {
            name: Stored(path, name, tuple(part.get_shape()), part.get_dtype())
            for name, part in parts.items()
        }


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, all at once.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or no safetensors file at all.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected the file {path}, found none: copy it again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(_broken(path, error)) from None


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors so that the file is there as a whole or is the old one."""
    with replacing(path) as temporary:
        packed = {name: w.contiguous() for name, w in tensors.items()}
        save_file(packed, temporary, metadata={"format": "pt"})


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: not JSON, or no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"expected a JSON object in {path}, got something else: the file is "
            f"truncated or foreign"
        )
    return found


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that the file is there as a whole or is the old one."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name whose file takes the place of `path` if the block succeeds.

    Raises:
        OSError: the disk is full or read-only; the old file is untouched.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"expected to write {path}, got {error}: the file that was there before "
            f"is unchanged"
        ) from error


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of `path`, whole, if the block succeeds."""
    new, old = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    for file in new.iterdir():
        _sync(file)
    _sync(new)
    recovered(path)
    shutil.rmtree(old, ignore_errors=True)
    # No system swaps two full folders in one move. Killed between these two lines we
    # are left with `old` alone, which `recovered` renames back.
    if path.exists():
        path.rename(old)
    new.rename(path)
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recovered(path: Path) -> Path:
    """The same path, after undoing a replacement that was cut off half-way."""
    old = path.with_name(f"{path.name}.old")
    if not path.exists() and old.is_dir():
        old.rename(path)
    return path


def _sync(path: Path) -> None:
    # A folder cannot be opened for syncing on Windows; its renames are journalled.
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
