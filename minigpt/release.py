"""Chapter 7. The first release: GPT-1's weights as OpenAI put them out in 2018.

`params_0.npy` to `params_9.npy` are one long row of numbers, cut into ten files, and
`params_shapes.json` lists the shapes to cut it into again: the positions, the tokens,
then twelve tensors for each block in the order in which TensorFlow made them. Names and
the number of heads (12) stand only in the code of the release, `train.py` in
github.com/openai/finetune-transformer-lm.
"""

import json
import math
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from minigpt.checkpoint import (
    Pretrained,
    Weight,
    assemble,
    blank,
    check_vocabulary,
)
from minigpt.model import GPTConfig
from minigpt.subword import GPT1Tokenizer

SHAPES = "params_shapes.json"
N_FILES = 10
VOCABULARY = ("encoder_bpe_40000.json", "vocab_40000.bpe")
BLOCK_ORDER = (
    "attention.qkv",
    "attention.out",
    "norm1",
    "mlp.up",
    "mlp.down",
    "norm2",
)


class Slice(NamedTuple):
    """The numbers from `start` to `end` of a row that is cut into several files."""

    files: tuple[Path, ...]
    lengths: tuple[int, ...]
    start: int
    end: int

    def read(self) -> np.ndarray:
        """Copy them; each file is open only meanwhile."""
        row = np.empty(self.end - self.start, np.float32)
        before = 0
        for file, length in zip(self.files, self.lengths, strict=True):
            first, last = max(self.start, before), min(self.end, before + length)
            if first < last:
                part = read_array(file)[first - before : last - before]
                row[first - self.start : last - self.start] = part
            before += length
        return row


def is_release(folder: Path) -> bool:
    """Whether a folder holds OpenAI's release of GPT-1."""
    return (folder / SHAPES).is_file() and (folder / "params_0.npy").is_file()


def load_release(folder: Path, *, dtype: torch.dtype = torch.float32) -> Pretrained:
    """GPT-1 (in eval mode) and its tokenizer, from the files of the release.

    Raises:
        FileNotFoundError: one of the ten files is not there.
        ValueError: files that are truncated, hold objects, or do not fit each other.
        MemoryError: the model is larger than the memory that is free.
    """
    config, tokenizer = release_config(folder), release_tokenizer(folder)
    check_vocabulary(config, tokenizer, folder)
    weights = release_weights(folder, config)
    return Pretrained(assemble(config, weights, dtype=dtype, where=folder), tokenizer)


def release_tokenizer(folder: Path) -> GPT1Tokenizer | None:
    """The tokenizer of the release, if its two files are there.

    Raises:
        ValueError: files that cannot be read, or do not belong together.
    """
    files = [folder / name for name in VOCABULARY]
    if not all(file.is_file() for file in files):
        return None
    return GPT1Tokenizer.from_files(*files)


def release_config(folder: Path) -> GPTConfig:
    """The shape that the list of shapes describes, with the twelve heads of `train.py`.

    Raises:
        ValueError: another list than that of a GPT-1.
    """
    shapes = _shapes(folder)
    blocks, rest = divmod(len(shapes) - 2, 2 * len(BLOCK_ORDER))
    whole = blocks > 0 and rest == 0 and len(shapes[0]) == len(shapes[1]) == 2
    if not whole or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            f"expected the shapes of positions, tokens and 12 tensors a block in "
            f"{folder / SHAPES}, got {len(shapes)} shapes: is this another release?"
        )
    return replace(
        GPTConfig.preset("gpt1"),
        context_length=shapes[0][0],
        vocab_size=shapes[1][0],
        d_model=shapes[1][1],
        n_layer=blocks,
    )


def _shapes(folder: Path) -> list[tuple[int, ...]]:
    path = folder / SHAPES
    try:
        return [tuple(map(int, shape)) for shape in json.loads(path.read_text("utf-8"))]
    except (ValueError, TypeError):
        raise ValueError(
            f"expected a list of shapes in {path}, got something else: the file is "
            f"truncated or foreign"
        ) from None


def release_weights(folder: Path, config: GPTConfig) -> dict[str, Weight]:
    """Where each weight lies in the long row.

    Raises:
        FileNotFoundError: one of the ten files is not there.
        ValueError: shapes of another model, or more or fewer numbers than they take.
    """
    shapes = _shapes(folder)
    files = tuple(folder / f"params_{i}.npy" for i in range(N_FILES))
    lengths = tuple(len(read_array(file)) for file in files)
    needed = sum(map(math.prod, shapes))
    if sum(lengths) != needed:
        raise ValueError(
            f"expected {needed} numbers in the {N_FILES} files of {folder}, got "
            f"{sum(lengths)}: download them again"
        )
    expected = {name: tuple(w.shape) for name, w in blank(config).state_dict().items()}
    ends = list(accumulate(map(math.prod, shapes)))
    weights = {}
    for name, shape, end in zip(_names(config), shapes, ends, strict=True):
        # Convolutions of width 1 have a leading 1; matrices compute x W, ours x Wᵀ.
        turned = name.startswith("blocks.") and len(expected[name]) == 2
        cut = shape[1:] if turned else shape
        if (cut[::-1] if turned else cut) != expected[name]:
            raise ValueError(
                f"expected shape {expected[name]} for {name} in {folder / SHAPES}, "
                f"got {shape}: is this another release?"
            )
        part = Slice(files, lengths, end - math.prod(shape), end)
        weights[name] = Weight(partial(_read, part, cut, turned), 4 * math.prod(shape))
    return weights


def _names(config: GPTConfig) -> list[str]:
    blocks = [
        f"blocks.{i}.{part}.{kind}"
        for i in range(config.n_layer)
        for part in BLOCK_ORDER
        for kind in ("weight", "bias")
    ]
    return ["position_embedding.weight", "token_embedding.weight", *blocks]


def _read(part: Slice, shape: tuple[int, ...], turned: bool) -> Tensor:
    weight = torch.from_numpy(part.read()).reshape(shape)
    return weight.T if turned else weight


def read_array(path: Path) -> np.ndarray:
    """A row of numbers in a .npy file, mapped and not yet read; never a pickle.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or anything but a row of float32.
    """
    try:
        row = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"expected the file {path}, found none: the release has {N_FILES} of them, "
            f"download it again"
        ) from None
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"expected a whole row of numbers in {path}, got {error}: download it again"
        ) from None
    if row.ndim != 1 or row.dtype != np.float32:
        raise ValueError(
            f"expected one row of float32 in {path}, got {row.dtype} of shape "
            f"{row.shape}: is this another release?"
        )
    return row
