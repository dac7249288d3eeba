"""The names and signatures that users build on: they stand within a major version."""

import importlib
import inspect

import pytest
import torch

import minigpt
from minigpt.model import GPT, GPTConfig
from minigpt.storage import read_tensors
from minigpt.texts import ASSETS

# module:name → parameters, in order; "=" marks a default, "*" what is keyword-only.
FACE = {
    "model:GPTConfig.preset": "name **changes",
    "model:GPTConfig.presets": "",
    "model:GPT.hidden": "self tokens *mask= *cache=",
    "model:GPT.unembed": "self hidden",
    "model:GPT.forward": "self tokens *mask= *cache=",
    "train:next_token_loss": "model inputs targets *ignore_index=",
    "train:training_steps": "model batches config= *optimizer=",
    "train:fit": "model train val config= *out= *resume= *callbacks=",
    "generate:generate": (
        "model tokens *max_new_tokens *sampler= *stop= *generator= *use_cache="
    ),
    "generate:generate_batch": "model prompts *max_new_tokens *sampler= *stop=",
    "generate:complete": (
        "model tokenizer text *max_new_tokens= *sampler= *stop= *seed="
    ),
    "generate:stream": "model tokenizer text *max_new_tokens= *sampler= *stop= *seed=",
    "sampling:Temperature": "t",
    "sampling:TopK": "k",
    "sampling:TopP": "p",
    "packed:pack": "model weights=",
    "pretrained:load_pretrained": "source",
    "checkpoint:save_pretrained": "model tokenizer path",
    "subword:BPETokenizer.train": "texts *vocab_size",
    "subword:BPETokenizer.from_gpt2_files": "encoder_json vocab_bpe",
    "subword:BPETokenizer.encode": "self text *allowed_special=",
    "subword:BPETokenizer.decode": "self ids",
    "subword:BPETokenizer.encode_bytes": "self text",
    "subword:BPETokenizer.decode_bytes": "self ids",
    "texts:load_text": "name",
    "tasks:load_task": "source",
    "adapt.heads:adapt": "model tokenizer task *cut= *both_orders=",
    "adapt.heads:Adapted.predict": "self examples",
    "adapt.heads:task_loss": "adapted batch *lm_weight= *class_weights=",
    "adapt.saved:save_adapted": "adapted path",
    "adapt.saved:load_adapted": "path",
    "adapt.saved:export_classifier": "adapted path",
    "adapt.finetune:finetune": "base task config= *callbacks=",
    "adapt.finetune:finetune_seeds": "base task config= *seeds=",
    "adapt.finetune:judge": "adapted task",
    "adapt.metrics:compare": "kind one two",
    "stories:generate": "seed",
    "stories:surprisal": "text",
    "regret:xray": "model tokenizer story",
}


def found(where: str):
    module, _, path = where.partition(":")
    thing = importlib.import_module(f"minigpt.{module}")
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def written(thing) -> list[str]:
    """The parameters of a callable, in the notation of FACE."""
    marks = {inspect.Parameter.KEYWORD_ONLY: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [
        f"{marks.get(p.kind, '')}{p.name}{'' if p.default is p.empty else '='}"
        for p in inspect.signature(thing).parameters.values()
    ]


@pytest.mark.parametrize("where", FACE)
def test_the_signature_stands(where):
    """What is promised comes first and in order; later versions may append options."""
    promised, has = FACE[where].split(), written(found(where))
    assert has[: len(promised)] == promised
    extra = has[len(promised) :]
    assert all(name.startswith("*") and name.endswith("=") for name in extra), extra


@pytest.mark.parametrize("where", FACE)
def test_every_parameter_and_result_is_typed(where):
    signature = inspect.signature(found(where))
    untyped = [
        p.name
        for p in signature.parameters.values()
        if p.annotation is p.empty and p.name not in ("self", "cls")
    ]
    assert untyped == []
    if not inspect.isclass(found(where)):
        assert signature.return_annotation is not signature.empty


def test_a_changed_default_or_order_is_seen():
    def moved(tokens, *, cache=None, mask=None): ...

    assert written(moved)[:2] != FACE["model:GPT.forward"].split()[1:3]


def test_every_public_name_is_there_and_sorted_as_ruff_wants():
    assert [name for name in minigpt.__all__ if not hasattr(minigpt, name)] == []


def test_all_fields_but_two_have_defaults():
    config = GPTConfig(vocab_size=11, context_length=8)
    assert GPT(config)(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 5, 11)


@pytest.mark.parametrize("name", ["openai-community/gpt2", "minigpt-bass"])
def test_a_name_that_leads_nowhere_says_where_it_was_looked_for(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=rf"{name}.*minigpt-stories"):
        minigpt.load_pretrained(name)


def test_the_shipped_model_loads_by_name_and_is_near_the_truth():
    """results/stories.json says 0.023 on 1,000 stories; fifty others must agree."""
    model, tokenizer = minigpt.load_pretrained("minigpt-stories")
    assert {w.dtype for w in model.parameters()} == {torch.float32}
    first = minigpt.stories.VALIDATION_SEED + 10_000
    seen = [
        minigpt.xray(model, tokenizer, story)
        for story in minigpt.stories.corpus(50, seed=first)
    ]
    words = sum(len(one.words) for one in seen)
    assert 0 < sum(one.regret.sum() for one in seen) / words <= 0.06


def test_the_shipped_weights_are_bfloat16_and_small():
    file = ASSETS / "minigpt-stories" / "model.safetensors"
    assert {w.dtype for w in read_tensors(file).values()} == {torch.bfloat16}
    assert file.stat().st_size <= 2_000_000


def test_a_readers_own_folder_goes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = GPT(GPTConfig(vocab_size=11, context_length=8, d_model=12, n_head=3))
    minigpt.save_pretrained(model, None, "minigpt-stories")
    with pytest.warns(UserWarning, match="no tokenizer beside the model in"):
        assert minigpt.load_pretrained("minigpt-stories").model.config.d_model == 12


def test_a_saved_folder_loads_in_eval_mode(tmp_path):
    model = GPT(GPTConfig(vocab_size=11, context_length=8, d_model=12, n_head=3))
    minigpt.save_pretrained(model, None, tmp_path / "m")
    with pytest.warns(UserWarning, match="no tokenizer beside the model in"):
        again = minigpt.load_pretrained(tmp_path / "m")
    tokens = torch.randint(11, (2, 5))
    torch.testing.assert_close(again.model(tokens), model.eval()(tokens))
    assert (again.model.training, again.tokenizer) == (False, None)
