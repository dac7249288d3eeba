"""Chapter 5. Checkpoints: what a run leaves on the disk, and how it comes back.

A saved model is a folder in Hugging Face's layout: `config.json` and
`model.safetensors` under the names that GPT-2 (pre-norm) or OpenAI GPT (post-norm) has
there, so that `transformers.AutoModelForCausalLM` loads it and computes the same
logits. A shape that those classes would compute differently is refused, and saves only
as `format="minigpt"`, which they refuse in turn.

A checkpoint of a run adds the optimiser, the random state and the place in the data.
Everything is written under another name, synced to the disk and renamed, so that a
reader sees the old file or the new one. Nothing is pickled: a file cannot run code.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from minigpt.model import GPT, GPTConfig
from minigpt.tokenizer import Tokenizer, load_tokenizer

Format = Literal["huggingface", "minigpt"]

# The one table of foreign weight names: ours, OpenAI's, and whether OpenAI's code
# stores the matrix the other way round (its "Conv1D" computes x W, ours x Wᵀ).
BLOCK_NAMES = (
    ("norm1", "ln_1", False),
    ("attention.qkv", "attn.c_attn", True),
    ("attention.out", "attn.c_proj", True),
    ("norm2", "ln_2", False),
    ("mlp.up", "mlp.c_fc", True),
    ("mlp.down", "mlp.c_proj", True),
)
TOP_NAMES = {
    "pre": (
        ("token_embedding", "wte"),
        ("position_embedding", "wpe"),
        ("final_norm", "ln_f"),
    ),
    "post": (
        ("token_embedding", "tokens_embed"),
        ("position_embedding", "positions_embed"),
    ),
}
# Constants that older files carry along: the causal mask, and minus infinity.
BUFFERS = (".attn.bias", ".attn.masked_bias")


class Pretrained(NamedTuple):
    """A model in eval mode, and its tokenizer where the folder has one."""

    model: GPT
    tokenizer: Tokenizer | None


def foreign_names(config: GPTConfig) -> dict[str, tuple[str, bool]]:
    """Our name → Hugging Face's, and whether the weight is transposed there."""
    table: dict[str, tuple[str, bool]] = {}
    for ours, theirs in TOP_NAMES[config.norm]:
        for kind in ("weight", "bias") if ours == "final_norm" else ("weight",):
            table[f"{ours}.{kind}"] = f"transformer.{theirs}.{kind}", False
    for i in range(config.n_layer):
        for ours, theirs, turned in BLOCK_NAMES:
            for kind in ("weight", "bias"):
                name = f"transformer.h.{i}.{theirs}.{kind}"
                table[f"blocks.{i}.{ours}.{kind}"] = name, turned and kind == "weight"
    if not config.tied:
        table["head.weight"] = "lm_head.weight", False
    return table


def huggingface_config(config: GPTConfig) -> dict[str, Any]:
    """`config.json` for a shape that Hugging Face's classes compute as we do.

    Raises:
        ValueError: banded layers, no biases, or a GPT-1 with another MLP width.
    """
    post = config.norm == "post"
    reasons = {
        f"band={config.band}": config.band is not None,
        "bias=False": not config.bias,
        f"d_mlp={config.d_mlp}": post and config.mlp_width != 4 * config.d_model,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(
                f"expected a model that Hugging Face's class computes as we do, got "
                f'{reason}: save it with format="minigpt"'
            )
    kind = "OpenAIGPT" if post else "GPT2"
    return {
        "architectures": [f"{kind}LMHeadModel"],
        "model_type": "openai-gpt" if post else "gpt2",
        **({"afn": "gelu"} if post else {"activation_function": "gelu_new"}),
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.d_model,
        **({} if post else {"n_inner": config.d_mlp}),
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tied,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "initializer_range": config.init_std,
        # GPT2Config would fill in 50256, which a small vocabulary does not have.
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
    }


def config_from_json(path: Path) -> GPTConfig:
    """The shape that a `config.json` describes, in either format.

    Raises:
        ValueError: not JSON, another kind of model, or a variant we compute otherwise.
    """
    found = read_json(path)
    if "minigpt" in found:
        return GPTConfig(**found["minigpt"])
    kind = found.get("model_type")
    if kind not in ("gpt2", "openai-gpt"):
        raise ValueError(
            f'expected model_type "gpt2" or "openai-gpt" in {path}, got {kind!r}: '
            f"this folder holds another kind of model"
        )
    plain = {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "afn": ("gelu",),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    }
    for key, known in plain.items():
        if found.get(key, known[0]) not in known:
            raise ValueError(
                f"expected {key} = {known[0]} in {path}, got {found[key]!r}: our model "
                f"would compute other logits"
            )
    post = kind == "openai-gpt"
    # Absent keys take the defaults of Hugging Face's own configuration classes.
    return GPTConfig(
        vocab_size=found.get("vocab_size", 40478 if post else 50257),
        context_length=found.get("n_positions", 512 if post else 1024),
        n_layer=found.get("n_layer", 12),
        n_head=found.get("n_head", 12),
        d_model=found.get("n_embd", 768),
        d_mlp=found.get("n_inner"),
        norm="post" if post else "pre",
        norm_eps=found.get("layer_norm_epsilon", 1e-5),
        tied=found.get("tie_word_embeddings", True),
        dropout=found.get("resid_pdrop", 0.1),
        init_std=found.get("initializer_range", 0.02),
    )


def save_pretrained(
    model: GPT,
    tokenizer: Tokenizer | None,
    path: str | Path,
    *,
    format: Format = "huggingface",  # noqa: A002 (the public name)
) -> None:
    """Write model and tokenizer into a folder that `load_folder` reads.

    Raises:
        ValueError: a shape that the format cannot hold.
    """
    folder = Path(path)
    state = {name: w.detach().cpu() for name, w in model.state_dict().items()}
    if format == "minigpt":
        config = {"model_type": "minigpt", "minigpt": asdict(model.config)}
    else:
        config = huggingface_config(model.config)
        state = {
            name: (state[ours].T if turned else state[ours])
            for ours, (name, turned) in foreign_names(model.config).items()
        }
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", state)
    write_json(folder / "config.json", config)
    if tokenizer is not None:
        tokenizer.save(folder)


def load_folder(path: str | Path) -> Pretrained:
    """Model (in eval mode) and tokenizer from a saved folder.

    Raises:
        FileNotFoundError: no such folder, or no model in it.
        ValueError: a file that is truncated, foreign, or of another shape.
    """
    folder = recovered(Path(path))
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"expected a saved model in {path}, found no config.json there: name the "
            f"folder that `minigpt train` wrote, such as run/best"
        )
    config = config_from_json(folder / "config.json")
    model = GPT(config)
    model.load_state_dict(_our_state(folder / "model.safetensors", model))
    return Pretrained(model.eval(), load_tokenizer(folder))


def _our_state(path: Path, model: GPT) -> dict[str, Tensor]:
    """The tensors of a file under our names, each with the shape the model has."""
    found = {
        name: w for name, w in read_tensors(path).items() if not name.endswith(BUFFERS)
    }
    state = model.state_dict()
    if not set(state) <= set(found):
        # The hub's gpt2 was saved without the prefix that its own class has.
        found = {name.removeprefix("transformer."): w for name, w in found.items()}
        renamed = {
            ours: (name.removeprefix("transformer."), turned)
            for ours, (name, turned) in foreign_names(model.config).items()
        }
        absent = [name for name, _ in renamed.values() if name not in found]
        if absent:
            raise ValueError(
                f"expected the weight {absent[0]} in {path}, found {len(found)} others "
                f"(such as {next(iter(sorted(found)), 'none')}): config.json describes "
                f"another model"
            )
        found = {
            ours: (found[name].T if turned else found[name])
            for ours, (name, turned) in renamed.items()
        }
    for name, w in state.items():
        if found[name].shape != w.shape:
            raise ValueError(
                f"expected shape {tuple(w.shape)} for {name} in {path}, got "
                f"{tuple(found[name].shape)}: config.json describes another model"
            )
    return {name: found[name] for name in state}


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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or no safetensors file at all.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected the file {path}, found none: copy it again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"expected a whole safetensors file, got {path} ({error}): it is "
            f"truncated or foreign, so take another checkpoint"
        ) from None


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
