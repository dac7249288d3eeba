"""Chapter 10. Saved heads: a folder to predict from, and one for Hugging Face's class.

The folder holds the decoder, its tokenizer, and beside them `head.json` (the layout)
and `head.safetensors`. A classifier is also exported: `GPT2ForSequenceClassification`,
or GPT-1's own class, then gives the same scores. That class knows padding by its id
alone and reads the rightmost other token, so the id must never stand last in a row:
ours is the delimiter, and every row ends in extract.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch

from minigpt.adapt.heads import Adapted
from minigpt.adapt.inputs import Layout, Marks, Read, Side
from minigpt.checkpoint import load_folder, save_pretrained
from minigpt.foreign import foreign_names, huggingface_config
from minigpt.labelled import KINDS
from minigpt.storage import (
    read_json,
    read_tensors,
    recovered,
    replacing_folder,
    write_json,
    write_tensors,
)

# Which loss Hugging Face's class takes for a kind.
PROBLEMS = {
    "classes": "single_label_classification",
    "multilabel": "multi_label_classification",
    "number": "regression",
}

# What a saved layout may say.
CHOICES = {"kind": KINDS, "cut": get_args(Side), "read": get_args(Read)}


def place_for(path: str | Path) -> Path:
    """A folder that `save_adapted` may write: ask before hours of training.

    Raises:
        ValueError: there is another kind of folder at that place.
    """
    folder = Path(path)
    if folder.exists() and not (folder / "head.json").is_file():
        raise ValueError(
            f"expected a new folder or that of an adapted model, got {path}: choose "
            f"another"
        )
    return folder


def save_adapted(adapted: Adapted, path: str | Path) -> None:
    """Write decoder, tokenizer, layout and head into a folder, in place of an old one.

    Raises:
        ValueError: there is another kind of folder at that place.
    """
    folder = place_for(path)
    layout = asdict(adapted.layout) | {"marks": adapted.layout.marks._asdict()}
    with replacing_folder(folder) as new:
        save_pretrained(adapted.model, adapted.tokenizer, new, format="minigpt")
        content = {"layout": layout, "dropout": adapted.dropout.p}
        write_json(new / "head.json", content)
        if adapted.head is not None:
            state = adapted.head.state_dict()
            head = {name: weight.detach().cpu() for name, weight in state.items()}
            write_tensors(new / "head.safetensors", head)


def load_adapted(path: str | Path, *, dtype: torch.dtype = torch.float32) -> Adapted:
    """An adapted model (in eval mode) from its folder.

    Raises:
        FileNotFoundError: no such folder, or no head in it.
        ValueError: files that are truncated, or of another model.
    """
    folder = recovered(Path(path))
    if not (folder / "head.json").is_file():
        raise FileNotFoundError(
            f"expected an adapted model in {path}, found no head.json there: name the "
            f"folder that `save_adapted` wrote"
        )
    found = read_json(folder / "head.json")
    layout, dropout = _layout(found, folder)
    model, tokenizer = load_folder(folder, dtype=dtype)
    if tokenizer is None:
        raise ValueError(f"expected a tokenizer in {path}, got none: copy it again")
    adapted = Adapted(model, tokenizer, layout, dropout=dropout)
    if adapted.head is not None:
        state = read_tensors(folder / "head.safetensors")
        shapes = {n: tuple(w.shape) for n, w in adapted.head.state_dict().items()}
        got = {n: tuple(w.shape) for n, w in state.items()}
        if got != shapes:
            raise ValueError(
                f"expected a head of shapes {shapes} in {path}, got {got}: head.json "
                f"describes another one"
            )
        adapted.head.load_state_dict(state)
    return adapted.eval()


def _layout(found: dict[str, Any], folder: Path) -> tuple[Layout, float]:
    where = folder / "head.json"
    try:
        fields, dropout = dict(found["layout"]), found["dropout"]
        for name, known in CHOICES.items():
            if fields[name] not in known:
                raise ValueError(
                    f"expected one of {', '.join(known)} in {where}, got "
                    f"{fields[name]!r}: it was saved by another version"
                )
        fields["labels"] = tuple(fields["labels"])
        fields["marks"] = Marks(**fields["marks"])
        return Layout(**fields), dropout
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"expected a layout in {where}, got something else ({error}): it is "
            f"damaged, or was saved by another version"
        ) from None


def export_classifier(adapted: Adapted, path: str | Path) -> None:
    """Write a folder that `AutoModelForSequenceClassification` loads.

    It gives the scores of `adapted(batch)` for the same rows padded on the right, or
    on the left with positions and attention mask given. Text must be laid out as here:
    the tokenizer knows nothing of start, delimiter and extract, whose ids are in
    config.json under "marks".

    Raises:
        ValueError: another kind of task, both orders, the first token read, numbers
            that were rescaled, or a shape that the class would compute differently.
    """
    layout, config, head = adapted.layout, adapted.model.config, adapted.head
    reasons = {
        f"kind {layout.kind!r}": layout.kind not in PROBLEMS,
        "both orders": layout.both_orders,
        "the first token": layout.read == "first",
        "a rescaled number": (layout.centre, layout.spread) != (0.0, 1.0),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason or head is None:
        raise ValueError(
            f"expected a task that Hugging Face's class for classification reads as we "
            f"do, got {reason}: use `save_adapted`"
        )
    weight = adapted.model.token_embedding.weight
    kind = "OpenAIGPT" if config.norm == "post" else "GPT2"
    names = dict(enumerate(layout.labels or ("value",)))
    content = huggingface_config(
        config, dtype=weight.dtype, end_id=adapted.tokenizer.end_id
    )
    content |= {
        "architectures": [f"{kind}ForSequenceClassification"],
        "id2label": {str(i): name for i, name in names.items()},
        "label2id": {name: i for i, name in names.items()},
        "problem_type": PROBLEMS[layout.kind],
        "pad_token_id": layout.marks.padding,
        "marks": layout.marks._asdict(),
    }
    state = adapted.model.state_dict()
    weights = {
        name: (state[ours].T if turned else state[ours]).detach().cpu()
        for ours, (name, turned) in foreign_names(config).items()
        if ours != "head.weight"
    }
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    weights["score.weight"] = head.weight.detach().cpu()
    write_tensors(folder / "model.safetensors", weights)
    write_json(folder / "config.json", content)
    adapted.tokenizer.save(folder)
