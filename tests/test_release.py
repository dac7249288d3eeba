"""The first release of GPT-1: the same logits as `transformers` from OpenAI's files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.testing import assert_close

from minigpt.pretrained import load_pretrained, summarize
from minigpt.release import N_FILES, load_release, release_config, release_weights

# As `train.py` of the release makes them: attention, norm, MLP, norm; "g" is a gain.
BLOCK = (
    "attn.c_attn.weight",
    "attn.c_attn.bias",
    "attn.c_proj.weight",
    "attn.c_proj.bias",
    "ln_1.weight",
    "ln_1.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
)
TOKENS = torch.tensor([[1, 10, 4, 4, 7], [0, 3, 9, 2, 5]])


def write_release(folder: Path, theirs: torch.nn.Module) -> None:
    """What OpenAI's repository has in its folder `model`, for a model of theirs."""
    body = theirs.transformer.state_dict()
    layers = theirs.config.n_layer
    names = ["positions_embed.weight", "tokens_embed.weight"]
    names += [f"h.{i}.{name}" for i in range(layers) for name in BLOCK]
    arrays = [body[name].numpy() for name in names]
    # TensorFlow's convolutions of width 1.
    shapes = [
        [1, *a.shape] if a.ndim == 2 and i > 1 else [*a.shape]
        for i, a in enumerate(arrays)
    ]
    row = np.concatenate([a.ravel() for a in arrays])
    (folder / "params_shapes.json").write_text(json.dumps(shapes))
    for i, part in enumerate(np.array_split(row, N_FILES)):
        np.save(folder / f"params_{i}.npy", part)


@pytest.fixture
def theirs() -> torch.nn.Module:
    config = transformers.OpenAIGPTConfig(
        vocab_size=11, n_positions=7, n_layer=2, n_head=12, n_embd=24
    )
    model = transformers.OpenAIGPTLMHeadModel(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture
def folder(tmp_path, theirs) -> Path:
    write_release(tmp_path, theirs)
    return tmp_path


def test_the_logits_are_those_of_transformers(folder, theirs):
    with pytest.warns(UserWarning, match="no tokenizer beside the model in"):
        model, tokenizer = load_pretrained(folder)
    with torch.no_grad():
        assert_close(model(TOKENS), theirs(TOKENS).logits, atol=1e-4, rtol=0)
    assert (tokenizer, model.training) == (None, False)
    assert model.config.norm == "post"


def test_weights_that_lie_in_two_files_are_joined(folder):
    """Ten files cut the row where no weight ends."""
    weights = release_weights(folder, release_config(folder))
    longest = max(np.load(path).size for path in folder.glob("*.npy"))
    assert weights["blocks.0.mlp.up.weight"].n_bytes > 4 * longest


def test_its_tokenizer_comes_along(folder):
    letters = [*"ab", "a</w>", "b</w>", "<unk>", "ab</w>"]
    table = {symbol: i for i, symbol in enumerate(letters)}
    (folder / "encoder_bpe_40000.json").write_text(json.dumps(table))
    (folder / "vocab_40000.bpe").write_text("#version: 0.2\na b</w>\n")
    with pytest.warns(UserWarning, match=r"6 tokens, the embedding 11 rows"):
        _, tokenizer = load_pretrained(folder)
    assert tokenizer is not None
    assert tokenizer.encode("ab b") == [5, 3]
    assert summarize(folder).tokenizer is not None


def test_a_summary_needs_no_weights(folder):
    found = summarize(folder)
    assert found.config == release_config(folder)
    assert found.dtype == torch.float32
    assert found.n_bytes == sum(p.stat().st_size for p in folder.glob("*.npy"))


def test_weights_can_be_loaded_as_bfloat16(folder):
    model = load_release(folder, dtype=torch.bfloat16).model
    assert {w.dtype for w in model.parameters()} == {torch.bfloat16}


def test_a_file_that_is_absent_cut_off_or_pickled_is_named(folder):
    path = folder / "params_7.npy"
    whole = path.read_bytes()
    for damaged in (whole[:-8], whole[:20], b"", b"PK nothing"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a whole row of numbers in .*params_7"):
            load_release(folder)
    np.save(path, np.array([{"any": "object"}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"whole row of numbers in .*params_7.*object"):
        load_release(folder)
    np.save(path, np.zeros((2, 3), np.float64))
    with pytest.raises(ValueError, match=r"float32 in .*params_7\.npy, got float64 of"):
        load_release(folder)
    np.save(path, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"expected 14\d+ numbers in the 10 files of"):
        load_release(folder)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"the file .*params_7\.npy, found none"
    ):
        load_release(folder)


def test_shapes_of_another_model_are_named(folder):
    path = folder / "params_shapes.json"
    shapes = json.loads(path.read_text())
    path.write_text("[[7, 24]")
    with pytest.raises(ValueError, match=r"a list of shapes in .*params_shapes\.json"):
        load_release(folder)
    path.write_text(json.dumps(shapes[:-1]))
    with pytest.raises(ValueError, match=r"12 tensors a block in .*got 25 shapes"):
        load_release(folder)
    path.write_text(json.dumps([*shapes[:2], [24, 72], *shapes[3:]]))
    with pytest.raises(ValueError, match=r"shape \(72, 24\) for blocks\.0\.attention"):
        load_release(folder)


@pytest.mark.data
def test_the_published_list_of_shapes_and_vocabulary_are_gpt1s(tmp_path):
    """The weights themselves are no part of that folder; the list of shapes is."""
    from minigpt.model import GPTConfig
    from minigpt.release import release_tokenizer

    published = Path(os.environ["MINIGPT_DATA"]) / "tokenizer-gpt1"
    assert release_config(published) == GPTConfig.preset("gpt1")
    tokenizer = release_tokenizer(published)
    assert tokenizer is not None
    assert tokenizer.vocab_size == 40478


PEAK = """
import sys
from pathlib import Path
from minigpt.release import load_release

def kilobytes(name):
    status = Path("/proc/self/status").read_text()
    return int(status.split(name + ":")[1].split()[0])

before = kilobytes("VmRSS")
model = load_release(Path(sys.argv[1])).model
size = sum(w.nbytes for w in model.parameters())
print((kilobytes("VmHWM") - before) * 1024 / size)
"""


@pytest.mark.slow
def test_loading_takes_hardly_more_memory_than_the_model(tmp_path):
    config = transformers.OpenAIGPTConfig(vocab_size=20_000, n_layer=6)
    write_release(tmp_path, transformers.OpenAIGPTLMHeadModel(config))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True
    )
    assert float(done.stdout) < 1.2, done.stderr
