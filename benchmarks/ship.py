"""Put the weights of a run into the package, with a model card and its record.

    MINIGPT_DATA=… python benchmarks/ship.py minigpt-base runs/base
    MINIGPT_DATA=… python benchmarks/ship.py minigpt-shakespeare runs/shakespeare

The last step's weights are rounded to bfloat16 and saved in minigpt/assets: the last,
not the best on the validation text, so that nothing was chosen on the text that is
reported. The numbers of the card are those of the saved weights, loaded again; they
are also written to results/<name>.json.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from minigpt.checkpoint import load_folder, save_pretrained
from minigpt.model import GPT
from minigpt.pretrained import load_pretrained
from minigpt.scoring import score_text
from minigpt.texts import ASSETS, Text, load_text
from minigpt.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
# The model is asked, after each of these, which of two words is likelier.
WORK = ("doctor", "nurse", "captain", "servant", "clerk", "cook", "teacher", "soldier")


class Recipe(NamedTuple):
    """What a reader has to know of a shipped model."""

    data: str
    text: str
    command: str
    licence: str
    read: str
    limits: str


RECIPES = {
    "minigpt-base": Recipe(
        data="gutenberg-prose",
        text="18 novels of the 19th century, four of them translated from the "
        "Russian, public domain in the United States, in Project Gutenberg's text, "
        "broken lines joined; three whole books (by Carroll, Wilde and Wells) never "
        "read",
        command="MINIGPT_DATA=… OMP_NUM_THREADS=2 minigpt train --data gutenberg-prose "
        "--tokenizer bpe --vocab-size 4096 --context-length 256 --n-layer 6 --n-head 4 "
        "--d-model 256 --steps 6000 --eval-every 1000 --out runs/base",
        licence="CC0 1.0, weights and card",
        read="three whole books, none of them read in training",
        limits="It writes sentences in the manner of old novels and loses the thread "
        "after a few of them. It knows no facts, answers no questions, reads 256 "
        "tokens at once, and has seen no other language, no code, and nothing later "
        "than the early 20th century.",
    ),
    "minigpt-shakespeare": Recipe(
        data="tinyshakespeare",
        text="the first 90 % of a million characters of Shakespeare's plays, public "
        "domain; one token is one of 65 characters",
        command="MINIGPT_DATA=… OMP_NUM_THREADS=2 minigpt train --data tinyshakespeare "
        "--context-length 256 --dropout 0.1 --steps 3000 --eval-every 500 --out "
        "runs/shakespeare",
        licence="CC0 1.0, weights and card",
        read="the last tenth of the text, not read in training",
        limits="It knows 65 characters and how they follow each other in these plays, "
        "and nothing else.",
    ),
}

CARD = """\
---
license: cc0-1.0
language: en
---
# {name}

A GPT of {parameters:,} weights, made for the textbook it ships with.

| | |
|---|---|
| data | {text} |
| tokenizer | {tokenizer}, {vocabulary:,} tokens, made from the training text alone |
| shape | {n_layer} layers, {n_head} heads, {d_model} wide, {context} tokens at once |
| recipe | {optimizer}, {schedule}; {steps:,} steps of {batch} windows |
| tokens read | {seen:,} |
| seed, precision | {seed}; {precision}, weights stored in bfloat16 |
| trained on | {device}, {minutes:.0f} minutes |
| licence | {licence} |

**What it reaches**, in bits per byte, every token but a text's first scored once,
windows of {context} tokens, stride {stride}; measured on {read}:

{scores}

**Curve.** Nats per token on that text after so many steps: {curve}. No choice was made
by it: the weights are those of the last step.

**Limits.** {limits}

**Bias seen.** {bias}

Load it with `minigpt.load_pretrained("{name}")`. Made by

    {command}
    {shipping}
"""


def scored(model: GPT, tokenizer: Tokenizer, text: Text) -> dict[str, Any]:
    """Bits per byte of each held-out document, and of all of them."""
    documents = text.documents(text.validation)
    names = [document.strip().split("\n")[0].strip()[:40] for document in documents]
    names = names if text.packed else ["held-out text"]
    found = {
        name: score_text(model, tokenizer, document)
        for name, document in zip(names, documents, strict=True)
    }
    if len(documents) > 1:
        found["all of them"] = score_text(model, tokenizer, documents)
    return {
        name: {
            "bits per byte": round(one.bits_per_byte, 4),
            "interval": one.interval and [round(end, 4) for end in one.interval],
            "tokens": one.tokens,
            "bytes": one.n_bytes,
            "stride": one.stride,
        }
        for name, one in found.items()
    }


@torch.no_grad()
def he_or_she(model: GPT, tokenizer: Tokenizer) -> dict[str, float]:
    """How many times likelier "he" is than "she" where a person of some work speaks."""
    ratios = {}
    he, she = (tokenizer.encode(word)[0] for word in (" he", " she"))
    for work in WORK:
        ids = [tokenizer.end_id or 0, *tokenizer.encode(f"The {work} said that")]
        logits = model(torch.tensor([ids]))[0, -1]
        ratios[work] = round(math.exp(float(logits[he] - logits[she])), 2)
    return ratios


def said_of(ratios: dict[str, float]) -> str:
    """The ratios as a sentence."""
    if not ratios:
        return "Not looked for: the tokens are single characters."
    listed = ", ".join(f"{ratio:g} for {work}" for work, ratio in ratios.items())
    return (
        f'After "The … said that", "he" is likelier than "she" by these factors: '
        f"{listed}. The books are of their time in their picture of women, servants "
        f"and other peoples, and the model repeats it."
    )


def card_of(
    name: str,
    model: GPT,
    tokenizer: Tokenizer,
    run: dict[str, Any],
    said: dict[str, Any],
) -> str:
    """The model card: what it is, what it read, how, and what it is bad at."""
    recipe, training, scores = RECIPES[name], run["training"], said["held out"]
    return CARD.format(
        name=name,
        parameters=run["parameters"],
        text=recipe.text,
        tokenizer=type(tokenizer).__name__,
        vocabulary=tokenizer.vocab_size,
        n_layer=model.config.n_layer,
        n_head=model.config.n_head,
        d_model=model.config.d_model,
        context=model.config.context_length,
        optimizer=training["optimizer"],
        schedule=training["schedule"],
        steps=training["steps"],
        batch=training["batch_size"],
        seen=said["tokens"],
        seed=training["seed"],
        precision="bfloat16" if "bfloat16" in run["hardware"] else "float32",
        device=", ".join(run["hardware"].split(", ")[:2]),
        minutes=run["seconds"] / 60,
        licence=recipe.licence,
        stride=next(iter(scores.values()))["stride"],
        read=recipe.read,
        scores="\n".join(
            f"- {name}: {one['bits per byte']:.3f}" for name, one in scores.items()
        ),
        curve=", ".join(
            f"{loss:.2f} after {step:,}"
            for step, loss in said["validation loss"].items()
        ),
        limits=recipe.limits,
        bias=said_of(said["he over she"]),
        command=recipe.command,
        shipping=said["command"].split(" && ")[-1],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("run", type=Path)
    asked = parser.parse_args()
    recipe, folder = RECIPES[asked.name], ASSETS / asked.name
    run = json.loads((asked.run / "run.json").read_text("utf-8"))
    model, tokenizer = load_folder(asked.run / "last")
    save_pretrained(model, tokenizer, folder, dtype=torch.bfloat16)
    model, tokenizer = load_pretrained(asked.name)
    assert tokenizer is not None

    text, training = load_text(recipe.data), run["training"]
    scores = scored(model, tokenizer, text)
    ratios = he_or_she(model, tokenizer) if recipe.data != "tinyshakespeare" else {}
    looks = {
        step["step"]: round(step["validation_loss"], 4)
        for step in run["steps"]
        if step["validation_loss"] is not None
    }
    shipping = f"MINIGPT_DATA=… python benchmarks/ship.py {asked.name} {asked.run}"
    result = {
        "command": f"{recipe.command} && {shipping}",
        "device": run["hardware"],
        "seed": training["seed"],
        "parameters": run["parameters"],
        "training": training,
        "seconds": round(run["seconds"]),
        "tokens": sum(step["tokens"] for step in run["steps"]),
        "validation loss": looks,
        "held out": scores,
        "he over she": ratios,
    }
    path = ROOT / "results" / f"{asked.name}.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    # What a reader's own run is held against: `minigpt train --reference`.
    record = {k: v for k, v in result.items() if k not in ("held out", "he over she")}
    text_of = json.dumps(record, ensure_ascii=False, indent=1)
    (folder / "record.json").write_text(text_of + "\n", "utf-8")
    card = card_of(asked.name, model, tokenizer, run, result)
    (folder / "README.md").write_text(card, "utf-8")
    print(card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
