"""Pretrained models: in and out of `transformers` with equal logits, text and ids."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from minigpt.checkpoint import load_folder, save_pretrained
from minigpt.generate import complete, generate
from minigpt.model import GPT, GPTConfig
from minigpt.pretrained import load_pretrained, summarize
from minigpt.storage import write_json
from minigpt.subword import BPETokenizer
from minigpt.tokenizer import CharTokenizer

SMALL = GPTConfig(vocab_size=11, context_length=80, n_layer=2, n_head=3, d_model=12)
KINDS = ("GPT2", "OpenAIGPT")
TEXT = "Ada lights the lamp. The lamp is lit, and Ada sees the sea.\n" * 9


def random_model(config: GPTConfig) -> GPT:
    """Random biases and norms too: at 0 and 1 a swapped pair would not show."""
    model = GPT(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    return model


def random_theirs(kind: str, **changes) -> torch.nn.Module:
    """A random model of `transformers`, of the size of SMALL."""
    shape = {"vocab_size": 11, "n_positions": 80, "n_layer": 2, "n_head": 3}
    config = getattr(transformers, f"{kind}Config")(n_embd=12, **shape, **changes)
    model = getattr(transformers, f"{kind}LMHeadModel")(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(11, (2, 5))


def load_quietly(path: Path) -> GPT:
    """Load a folder that has no tokenizer."""
    with pytest.warns(UserWarning, match="no tokenizer beside the model in"):
        return load_pretrained(path).model


def agree(ours: GPT, theirs: torch.nn.Module, tokens: torch.Tensor) -> None:
    """Logits to 1e-4, and 64 greedy tokens to the last."""
    with torch.inference_mode():
        expected = theirs(tokens).logits
        assert_close(ours(tokens), expected, atol=1e-4, rtol=0)
    # Their generation would stop at, and pad with, the ids in the configuration.
    greedy = transformers.GenerationConfig(
        max_new_tokens=64, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    mask = torch.ones_like(tokens)
    written = theirs.generate(tokens, attention_mask=mask, generation_config=greedy)
    assert torch.equal(generate(ours, tokens, max_new_tokens=64), written)
    assert len(set(written[0].tolist())) > 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", ["1GB", "8KB"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_saves_computes_the_same_here(
    tmp_path, kind, size, dtype, tokens
):
    theirs = random_theirs(kind, resid_pdrop=0.2, embd_pdrop=0.2, attn_pdrop=0.2)
    theirs.to(dtype).save_pretrained(tmp_path, max_shard_size=size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (size == "8KB")
    ours = load_quietly(tmp_path)
    assert {w.dtype for w in ours.parameters()} == {torch.float32}
    agree(ours, theirs.float(), tokens)


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"n_inner": 20, "layer_norm_epsilon": 1e-2},
        {"reorder_and_upcast_attn": True},
        {"activation_function": "gelu_pytorch_tanh"},
    ],
    ids=str,
)
def test_what_gpt2s_configuration_says_is_honoured(tmp_path, changes, tokens):
    theirs = random_theirs("GPT2", **changes)
    theirs.save_pretrained(tmp_path)
    agree(load_quietly(tmp_path), theirs, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_the_body_alone_loads_as_on_the_hub(tmp_path, kind, tokens):
    """The hub's files have no prefix, and masks among the weights."""
    theirs = random_theirs(kind)
    theirs.transformer.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 80, 80) for i in range(2)}
    tensors = {**load_file(path), **masks, "h.0.attn.masked_bias": torch.tensor(-1e4)}
    assert not any(name.startswith("transformer") for name in tensors)
    save_file(tensors, path)
    agree(load_quietly(tmp_path), theirs, tokens)


SHAPES = {
    "gpt2": SMALL,
    "untied": replace(SMALL, tied=False),
    "narrow": replace(SMALL, d_mlp=20, norm_eps=1e-2),
    "gpt1": replace(SMALL, norm="post"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_what_we_save_computes_the_same_in_transformers(
    tmp_path, config, dtype, tokens
):
    save_pretrained(random_model(config), None, tmp_path, dtype=dtype)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
    agree(load_quietly(tmp_path), theirs.eval(), tokens)


@pytest.fixture
def said(caplog):
    """What `transformers` logs as a warning or worse."""
    transformers.utils.logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield caplog.records
    transformers.utils.logging.disable_propagation()


@pytest.mark.parametrize("kind", ["bytes", "bytes without an end", "characters"])
def test_our_folder_runs_in_a_pipeline_without_a_warning(tmp_path, kind, said):
    marks = ("<|endoftext|>",) if kind == "bytes" else ()
    tokenizer = (
        CharTokenizer.train(TEXT)
        if kind == "characters"
        else BPETokenizer.train([TEXT], vocab_size=280, special_tokens=marks)
    )
    shape = replace(SMALL, vocab_size=tokenizer.vocab_size)
    model = random_model(shape)
    save_pretrained(model, tokenizer, tmp_path, dtype=torch.float32)
    prompt = "Ada lights"
    write = transformers.pipeline("text-generation", model=tmp_path, device="cpu")
    written = write(prompt, max_new_tokens=64, do_sample=False)[0]["generated_text"]
    stop = () if tokenizer.end_id is None else (tokenizer.decode([tokenizer.end_id]),)
    ours = complete(model, tokenizer, prompt, max_new_tokens=64, stop=stop)
    assert written.startswith(prompt)
    assert written == ours
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = theirs(TEXT)["input_ids"]
    assert ids == tokenizer.encode(TEXT)
    assert theirs.decode(ids) == TEXT
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.generation_config.eos_token_id == tokenizer.end_id
    assert [record.getMessage() for record in said] == []


def test_a_tokenizer_of_the_stories_words_is_refused_by_transformers(tmp_path):
    """No class of theirs cuts as the stories do; a wrong one would be worse."""
    model, tokenizer = load_pretrained("minigpt-stories")
    save_pretrained(model, tokenizer, tmp_path)
    with pytest.raises(ValueError, match="vocab"):
        transformers.AutoTokenizer.from_pretrained(tmp_path)


def test_a_smaller_vocabulary_than_the_embedding_is_padding_and_said(tmp_path):
    save_pretrained(random_model(SMALL), CharTokenizer.train("abcdefgh"), tmp_path)
    with pytest.warns(UserWarning, match=r"has 8 tokens, the embedding 11 rows: ids"):
        assert load_pretrained(tmp_path).model.config.vocab_size == 11


def test_weights_that_belong_to_no_part_are_named(tmp_path, tokens):
    model = random_model(SMALL)
    save_pretrained(model, None, tmp_path)
    path = tmp_path / "model.safetensors"
    heads = {f"{n}.weight": torch.ones(2, 12) for n in ("score", "b", "c", "a")}
    save_file({**load_file(path), **heads}, path)
    said = r"4 weights in .* are left out: a\.weight, b\.weight, c\.weight, …"
    with pytest.warns(UserWarning, match=said):
        again = load_folder(tmp_path).model
    assert torch.equal(again(tokens), model(tokens))


def test_a_second_copy_of_a_tied_head_must_be_the_same(tmp_path, tokens):
    model = random_model(SMALL)
    save_pretrained(model, None, tmp_path)
    path, name = tmp_path / "model.safetensors", "transformer.wte.weight"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors[name].clone()}, path)
    assert torch.equal(load_folder(tmp_path).model(tokens), model(tokens))
    # Only the head is there: transformers takes it for both, and so do we.
    alone = {("lm_head.weight" if n == name else n): w for n, w in tensors.items()}
    save_file(alone, path)
    assert torch.equal(load_folder(tmp_path).model(tokens), model(tokens))
    # Two different ones: transformers unties them, against its own configuration.
    save_file({**tensors, "lm_head.weight": tensors[name] + 1}, path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert (theirs(tokens).logits - model(tokens)).abs().max() > 0.1
    with pytest.raises(ValueError, match=r"lm_head\.weight to equal transformer\.wte"):
        load_folder(tmp_path)


def sharded(path: Path, model: GPT) -> Path:
    """A folder of two files and their index; the index is returned."""
    save_pretrained(model, None, path)
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    table = {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path / file)
        table |= dict.fromkeys(part, file)
    write_json(path / "model.safetensors.index.json", {"weight_map": table})
    return path / "model.safetensors.index.json"


def test_a_model_in_several_files_loads_and_a_wrong_index_is_named(tmp_path, tokens):
    model = random_model(SMALL)
    index = sharded(tmp_path, model)
    assert torch.equal(load_folder(tmp_path).model(tokens), model(tokens))
    table = json.loads(index.read_text())["weight_map"]
    for wrong in ([], {"x": 3}, {"x": "../elsewhere.safetensors"}):
        write_json(index, {"weight_map": wrong})
        with pytest.raises(
            ValueError, match=r"weight_map in .*index\.json to name fil"
        ):
            load_folder(tmp_path)
    write_json(
        index, {"weight_map": {**table, "x": "model-00002-of-00002.safetensors"}}
    )
    with pytest.raises(
        ValueError, match=r"expected x in .*model-00002.*index\.json say"
    ):
        load_folder(tmp_path)
    write_json(index, {"weight_map": table})
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"the file .*model-00002-of-00002"):
        load_folder(tmp_path)


def test_a_pickle_is_not_opened_and_the_sentence_converts_it(
    tmp_path, tokens, monkeypatch
):
    model = random_model(SMALL)
    save_pretrained(model, None, tmp_path)
    safe = tmp_path / "model.safetensors"
    torch.save(load_file(safe), tmp_path / "pytorch_model.bin")
    assert torch.equal(load_folder(tmp_path).model(tokens), model(tokens))
    safe.unlink()
    said = r"got pytorch_model\.bin, a pickle, which can run any code .*: if you trust"
    with pytest.raises(ValueError, match=said) as error:
        load_folder(tmp_path)
    code = (
        f"AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})"
        f".save_pretrained('converted')"
    )
    assert code in str(error.value)
    monkeypatch.chdir(tmp_path)
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path).save_pretrained(
        "converted"
    )
    again = load_folder(tmp_path / "converted").model
    assert torch.equal(again(tokens), model(tokens))


def test_a_summary_tells_what_a_load_would_without_reading_weights(
    tmp_path, monkeypatch
):
    index = sharded(tmp_path, random_model(SMALL))
    CharTokenizer.train("abcdefgh").save(tmp_path)

    def read(_):
        raise AssertionError("a weight was read")

    monkeypatch.setattr("minigpt.storage.Stored.read", read)
    found = summarize(tmp_path)
    assert (found.config.d_model, found.dtype) == (12, torch.float32)
    assert found.n_bytes == sum(
        p.stat().st_size for p in tmp_path.glob("*.safetensors")
    )
    assert found.tokenizer is not None
    content = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**content, "n_layer": 3})
    with pytest.raises(ValueError, match=r"weight h\.2\.ln_1\.weight in .* others"):
        summarize(tmp_path)
    index.unlink()


@pytest.mark.slow
def test_gpt2_in_full_size_loads_in_seconds_in_little_memory_and_agrees(tmp_path):
    """Random weights of the published shape, 124 million, as the hub lays them out."""
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    for name, weight in theirs.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)
    theirs.transformer.save_pretrained(tmp_path)
    seconds, ratio = map(float, in_a_new_process(LOAD, tmp_path).split())
    assert ratio < 1.2
    assert seconds < 20
    agree(load_quietly(tmp_path), theirs, torch.randint(50257, (1, 9)))


LOAD = """
import sys, time, warnings
from pathlib import Path
from minigpt import load_pretrained

def kilobytes(name):
    status = Path("/proc/self/status").read_text()
    return int(status.split(name + ":")[1].split()[0])

warnings.simplefilter("ignore")
before, start = kilobytes("VmRSS"), time.perf_counter()
model = load_pretrained(sys.argv[1]).model
seconds = time.perf_counter() - start
size = sum(w.nbytes for w in model.parameters())
print(seconds, (kilobytes("VmHWM") - before) * 1024 / size)
"""


def in_a_new_process(code: str, *argv: object) -> str:
    """What a script prints."""
    command = [sys.executable, "-c", code, *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
