"""Chapter 7. Foreign names: what Hugging Face calls our weights and our fields.

One table of weights, one of the fields of `config.json`, both read in either direction.
A field is honoured (it sets a field of `GPTConfig`), guarded (one value means what our
model computes, any other is refused) or ignored (it changes no logit). The weights'
names are those of OpenAI's code, which Hugging Face kept, as GPT2LMHeadModel and
OpenAIGPTLMHeadModel of `transformers` 5 have them.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from minigpt.model import GPTConfig

# Ours, OpenAI's, and whether OpenAI's code stores the matrix the other way round (its
# "Conv1D" computes x W, ours x Wᵀ).
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
PREFIX, HEAD = "transformer.", "lm_head.weight"
# Constants that older files carry along: the causal mask, minus infinity, 0 1 2 3 …
BUFFER = re.compile(r"(\.attn\.(bias|masked_bias)|(^|\.)position_ids)$")

PUBLISHED = {"gpt2": GPTConfig.preset("gpt2"), "openai-gpt": GPTConfig.preset("gpt1")}
HONOURED = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "d_model",
    "n_inner": "d_mlp",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tied",
    "resid_pdrop": "dropout",
    "initializer_range": "init_std",
}
# Second spellings, which `transformers` lets win over the first.
ALIASES = {
    "max_position_embeddings": "n_positions",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "hidden_size": "n_embd",
}
# Our model has one dropout; theirs has three, and they must be equal.
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
# The values with which their class computes what ours does.
EITHER: dict[str, tuple[Any, ...]] = {
    "is_causal": (True,),
    "per_layer_config": (None, {}),
    "pruned_heads": (None, {}),
    "quantization_config": (None, {}),
    "auto_map": (None, {}),
    "n_special": (0,),
}
GUARDED: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        # One formula, GELU's tanh form, under the names of several authors.
        "activation_function": (
            "gelu_new",
            "gelu_pytorch_tanh",
            "gelu_fast",
            "gelu_python_tanh",
        ),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        **EITHER,
    },
    # Here "gelu" is the tanh form.
    "openai-gpt": {"afn": ("gelu",), **EITHER},
}
# Of the fields that their classes know. What those do not know they do not read, so we
# need not: n_ctx, which n_positions replaced; predict_special_tokens; a length or a
# temperature to sample with; a note of the author's own.
IGNORED = frozenset(
    (
        # Rounding alone: the same product in another order, or in another format.
        "reorder_and_upcast_attn chunk_size_feed_forward dtype torch_dtype "
        # Heads of the classes that classify or choose.
        "summary_type summary_use_proj summary_activation summary_proj_to_labels "
        "summary_first_dropout id2label label2id num_labels problem_type "
        # What is returned, and what text generation does with it.
        "output_hidden_states output_attentions return_dict use_cache "
        "is_encoder_decoder bos_token_id eos_token_id pad_token_id "
        # Where the file comes from.
        "architectures model_type transformers_version"
    ).split()
)


class Match(NamedTuple):
    """Our names → the names in a file and whether they are transposed; what is left.

    `copy` is a tied head that the file holds besides the token embedding.
    """

    names: dict[str, tuple[str, bool]]
    unused: list[str]
    copy: str | None


def foreign_names(config: GPTConfig) -> dict[str, tuple[str, bool]]:
    """Our name → Hugging Face's, and whether the weight is transposed there."""
    table: dict[str, tuple[str, bool]] = {}
    for ours, theirs in TOP_NAMES[config.norm]:
        for kind in ("weight", "bias") if ours == "final_norm" else ("weight",):
            table[f"{ours}.{kind}"] = f"{PREFIX}{theirs}.{kind}", False
    for i in range(config.n_layer):
        for ours, theirs, turned in BLOCK_NAMES:
            for kind in ("weight", "bias"):
                name = f"{PREFIX}h.{i}.{theirs}.{kind}"
                table[f"blocks.{i}.{ours}.{kind}"] = name, turned and kind == "weight"
    if not config.tied:
        table["head.weight"] = HEAD, False
    return table


def match_names(
    config: GPTConfig,
    table: Mapping[str, tuple[str, bool]],
    found: Collection[str],
    where: Path,
) -> Match:
    """Find every weight of a table of names in a file, with or without the prefix.

    Raises:
        ValueError: a weight is missing, or a block has one that the model has not.
    """
    # The hub's gpt2 was saved without the prefix that its own class has.
    bare = {
        name.removeprefix(PREFIX): name for name in found if not BUFFER.search(name)
    }
    wanted = {
        ours: (name.removeprefix(PREFIX), turned)
        for ours, (name, turned) in table.items()
    }
    embedding = wanted["token_embedding.weight"][0]
    if config.tied and embedding not in bare:
        wanted["token_embedding.weight"] = HEAD, False
    absent = [name for name, _ in wanted.values() if name not in bare]
    if absent:
        # A tied head was only the second place to look.
        name = embedding if absent[0] == HEAD and config.tied else absent[0]
        raise ValueError(
            f"expected the weight {name} in {where}, found {len(bare)} others (such as "
            f"{next(iter(sorted(bare)), 'none')}): config.json describes another model"
        )
    names = {ours: (bare[name], turned) for ours, (name, turned) in wanted.items()}
    left = set(found) - {name for name, _ in names.values()}
    left = {name for name in left if not BUFFER.search(name)}
    copy = HEAD if config.tied and HEAD in left else None
    unused = sorted(left - {HEAD}) if copy else sorted(left)
    inside = [
        n for n in unused if re.match(r"(h|blocks)\.\d+\.", n.removeprefix(PREFIX))
    ]
    if inside:
        raise ValueError(
            f"expected only weights of the {config.n_layer} blocks that config.json "
            f"describes in {where}, got {inside[0]} too: config.json describes another "
            f"model"
        )
    return Match(names, unused, copy)


def huggingface_config(
    config: GPTConfig,
    *,
    dtype: torch.dtype = torch.float32,
    end_id: int | None = None,
) -> dict[str, Any]:
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
    kind = "openai-gpt" if post else "gpt2"
    activation = "afn" if post else "activation_function"
    shape = {theirs: getattr(config, ours) for theirs, ours in HONOURED.items()}
    if post:
        del shape["n_inner"]
    return {
        "architectures": [f"{'OpenAIGPT' if post else 'GPT2'}LMHeadModel"],
        "model_type": kind,
        activation: GUARDED[kind][activation][0],
        **shape,
        **dict.fromkeys(DROPOUTS, config.dropout),
        # Left out, GPT2Config would fill in 50256, which a small vocabulary has not.
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "dtype": str(dtype).removeprefix("torch."),
    }


def shape_of(found: Mapping[str, Any], where: Path) -> GPTConfig:
    """The shape that the content of a Hugging Face `config.json` describes.

    Absent fields take the defaults of Hugging Face's own configuration classes, which
    are the published shapes.

    Raises:
        ValueError: another kind of model, a variant that we would compute otherwise, or
            a field that makes no sense; each by its name.
    """
    kind = found.get("model_type")
    if kind not in PUBLISHED:
        raise ValueError(
            f'expected model_type "gpt2" or "openai-gpt" in {where}, got {kind!r}: '
            f"this folder holds another kind of model"
        )
    for key, known in GUARDED[kind].items():
        if key in found and found[key] not in known:
            raise ValueError(
                f"expected {key} = {known[0]} in {where}, got {found[key]!r}: our "
                f"model would compute other logits"
            )
    fields = _one_spelling(found, where)
    published = PUBLISHED[kind]
    dropouts = {name: fields.get(name, published.dropout) for name in DROPOUTS}
    if len(set(dropouts.values())) > 1:
        said = ", ".join(f"{name} = {value}" for name, value in dropouts.items())
        raise ValueError(
            f"expected one dropout in {where}, got {said}: our model has a single one, "
            f"so write the same number for all three (logits are the same with any)"
        )
    changes = {
        ours: _checked(fields[theirs], theirs, getattr(published, ours), where)
        for theirs, ours in HONOURED.items()
        # GPT-1's class does not read n_inner.
        if theirs in fields and (theirs != "n_inner" or kind == "gpt2")
    }
    try:
        return replace(published, **changes)
    except ValueError as error:
        raise ValueError(
            f"expected a shape that can be built in {where}, got another ({error}): "
            f"the file is damaged"
        ) from None


def _one_spelling(found: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """The fields, second spellings under the first.

    Raises:
        ValueError: both spellings are there and disagree.
    """
    fields = dict(found)
    for alias, name in ALIASES.items():
        if alias in found and found.get(name, found[alias]) != found[alias]:
            raise ValueError(
                f"expected {name} and {alias} to agree in {where}, got {found[name]} "
                f"and {found[alias]}: remove the wrong one"
            )
        if alias in found:
            fields[name] = found[alias]
    return fields


def _checked(value: Any, name: str, like: Any, where: Path) -> Any:
    """A field's value, if it is the kind of value that the published models have."""
    if name == "n_inner" and value is None:
        return None
    wanted = int if like is None else type(like)
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    number = not isinstance(value, bool) and isinstance(value, (int, float))
    fits = number if wanted is float else type(value) is wanted
    if not fits:
        raise ValueError(
            f"expected {name} = {words[wanted]} in {where}, got {value!r}: the file is "
            f"damaged"
        )
    return wanted(value)
