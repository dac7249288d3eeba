"""Chapter 7. Pretrained models: a model and its tokenizer, by folder or by name.

A name is looked for in three places: a folder of the reader's, the models that ship
with the package, and the Hugging Face hub, whose client downloads with a progress bar,
goes on where a connection broke off, and keeps every whole file for the next time. A
folder is in Hugging Face's layout, or OpenAI's first release of GPT-1.
"""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

from minigpt.checkpoint import (
    Format,
    Pretrained,
    check_vocabulary,
    config_from_json,
    find_weights,
    load_folder,
    model_folder,
    save_pretrained,
    stored_tensors,
)
from minigpt.model import GPTConfig
from minigpt.plan import size
from minigpt.release import (
    is_release,
    load_release,
    release_config,
    release_tokenizer,
    release_weights,
)
from minigpt.storage import NUMBERS, read_json
from minigpt.texts import ASSETS
from minigpt.tokenizer import Tokenizer, load_tokenizer

# The hub's names of what OpenAI published; the part after the slash will do.
PUBLISHED = (
    "openai-community/openai-gpt",
    "openai-community/gpt2",
    "openai-community/gpt2-medium",
    "openai-community/gpt2-large",
    "openai-community/gpt2-xl",
)
# A repository holds the same weights for other programs too, gigabytes of them.
NEEDED = (
    "config.json",
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
)
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class Summary(NamedTuple):
    """What a saved model is, said without loading it."""

    folder: Path
    config: GPTConfig
    tokenizer: Tokenizer | None
    dtype: torch.dtype
    n_bytes: int

    def __str__(self) -> str:
        number = str(self.dtype).removeprefix("torch.")
        kind = "none" if self.tokenizer is None else type(self.tokenizer).__name__
        return (
            f"folder     {self.folder}\n"
            f"model      {describe(self.config)}\n"
            f"weights    {number}, {size(float(self.n_bytes))} on the disk\n"
            f"tokenizer  {kind}, {self.config.vocab_size} tokens"
        )


def describe(config: GPTConfig) -> str:
    """A shape in one line."""
    return (
        f"{config.n_parameters:,} parameters: {config.n_layer} layers, "
        f"{config.n_head} heads, {config.d_model} channels, context "
        f"{config.context_length}"
    )


def shipped() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(sorted(file.parent.name for file in ASSETS.glob("*/config.json")))


def reference_curve(name: str) -> dict[int, float]:
    """The validation loss by step of a shipped model's run, to hold one's own against.

    Raises:
        ValueError: no such model, or one whose record does not ship.
    """
    records = {file.parent.name: file for file in ASSETS.glob("*/record.json")}
    if name not in records:
        raise ValueError(
            f"expected a run with a record, {' or '.join(sorted(records))}, got "
            f"{name!r}"
        )
    curve = read_json(records[name])["validation loss"]
    return {int(step): loss for step, loss in curve.items()}


def load_pretrained(
    source: str | Path, *, dtype: torch.dtype = torch.float32
) -> Pretrained:
    """Model (in eval mode) and tokenizer from a saved folder, or by name.

    Names are those of `shipped()`, "openai-community/gpt2" and its larger sisters,
    "openai-community/openai-gpt", or any GPT-2 or GPT-1 on the hub ("owner/name").
    Weights become `dtype` however they are stored. A folder without a tokenizer gives
    None in its place, and a warning.

    Raises:
        FileNotFoundError: the name or path leads nowhere; says where it was looked for.
        ValueError: files that are truncated, foreign, pickled, or of another shape.
        MemoryError: the model is larger than the memory that is free.
    """
    folder = find(source)
    load = load_release if is_release(folder) else load_folder
    found = load(folder, dtype=dtype)
    rows = found.model.config.vocab_size
    if found.tokenizer is None:
        warnings.warn(
            f"no tokenizer beside the model in {source}: it reads and writes token "
            f"ids only",
            stacklevel=2,
        )
    elif found.tokenizer.vocab_size < rows:
        warnings.warn(
            f"the tokenizer in {source} has {found.tokenizer.vocab_size} tokens, the "
            f"embedding {rows} rows: ids that have no text cannot be decoded",
            stacklevel=2,
        )
    return found


def summarize(source: str | Path) -> Summary:
    """Read the headers of a saved model's files, and check that they fit each other.

    Raises:
        FileNotFoundError: the name or path leads nowhere; says where it was looked for.
        ValueError: files that are truncated, foreign, pickled, or of another shape.
    """
    folder = find(source)
    if is_release(folder):
        config, words = release_config(folder), release_tokenizer(folder)
        release_weights(folder, config)
        files = set(folder.glob("params_*.npy"))
        return Summary(folder, config, words, torch.float32, _bytes(files))
    folder = model_folder(folder)
    config = config_from_json(folder / "config.json")
    find_weights(folder, config)
    tokenizer = load_tokenizer(folder)
    check_vocabulary(config, tokenizer, folder)
    stored = stored_tensors(folder).values()
    dtype = next(one.dtype for one in stored if one.kind in NUMBERS)
    files = {one.file for one in stored}
    return Summary(folder, config, tokenizer, dtype, _bytes(files))


def export(
    source: str | Path,
    out: str | Path,
    *,
    dtype: torch.dtype | None = None,
    format: Format = "huggingface",  # noqa: A002 (the public name)
) -> Summary:
    """Save a model again, in another number format or layout; None keeps the numbers.

    Raises:
        FileNotFoundError: the source leads nowhere.
        ValueError: there is something in the folder already, or the format or dtype
            cannot hold the model.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"expected a new or empty folder to export to, got {out}: choose another"
        )
    stored = summarize(source)
    load = load_release if is_release(stored.folder) else load_folder
    model, tokenizer = load(stored.folder, dtype=stored.dtype)
    save_pretrained(model, tokenizer, folder, format=format, dtype=dtype)
    return summarize(folder)


def _bytes(files: set[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def find(source: str | Path) -> Path:
    """The folder that a path or a name means; a hub's model is downloaded into one.

    A folder of the reader's goes before a shipped name, and that before the hub.

    Raises:
        FileNotFoundError: neither a folder nor a name that leads to one.
    """
    name, path = str(source), Path(source)
    # A run that was killed while it replaced its folder has left the old one.
    if path.is_dir() or path.with_name(f"{path.name}.old").is_dir():
        return path
    if name in shipped():
        return ASSETS / name
    known = {published.split("/")[1]: published for published in PUBLISHED}
    name = known.get(name, name)
    # "run/best" is no name of the hub's where there is a folder run.
    if HUB_NAME.fullmatch(name) and not Path(name).parent.is_dir():
        return download(name)
    raise FileNotFoundError(
        f"expected a saved model in {source}, found no such folder: name the folder "
        f"that `minigpt train` wrote, such as run/best, or one of "
        f"{', '.join((*shipped(), *PUBLISHED))}"
    )


def download(name: str) -> Path:
    """The folder in which the hub's client keeps a model, downloaded where it is not.

    Raises:
        FileNotFoundError: no network, no such model, or none as safetensors.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(NEEDED)))
    except Exception as error:
        # Whatever the client raises (no network, no such name, no right to see it),
        # the reader needs the same three facts: what, where, and what to do.
        said = str(error).strip().split("\n")[0]
        raise FileNotFoundError(
            f"expected the model {name}, looked in the folder {name}, among the models "
            f"that ship with the package ({', '.join(shipped())}) and on the Hugging "
            f"Face hub ({type(error).__name__}: {said}) in vain: check the name and "
            f"the network and try again, or copy the model's folder here and give its "
            f"path"
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"expected weights as safetensors in the hub's {name}, found none: if it "
            f"has a pytorch_model.bin and you trust its author, convert it with "
            f"transformers, AutoModelForCausalLM.from_pretrained({name!r})"
            f".save_pretrained('converted'), and load converted"
        )
    return folder
