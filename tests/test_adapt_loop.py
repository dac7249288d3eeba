"""The loop: what stands still stays as it was, and the best epoch is what is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.testing import assert_close

from minigpt.adapt.batches import collate, shuffled_batches
from minigpt.adapt.heads import Adapted, task_loss
from minigpt.adapt.inputs import Item
from minigpt.adapt.loop import (
    FinetuneConfig,
    balance,
    epochs,
    freeze,
    layers,
    rate_groups,
    validate,
)
from minigpt.hardware import Hardware, choose
from minigpt.labelled import PARTS, Example, Task
from minigpt.model import GPT
from minigpt.optim import rate
from minigpt.train import Diverged
from tests.adapting import SMALL, adapted, examples, task

CPU = choose("cpu", "float32")
QUIET = FinetuneConfig(
    epochs=3, batch_size=2, dropout=0.0, device="cpu", precision="float32"
)


def trained(model: Adapted, config: FinetuneConfig, whole: Task | None = None) -> list:
    whole = task(model.layout.kind) if whole is None else whole
    parts = {part: model.items(getattr(whole, part)) for part in PARTS}
    generator = torch.Generator().manual_seed(config.seed)
    return list(epochs(model, whole, parts, config, CPU, generator))


# What moves.
def test_each_layer_moves_at_a_share_of_the_rate_above():
    model = adapted("classes", config=replace(SMALL, tied=False))
    groups = rate_groups(model, learning_rate=0.8, layer_decay=0.5, weight_decay=0.1)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    wanted = {
        model.head.weight: 0.8,
        model.model.head.weight: 0.8,
        model.model.final_norm.bias: 0.8,
        model.model.blocks[1].mlp.up.weight: 0.4,
        model.model.blocks[0].attention.out.bias: 0.2,
        model.model.token_embedding.weight: 0.1,
        model.model.position_embedding.weight: 0.1,
    }
    assert [rates[id(p)] for p in wanted] == pytest.approx(list(wanted.values()))
    assert all(decays[id(p)] == (0.1 if p.ndim > 1 else 0) for p in wanted)
    assert rates.keys() == {id(p) for p in model.parameters()}
    assert sum(len(group["params"]) for group in groups) == len(rates)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_what_is_frozen_keeps_its_bits_and_the_rest_moves(n):
    model = adapted("classes")
    freeze(model.model, n)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    trained(model, replace(QUIET, weight_decay=0.5))
    still = {k for k, w in model.state_dict().items() if torch.equal(w, before[k])}
    lowest = ("model.token", "model.position", "model.blocks.0.", "model.blocks.1.")
    frozen = lowest[: 2 + n] if n else ()
    # The gradient of a key's bias is rounding alone.
    moved = {k for k in before.keys() - still if not k.endswith("qkv.bias")}
    wanted = {k for k in before if not k.startswith(frozen)} if n else set(before)
    assert moved <= wanted
    assert {k for k in wanted - moved if not k.endswith("qkv.bias")} == set()


def test_more_blocks_than_there_are_cannot_be_frozen():
    with pytest.raises(ValueError, match="at most 2 blocks to freeze, got 3"):
        freeze(GPT(SMALL), 3)


def test_the_layers_are_the_whole_decoder_once():
    model = GPT(replace(SMALL, tied=False))
    found = [
        p for some in layers(model) for module in some for p in module.parameters()
    ]
    assert sorted(map(id, found)) == sorted(id(p) for p in model.parameters())


# The loop against one written out.
def test_an_epoch_is_the_plain_loop():
    config = replace(QUIET, epochs=1, warmup=0.5, clip=0.7, weight_decay=0.0)
    ours, plain = (adapted("classes", dropout=0.0) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    whole = replace(task("classes"), train=examples("classes") * 3)
    (record,) = trained(ours, config, whole)

    items = plain.items(whole.train)
    generator = torch.Generator().manual_seed(0)
    batches = shuffled_batches(items, 2, generator=generator)
    named = dict(plain.named_parameters())
    groups = [{"params": [w], "depth": _depth(name)} for name, w in named.items()]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    losses = []
    for i, group in enumerate(batches):
        for one in optimizer.param_groups:
            share = rate(i, len(batches), shape="linear", warmup=2)
            one["lr"] = 1e-3 * share * 0.9 ** one["depth"]
        loss = task_loss(plain, collate([items[at] for at in group], plain.layout))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.7)
        optimizer.step()
        losses.append(loss.item())
    assert len(batches) == 5
    assert record.loss == pytest.approx(np.mean(losses), rel=1e-6)
    for name, weight in ours.named_parameters():
        # A key's bias shifts all scores of a query alike: its gradient is rounding.
        if not name.endswith("qkv.bias"):
            assert_close(weight, named[name], atol=1e-6, rtol=1e-5)


def _depth(name: str) -> int:
    """How many layers of SMALL stand above a weight."""
    if "embedding" in name:
        return 3
    return 2 - int(name.split(".")[2]) if "blocks" in name else 0


def test_the_best_epoch_is_kept_and_not_the_last(monkeypatch):
    from minigpt.adapt import loop

    figures, seen = iter([0.5, 0.9, 0.7]), []

    def figure(model, *rest):
        seen.append({k: w.clone() for k, w in model.state_dict().items()})
        return "accuracy", next(figures)

    monkeypatch.setattr(loop, "validate", figure)
    model = adapted("classes")
    records = trained(model, QUIET)
    assert [record.best for record in records] == [True, True, False]
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, seen[1][name])
        assert name.startswith("model.") or not torch.equal(weight, seen[2][name])


def test_it_stops_when_patience_is_at_an_end(monkeypatch):
    from minigpt.adapt import loop

    figures = iter([0.5, 0.5, 0.4, 0.3, 0.9])
    monkeypatch.setattr(loop, "validate", lambda *_: ("accuracy", next(figures)))
    records = trained(adapted("classes"), replace(QUIET, epochs=5, patience=2))
    assert len(records) == 3


def test_a_loss_that_is_no_number_stops_the_run():
    model = adapted("number")
    with torch.no_grad():
        model.head.weight.fill_(float("inf"))
    with pytest.raises(
        Diverged, match=r"a finite loss, got (nan|inf) at step 1: lower"
    ):
        trained(model, QUIET)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("classes", "accuracy"),
        ("multilabel", "micro-F1"),
        ("number", "Pearson"),
        ("choice", "accuracy"),
        ("tags", "macro-F1"),
        ("spans", "exact match"),
        ("text", "minus loss"),
    ],
)
def test_every_kind_has_a_figure_that_decides(kind, name):
    model = adapted(kind)
    found, value = validate(model, examples(kind), model.items(examples(kind)))
    assert found == name
    assert value <= 1


def test_the_figure_of_writing_is_the_loss_of_all_its_tokens():
    model = adapted("text")
    items = model.items(examples("text"))
    whole = task_loss(model, collate(items, model.layout)).item()
    assert validate(model, examples("text"), items)[1] == pytest.approx(-whole)


# Classes that are rare.
def test_balanced_weights_are_sklearns():
    labels = [0] * 6 + [1] * 3 + [2]
    rows = [Example("a", label) for label in labels]
    whole = replace(task("classes"), train=rows)
    classes = np.arange(3)
    want = compute_class_weight("balanced", classes=classes, y=np.array(labels))
    assert_close(balance(whole), torch.tensor(want, dtype=torch.float32))
    with pytest.raises(ValueError, match="classes or tags to balance, got 'number'"):
        balance(task("number"))


def test_a_balanced_loss_is_what_moves_the_weights():
    whole = replace(task("classes"), train=[Example("a", 0)] * 7 + [Example("b", 1)])
    config = replace(QUIET, epochs=1, batch_size=8)
    losses = [
        trained(adapted("classes"), replace(config, balanced=balanced), whole)[0].loss
        for balanced in (False, True)
    ]
    assert losses[0] != losses[1]


# Batches.
def test_each_item_comes_once_an_epoch_among_its_like():
    generator = torch.Generator().manual_seed(0)
    items = [Item(((0,) * (1 + i * 7 % 40),), (), (), None, 0) for i in range(400)]
    first = shuffled_batches(items, 8, generator=generator)
    second = shuffled_batches(items, 8, generator=generator)
    assert sorted(i for batch in first for i in batch) == list(range(400))
    assert first != second
    assert {frozenset(batch) for batch in first} != {frozenset(b) for b in second}
    spread = [
        max(items[i].length for i in b) - min(items[i].length for i in b) for b in first
    ]
    assert np.mean(spread) < 2
    lengths = [items[batch[0]].length for batch in first]
    assert lengths != sorted(lengths)


# Settings.
@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("epochs", 0, "at least 1, got 0"),
        ("patience", 0, "at least 1, got 0"),
        ("learning_rate", 0.0, "above 0, got 0"),
        ("freeze", -1, "at least 0, got -1"),
        ("layer_decay", 1.1, r"in \(0, 1\], got 1.1"),
        ("warmup", 1.0, r"in \[0, 1\), got 1"),
    ],
)
def test_a_setting_out_of_range_is_an_error(name, value, rule):
    with pytest.raises(ValueError, match=f"{name} must be {rule}"):
        FinetuneConfig(**{name: value})


def test_one_loss_scaler_serves_all_epochs(monkeypatch):
    """A new one begins at 65,536 again, and the steps that are too large are lost."""
    made, scaler = [], Hardware.scaler

    def counted(self: Hardware) -> torch.amp.GradScaler:
        made.append(scaler(self))
        return made[-1]

    monkeypatch.setattr(Hardware, "scaler", counted)
    assert len(trained(adapted("classes"), replace(QUIET, patience=None))) == 3
    assert len(made) == 1
