"""Foreign names: every field and weight of the foreign classes has its place here."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import transformers
from torch.testing import assert_close
from transformers.activations import ACT2FN
from transformers.models.openai import modeling_openai

from minigpt.checkpoint import load_folder, save_pretrained
from minigpt.foreign import (
    ALIASES,
    DROPOUTS,
    GUARDED,
    HONOURED,
    IGNORED,
    PUBLISHED,
    foreign_names,
    huggingface_config,
    match_names,
    shape_of,
)
from minigpt.model import GPT, GPTConfig

SMALL = GPTConfig(vocab_size=11, context_length=7, n_layer=2, n_head=3, d_model=12)
SHAPES = {
    "gpt2": SMALL,
    "untied": replace(SMALL, tied=False),
    "narrow": replace(SMALL, d_mlp=20, norm_eps=1e-3, dropout=0.1, init_std=0.1),
    "gpt1": replace(SMALL, norm="post"),
    "gpt1 untied": replace(SMALL, norm="post", tied=False),
}
CLASSES = {
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    "openai-gpt": (transformers.OpenAIGPTConfig, transformers.OpenAIGPTLMHeadModel),
}
HERE = Path("config.json")


@pytest.mark.parametrize("kind", CLASSES)
def test_every_field_their_class_has_is_honoured_guarded_or_ignored(kind):
    """A field that a later version of `transformers` adds turns this red."""
    known = {*HONOURED, *ALIASES, *DROPOUTS, *GUARDED[kind], *IGNORED}
    theirs = {one.name for one in fields(CLASSES[kind][0])}
    assert theirs - known == set()
    tables = (set(HONOURED), set(GUARDED[kind]), set(IGNORED), set(ALIASES))
    assert sum(map(len, tables)) == len(set.union(*tables))


@pytest.mark.parametrize("kind", CLASSES)
def test_absent_fields_are_their_defaults_and_the_published_shape(kind):
    theirs = CLASSES[kind][0]()
    ours = shape_of({"model_type": kind}, HERE)
    assert ours == PUBLISHED[kind] == shape_of(theirs.to_dict(), HERE)
    for name, field in HONOURED.items():
        if hasattr(theirs, name):
            assert getattr(theirs, name) == getattr(ours, field)


def test_the_hubs_own_configurations_are_read():
    """With every kind of field that OpenAI's five models have there."""
    shared = {
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        **dict.fromkeys(DROPOUTS, 0.1),
        "summary_activation": None,
        "summary_type": "cls_index",
        "task_specific_params": {"text-generation": {"do_sample": True}},
        "n_special": 0,
        "predict_special_tokens": True,
        "output_past": True,
    }
    xl = {"n_ctx": 1024, "n_positions": 1024, "n_embd": 1600, "n_head": 25}
    ids = {"bos_token_id": 50256, "eos_token_id": 50256, "vocab_size": 50257}
    kind = {"model_type": "gpt2", "activation_function": "gelu_new", "n_layer": 48}
    assert shape_of({**shared, **xl, **ids, **kind}, HERE) == GPTConfig.preset(
        "gpt2-xl"
    )
    first = {"n_ctx": 512, "n_positions": 512, "vocab_size": 40478, "afn": "gelu"}
    kind = {"model_type": "openai-gpt", "architectures": ["OpenAIGPTLMHeadModel"]}
    assert shape_of({**shared, **first, **kind}, HERE) == GPTConfig.preset("gpt1")


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_a_shape_comes_back_from_its_config(config):
    assert shape_of(huggingface_config(config), HERE) == config


def test_second_spellings_count_and_may_not_contradict_the_first():
    values = (9, 3, 4, 8)
    given = dict(zip(ALIASES, values, strict=True))
    theirs = transformers.GPT2Config(**given)
    ours = shape_of({"model_type": "gpt2", **given}, HERE)
    for name, value in zip(ALIASES.values(), values, strict=True):
        assert getattr(theirs, name) == getattr(ours, HONOURED[name]) == value
    with pytest.raises(
        ValueError, match=r"n_embd and hidden_size to agree .* 12 and 8"
    ):
        shape_of({"model_type": "gpt2", "n_embd": 12, "hidden_size": 8}, HERE)


def folder_with(
    path: Path, kind: str, *, std: float = 0.3, **changes
) -> tuple[Path, torch.nn.Module]:
    """A random model of theirs, saved, with fields of its config.json changed."""
    config, model = CLASSES[kind]
    shape = {"vocab_size": 11, "n_positions": 7, "n_layer": 2, "n_head": 3}
    theirs = model(config(n_embd=12, **shape)).eval()
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=std)
    theirs.save_pretrained(path)
    content = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**content, **changes}))
    return path, theirs


TOKENS = torch.tensor([[1, 10, 4, 4, 7], [0, 3, 9, 2, 5]])
VARIANTS = [
    ("gpt2", "activation_function", "relu"),
    ("gpt2", "activation_function", "gelu"),
    ("gpt2", "scale_attn_weights", False),
    ("gpt2", "scale_attn_by_inverse_layer_idx", True),
    ("gpt2", "is_causal", False),
    ("openai-gpt", "afn", "relu"),
    ("openai-gpt", "afn", "silu"),
]


@pytest.mark.parametrize(("kind", "key", "value"), VARIANTS)
def test_a_variant_that_transformers_computes_otherwise_is_refused(
    tmp_path, kind, key, value
):
    folder, plain = folder_with(tmp_path, kind, std=1.0, **{key: value})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    difference = theirs(TOKENS).logits - plain(TOKENS).logits
    assert difference.abs().max() > 5e-4
    with pytest.raises(ValueError, match=rf"expected {key} = .* got .*other logits"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("add_cross_attention", True),
        ("per_layer_config", {"1": {"n_head": 4}}),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"quant_method": "gptq", "bits": 4}),
        ("auto_map", {"AutoModelForCausalLM": "modeling.MyGPT"}),
        ("n_special", 3),
    ],
)
def test_what_would_need_other_weights_or_code_is_refused(key, value):
    for kind in CLASSES:
        if key in GUARDED[kind]:
            with pytest.raises(ValueError, match=rf"expected {key} = .*other logits"):
                shape_of({"model_type": kind, key: value}, HERE)


@pytest.mark.parametrize("kind", CLASSES)
def test_ignored_and_unknown_fields_change_no_logit_of_theirs(tmp_path, kind):
    unread = {
        "reorder_and_upcast_attn": True,
        "chunk_size_feed_forward": 2,
        "summary_type": "mean",
        "n_ctx": 5,
        "predict_special_tokens": False,
        "temperature": 7.0,
        "sliding_window": 2,
        "note": "trained on a Friday",
    }
    unread |= {"n_inner": 24} if kind == "openai-gpt" else {"afn": "relu"}
    folder, plain = folder_with(tmp_path, kind, **unread)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager"
    )
    assert_close(theirs.eval()(TOKENS).logits, plain(TOKENS).logits)
    assert_close(load_folder(folder).model(TOKENS), plain(TOKENS).logits)


def test_every_accepted_name_of_the_activation_is_the_tanh_form():
    x = torch.linspace(-6, 6, 99)
    ours = torch.nn.functional.gelu(x, approximate="tanh")
    for name in GUARDED["gpt2"]["activation_function"]:
        assert_close(ACT2FN[name](x), ours)
    for name in GUARDED["openai-gpt"]["afn"]:
        assert_close(modeling_openai.ACT_FNS[name](x), ours)


@pytest.mark.parametrize("name", DROPOUTS)
def test_three_unequal_dropouts_are_refused_by_name(name):
    equal = {"model_type": "gpt2", **dict.fromkeys(DROPOUTS, 0.3)}
    assert shape_of(equal, HERE).dropout == 0.3
    with pytest.raises(ValueError, match=rf"one dropout in config.*{name} = 0\.2"):
        shape_of({**equal, name: 0.2}, HERE)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("n_layer", "2", "n_layer = a whole number in config.json, got '2'"),
        ("n_layer", None, "n_layer = a whole number in config.json, got None"),
        ("n_embd", 7.5, "n_embd = a whole number in config.json, got 7.5"),
        ("tie_word_embeddings", 1, "tie_word_embeddings = true or false in .* got 1"),
        ("layer_norm_epsilon", "1e-5", "layer_norm_epsilon = a number in .* '1e-5'"),
        ("n_inner", True, "n_inner = a whole number in config.json, got True"),
        ("n_head", 5, "a shape that can be built in .*n_head, got 768 and 5"),
        ("model_type", "llama", 'model_type "gpt2" or "openai-gpt" .* \'llama\''),
    ],
)
def test_a_field_that_makes_no_sense_is_named(key, value, said):
    with pytest.raises(ValueError, match=said):
        shape_of({"model_type": "gpt2", key: value}, HERE)


def test_every_weight_has_exactly_one_foreign_name():
    for config in SHAPES.values():
        table = foreign_names(config)
        assert set(table) == set(GPT(config).state_dict())
        assert len({name for name, _ in table.values()}) == len(table)


def found(config: GPTConfig) -> list[str]:
    return [name for name, _ in foreign_names(config).values()]


def test_names_match_with_and_without_the_prefix_and_buffers_are_no_weights():
    buffers = ["h.0.attn.bias", "transformer.h.1.attn.masked_bias", "position_ids"]
    with_prefix = [*found(SMALL), *buffers]
    bare = [name.removeprefix("transformer.") for name in with_prefix]
    for names in (with_prefix, bare):
        match = match_names(SMALL, foreign_names(SMALL), names, HERE)
        assert [name for name, _ in match.names.values()] == names[: -len(buffers)]
        assert (match.unused, match.copy) == ([], None)


def test_what_is_missing_or_too_much_is_named():
    table = foreign_names(SMALL)
    for name in found(SMALL):
        names = [other for other in found(SMALL) if other != name]
        missing = name.removeprefix("transformer.")
        with pytest.raises(ValueError, match=rf"expected the weight {missing} in conf"):
            match_names(SMALL, table, names, HERE)
    match = match_names(SMALL, table, [*found(SMALL), "score.weight"], HERE)
    assert match.unused == ["score.weight"]
    deeper = found(replace(SMALL, n_layer=3))
    with pytest.raises(ValueError, match=r"of the 2 blocks .* got transformer\.h\.2\."):
        match_names(SMALL, table, deeper, HERE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"band": 3}, "got band=3"),
        ({"bias": False}, "got bias=False"),
        ({"norm": "post", "d_mlp": 20}, "got d_mlp=20"),
    ],
)
def test_what_transformers_would_compute_otherwise_saves_only_as_minigpt(
    tmp_path, changes, reason
):
    model = GPT(replace(SMALL, **changes)).eval()
    with pytest.raises(ValueError, match=f'{reason}: save it with format="minigpt"'):
        save_pretrained(model, None, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    save_pretrained(model, None, tmp_path, format="minigpt")
    assert torch.equal(load_folder(tmp_path).model(TOKENS), model(TOKENS))
    with pytest.raises(ValueError, match="minigpt"):
        transformers.AutoConfig.from_pretrained(tmp_path)
