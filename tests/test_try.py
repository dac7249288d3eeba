"""What the page "Try it" is made of: weights, words, and what stories cost."""

import json
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from hashlib import sha256
from math import log2
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from minigpt import load_pretrained, stories
from minigpt.regret import xray
from minigpt.tokenizer import WordTokenizer

ROOT = Path(__file__).parents[1]
EXTENSIONS = ROOT / "book" / "_ext"
sys.path.insert(0, str(EXTENSIONS))

import tryit  # noqa: E402

MODEL, TOKENIZER = load_pretrained("minigpt-stories")
RECORD = json.loads((ROOT / "results" / "tryit.json").read_text("utf-8"))
FIRST = RECORD["tales"][0]["text"]
MOST = 3 * 1024 * 1024


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What the page's script assigns."""
    script = tryit.script()
    assert len(script.encode("utf-8")) <= MOST
    return json.loads(script.removeprefix("globalThis.TRYIT = ").rstrip(";\n"))


# What is written.
def test_every_weight_comes_back_bit_for_bit(content: dict[str, Any]) -> None:
    packed = content["weights"]
    halves = np.frombuffer(b64decode(packed["base64"]), dtype="<u2").astype("<u4")
    numbers, start = torch.from_numpy((halves << 16).view("<f4").copy()), 0
    ours = MODEL.state_dict()
    assert packed["shapes"].keys() == ours.keys()
    for name, shape in packed["shapes"].items():
        size = int(np.prod(shape))
        assert torch.equal(numbers[start : start + size].view(shape), ours[name])
        start += size
    assert start == len(numbers) == MODEL.config.n_parameters


def test_the_page_knows_the_models_words_and_shape(content: dict[str, Any]) -> None:
    assert isinstance(TOKENIZER, WordTokenizer)
    assert content["vocabulary"] == list(TOKENIZER.words)
    assert all(
        getattr(MODEL.config, name) == value
        for name, value in content["config"].items()
    )


def test_truth_and_offers_are_the_generators(content: dict[str, Any]) -> None:
    for tale in content["tales"]:
        words, vocabulary = tale["words"], content["vocabulary"]
        assert stories.is_possible(stories.join(words))
        for i, word in enumerate(words):
            chances = stories.next_words(words[:i])
            offered = {vocabulary[w]: p for w, p in tale["offers"][i]}
            assert offered == pytest.approx(chances, abs=1e-5)
            assert tale["bits"]["truth"][i] == pytest.approx(
                -log2(chances[word]), abs=1e-4
            )


def test_what_was_recorded_is_what_the_gpt_pays() -> None:
    for tale in RECORD["tales"]:
        if tale["seed"] is not None:
            assert tale["seed"] > RECORD["stories counted"]
            assert stories.generate(tale["seed"]).text == tale["text"]
        paid = [float(nats) for nats in tale["nats"]["minigpt-stories"].split()]
        assert paid == pytest.approx(
            xray(MODEL, TOKENIZER, tale["text"]).model, abs=1e-3
        )


def test_over_all_stories_each_player_beats_the_one_before(
    content: dict[str, Any],
) -> None:
    bits: Counter[str] = Counter()
    for tale in content["tales"]:
        for name, costs in tale["bits"].items():
            assert len(costs) == len(tale["words"])
            bits[name] += sum(costs)
    order = ["kneser-ney 1", "kneser-ney 3", "kneser-ney 7", "minigpt-stories", "truth"]
    assert [name for name, _ in bits.most_common()] == order
    assert [*content["players"], "truth"] == order


def test_the_script_is_the_same_without_torch() -> None:
    code = f"""
import sys
sys.path[:0] = [{str(EXTENSIONS)!r}, {str(ROOT)!r}]
from hashlib import sha256
from stand_ins import standing_in
with standing_in():
    import tryit
    print(sha256(tryit.script().encode()).hexdigest())
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert told.stdout.decode().strip() == sha256(tryit.script().encode()).hexdigest()


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="expected bfloat16 weights, got F32 for a"):
        tryit.read_weights(tmp_path / "a.safetensors")


def test_only_this_page_loads_the_scripts(tmp_path: Path) -> None:
    loaded: list[str] = []
    app: Any = SimpleNamespace(
        add_css_file=loaded.append,
        add_js_file=lambda name, loading_method: loaded.append(name),
        builder=SimpleNamespace(format="html"),
        outdir=tmp_path,
        srcdir=ROOT,
    )
    tryit.add_scripts(app, "book/index", "", {}, None)
    assert loaded == []
    tryit.add_scripts(app, "book/try", "", {}, None)
    tryit.write(app)
    there = [path.name for path in (ROOT / "book" / "_static").iterdir()]
    there += [path.name for path in (tmp_path / "_static").iterdir()]
    assert len(loaded) == 6
    assert set(loaded) <= set(there)
