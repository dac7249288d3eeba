"""Chapter 5. Checkpoints: what a run leaves on the disk, and how it comes back.

A saved model is a folder in Hugging Face's layout: `config.json` and
`model.safetensors` under the names that GPT-2 (pre-norm) or OpenAI GPT (post-norm) has
there (`foreign.py`), so that `transformers.AutoModelForCausalLM` loads it and computes
the same logits. A shape that those classes would compute differently is refused, and
saves only as `format="minigpt"`, which they refuse in turn.

Loading reads headers first: what is wrong is said before memory is taken. Then weights
are read one by one into a model that has shapes and no numbers yet, so that at no time
there are two copies. A checkpoint of a run adds the optimiser, the random state and the
place in the data.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from minigpt.foreign import foreign_names, huggingface_config, match_names, shape_of
from minigpt.hardware import require_memory
from minigpt.model import GPT, GPTConfig
from minigpt.storage import (
    Stored,
    list_tensors,
    read_json,
    recovered,
    write_json,
    write_tensors,
)
from minigpt.tokenizer import Tokenizer, load_tokenizer

Format = Literal["huggingface", "minigpt"]
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


class Pretrained(NamedTuple):
    """A model in eval mode, and its tokenizer where the folder has one."""

    model: GPT
    tokenizer: Tokenizer | None


def config_from_json(path: Path) -> GPTConfig:
    """The shape that a `config.json` describes, in either format.

    Raises:
        ValueError: not JSON, another kind of model, or a variant we compute otherwise.
    """
    found = read_json(path)
    if "minigpt" not in found:
        return shape_of(found, path)
    ours = found["minigpt"]
    known = {field.name for field in fields(GPTConfig)}
    if not isinstance(ours, dict) or not ours.keys() <= known:
        raise ValueError(
            f"expected fields of GPTConfig under minigpt in {path}, got {ours!r}: it "
            f"was saved by another version"
        )
    return GPTConfig(**ours)


def save_pretrained(
    model: GPT,
    tokenizer: Tokenizer | None,
    path: str | Path,
    *,
    format: Format = "huggingface",  # noqa: A002 (the public name)
    dtype: torch.dtype | None = None,
) -> None:
    """Write model and tokenizer into a folder that `load_folder` reads.

    The weights keep their own number format unless another `dtype` is asked for.

    Raises:
        ValueError: a shape that the format cannot hold, a weight that the dtype cannot,
            or a tokenizer with more tokens than the model.
    """
    folder = Path(path)
    check_vocabulary(model.config, tokenizer, folder)
    if dtype is None:
        dtype = model.token_embedding.weight.dtype
    state = {
        name: _rounded(name, weight.detach().cpu(), dtype)
        for name, weight in model.state_dict().items()
    }
    config: dict[str, object]
    if format == "minigpt":
        stored_as = str(dtype).removeprefix("torch.")
        config = {"model_type": "minigpt", "dtype": stored_as}
        config["minigpt"] = asdict(model.config)
    else:
        end_id = None if tokenizer is None else tokenizer.end_id
        config = huggingface_config(model.config, dtype=dtype, end_id=end_id)
        state = {
            name: (state[ours].T if turned else state[ours])
            for ours, (name, turned) in foreign_names(model.config).items()
        }
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", state)
    write_json(folder / "config.json", config)
    if tokenizer is not None:
        tokenizer.save(folder)


def _rounded(name: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    if weight.dtype == dtype:
        return weight
    rounded = weight.to(dtype)
    if weight.isfinite().all() and not rounded.isfinite().all():
        raise ValueError(
            f"expected weights that {dtype} can hold, got {weight.abs().max():.3g} in "
            f"{name}: save as torch.bfloat16, which has float32's range"
        )
    return rounded


def load_folder(path: str | Path, *, dtype: torch.dtype = torch.float32) -> Pretrained:
    """Model (in eval mode) and tokenizer from a saved folder.

    Weights become `dtype` however they are stored.

    Raises:
        FileNotFoundError: no such folder, or no model in it.
        ValueError: a file that is truncated, foreign, or of another shape; or a
            tokenizer with more tokens than the model.
        MemoryError: the model is larger than the memory that is free.
    """
    folder = model_folder(path)
    config = config_from_json(folder / "config.json")
    tokenizer = load_tokenizer(folder)
    check_vocabulary(config, tokenizer, folder)
    model = assemble(config, find_weights(folder, config), dtype=dtype, where=folder)
    return Pretrained(model, tokenizer)


def model_folder(path: str | Path) -> Path:
    """The folder of a saved model, put back if its replacement was cut off.

    Raises:
        FileNotFoundError: no such folder, or no model in it.
    """
    folder = recovered(Path(path))
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"expected a saved model in {path}, found no config.json there: name the "
            f"folder that `minigpt train` wrote, such as run/best"
        )
    return folder


def check_vocabulary(
    config: GPTConfig, tokenizer: Tokenizer | None, where: Path
) -> None:
    """Refuse a tokenizer whose ids the embedding has no rows for.

    Raises:
        ValueError: more tokens than rows. (Fewer is padding, and can be used.)
    """
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"expected a tokenizer of at most {config.vocab_size} tokens for the "
            f"embedding in {where}, got {tokenizer.vocab_size}: use the tokenizer that "
            f"the model was trained with"
        )


class Weight(NamedTuple):
    """A weight on the disk: how it is read, and how many bytes of memory that takes."""

    read: Callable[[], Tensor]
    n_bytes: int


def assemble(
    config: GPTConfig,
    weights: Mapping[str, Weight],
    *,
    dtype: torch.dtype,
    where: Path,
) -> GPT:
    """A model in eval mode whose weights are read one by one, the largest first.

    On torch's "meta" device a model has shapes and no numbers: nothing is drawn at
    random that would be overwritten, and at most one weight is in memory twice.

    Raises:
        MemoryError: the model is larger than the memory that is free.
        ValueError: a dtype that is no floating-point format.
    """
    if not dtype.is_floating_point:
        raise ValueError(
            f"expected a floating-point dtype to load {where} as, got {dtype}: choose "
            f"torch.float32, torch.bfloat16 or torch.float16"
        )
    largest = max(weight.n_bytes for weight in weights.values())
    require_memory(config.n_parameters * dtype.itemsize + largest, f"load {where}")
    model = blank(config)
    shapes = {name: weight.shape for name, weight in model.state_dict().items()}
    state = {}
    for name in sorted(shapes, key=lambda name: -weights[name].n_bytes):
        state[name] = torch.empty(shapes[name], dtype=dtype)
        state[name].copy_(weights[name].read())
    model.load_state_dict(state, assign=True)
    return model.eval()


def find_weights(folder: Path, config: GPTConfig) -> dict[str, Weight]:
    """Every weight of the model in a folder's files, from their headers.

    What is left over is named in a warning: it belongs to no part of the model.

    Raises:
        FileNotFoundError: no weights.
        ValueError: truncated or foreign files, or weights of another shape.
    """
    stored = stored_tensors(folder)
    shapes = {name: tuple(w.shape) for name, w in blank(config).state_dict().items()}
    own_names = "minigpt" in read_json(folder / "config.json")
    table = (
        {name: (name, False) for name in shapes} if own_names else foreign_names(config)
    )
    match = match_names(config, table, stored, folder)
    if match.unused:
        warnings.warn(
            f"{len(match.unused)} weights in {folder} belong to no part of this model "
            f"and are left out: {', '.join(match.unused[:3])}"
            f"{', …' if len(match.unused) > 3 else ''}",
            stacklevel=2,
        )
    found = {
        ours: (stored[name], turned) for ours, (name, turned) in match.names.items()
    }
    for name, (tensor, turned) in found.items():
        shape = tensor.shape[::-1] if turned else tensor.shape
        if shape != shapes[name]:
            raise ValueError(
                f"expected shape {shapes[name]} for {name} in {tensor.file}, got "
                f"{shape}: config.json describes another model"
            )
    if match.copy:
        _check_tied(stored[match.copy], found["token_embedding.weight"][0])
    return {
        name: Weight(partial(_read, tensor, turned), tensor.n_bytes)
        for name, (tensor, turned) in found.items()
    }


def blank(config: GPTConfig) -> GPT:
    """A model that has shapes and no numbers: nothing is allocated or drawn."""
    with torch.device("meta"), _NothingDrawn():
        return GPT(config)


class _NothingDrawn(TorchFunctionMode):
    """Skips what `torch.nn.init` would fill tensors with.

    On the meta device there is nothing to fill, but torch would load its compiler to
    find that out: three seconds and eighty megabytes.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _read(tensor: Stored, turned: bool) -> Tensor:
    return tensor.read().T if turned else tensor.read()


def _check_tied(head: Stored, embedding: Stored) -> None:
    if not torch.equal(head.read(), embedding.read()):
        raise ValueError(
            f"expected {head.name} to equal {embedding.name} in {head.file}, as "
            f"tie_word_embeddings says, got another matrix: if the head is its own, "
            f'write "tie_word_embeddings": false into config.json'
        )


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """What the weight files of a folder hold, one file or several with their index.

    Raises:
        FileNotFoundError: no weights, or not every file that the index names.
        ValueError: truncated or foreign files; or a pickle, which is not opened.
    """
    single, index = (
        folder / "model.safetensors",
        folder / "model.safetensors.index.json",
    )
    if single.is_file() or not index.is_file():
        _refuse_pickle(folder, single)
        return list_tensors(single)
    table = _weight_map(index)
    stored: dict[str, Stored] = {}
    for file in sorted(set(table.values())):
        stored |= list_tensors(folder / file)
    absent = sorted(table.keys() - stored)
    if absent:
        raise ValueError(
            f"expected {absent[0]} in {folder / table[absent[0]]}, as {index.name} "
            f"says, found none: copy the folder again"
        )
    return stored


def _weight_map(index: Path) -> dict[str, str]:
    table = read_json(index).get("weight_map")
    files = table.values() if isinstance(table, dict) else [None]
    # A path could lead out of the folder.
    if not all(isinstance(file, str) and Path(file).name == file for file in files):
        raise ValueError(
            f"expected weight_map in {index} to name files of its own folder, got "
            f"something else: the file is damaged or foreign"
        )
    return dict(table or {})


def _refuse_pickle(folder: Path, single: Path) -> None:
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
    if pickles and not single.is_file():
        raise ValueError(
            f"expected model.safetensors in {folder}, got {pickles[0]}, a pickle, "
            f"which can run any code while it is read: if you trust its author, "
            f"convert it with transformers, AutoModelForCausalLM.from_pretrained("
            f"{str(folder)!r}).save_pretrained('converted'), and load converted"
        )


def optimizer_tensors(optimizers: tuple[Optimizer, ...]) -> dict[str, Tensor]:
    """Every running mean, under `optimizer.<which>.<parameter>.<name>`."""
    return {
        f"optimizer.{which}.{index}.{name}": torch.as_tensor(value)
        for which, one in enumerate(optimizers)
        for index, entries in one.state_dict()["state"].items()
        for name, value in entries.items()
    }


def restore_optimizers(
    optimizers: tuple[Optimizer, ...], tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` took; rates come from the schedule anyway."""
    for which, one in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            kind, *rest = key.split(".")
            if kind == "optimizer" and int(rest[0]) == which:
                state.setdefault(int(rest[1]), {})[rest[2]] = value
        groups = one.state_dict()["param_groups"]
        one.load_state_dict({"state": state, "param_groups": groups})


def random_tensors() -> dict[str, Tensor]:
    """The state of torch's random generators, which dropout draws from."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random(tensors: dict[str, Tensor]) -> None:
    """Put back what `random_tensors` took."""
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
