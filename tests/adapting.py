"""A small decoder and small tasks of every kind, for the tests of minigpt/adapt."""

import torch

from minigpt.adapt.heads import Adapted, adapt
from minigpt.labelled import Example, Kind, Span, Task
from minigpt.model import GPT, GPTConfig
from minigpt.tokenizer import CharTokenizer

LETTERS = "abcdefgh "
SMALL = GPTConfig(
    vocab_size=9, context_length=24, n_layer=2, n_head=3, d_model=12, init_std=0.3
)


def examples(kind: Kind) -> list[Example]:
    """Texts of unequal length, and what is true of them."""
    made: dict[str, list[Example]] = {
        "classes": [Example("abc", 0), Example("fgfg fg", 1), Example("e", 2)],
        "multilabel": [
            Example("abc", (0, 2)),
            Example("h", ()),
            Example("ab gh", (1,)),
        ],
        "number": [Example("abc", 1.5), Example("gh gh", -2.0), Example("e", 4.0)],
        "choice": [
            Example("abc", 1, choices=("d", "efg")),
            Example("h", 2, choices=("ab", "c d", "ef")),
        ],
        "tags": [Example("ab c", (0, 1)), Example("fg h a b", (1, 2, 0, 0))],
        "spans": [
            Example("ab cd ef", (Span(3, 5),), "a b"),
            Example("gh ab", (), "c"),
            Example("de", (Span(0, 2),), "d"),
        ],
        "text": [Example("abc", "cba"), Example("gh gh gh", "h")],
    }
    return made[kind]


def task(kind: Kind) -> Task:
    """A task of a kind: its examples are its training part and its test."""
    named = kind in ("classes", "multilabel", "tags")
    labels = ("one", "three", "two") if named else ()
    rows = examples(kind)
    return Task(
        rows, rows, rows, ("answer",) if kind == "spans" else labels, kind, kind
    )


def adapted(kind: Kind, *, config: GPTConfig = SMALL, **options: object) -> Adapted:
    """A decoder with random weights and the head for a task, in eval mode."""
    model = GPT(config)
    options = {"room": 6} | options
    made = adapt(model, CharTokenizer(LETTERS), task(kind), **options)
    torch.nn.init.normal_(made.model.token_embedding.weight, std=0.5)
    return made.eval()
