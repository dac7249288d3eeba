"""The one-page GPT is the package's GPT, never looks ahead, and learns."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.testing import assert_close

from minigpt import stories
from minigpt.model import GPT, GPTConfig

PAGE = Path(__file__).parents[1] / "examples" / "onepage.py"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onepage", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_fits_on_one_page():
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 120


def test_its_weights_load_into_the_package_with_equal_logits(page):
    torch.manual_seed(0)
    small = page.GPT(11, T=8, C=12, H=3, n=2)
    config = GPTConfig(vocab_size=11, context_length=8, n_layer=2, n_head=3, d_model=12)
    model = GPT(config)
    tokens = torch.randint(11, (2, 5))
    assert not torch.allclose(model(tokens), small(tokens))  # two random models differ
    model.load_state_dict(small.state_dict())
    assert_close(model(tokens), small(tokens))


def test_a_later_word_never_changes_an_earlier_prediction(page):
    torch.manual_seed(0)
    model = page.GPT(11, T=8, C=12, H=3, n=2)
    tokens = torch.randint(11, (2, 5))
    changed = tokens.clone()
    changed[:, 3] = (tokens[:, 3] + 1) % 11
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_what_is_read_is_one_word_behind_what_is_predicted(page):
    first, second = page.WORDS.index("the"), page.WORDS.index(".")
    end = page.WORDS.index(stories.END)
    inputs, targets = page.encode([("the", ".", stories.END), ("the", stories.END)])
    assert inputs[0].tolist() == [end, first, second]
    assert targets.tolist() == [[first, second, end], [first, end, -100]]


def test_a_new_model_finds_every_word_about_as_likely(page):
    torch.manual_seed(0)
    V = len(page.WORDS)
    loss = page.loss_of(page.GPT(V), *page.encode(page.read(0, 8)))
    assert abs(loss.item() - math.log(V)) < 0.5


def test_twenty_five_steps_learn_and_the_same_seed_learns_the_same(page):
    def run() -> list[float]:
        torch.manual_seed(0)
        model = page.GPT(len(page.WORDS), C=32, n=1)
        return list(page.train(model, steps=25))

    losses = run()
    assert len(losses) == 25
    assert sum(losses[-5:]) / 5 < losses[0] - 1
    assert losses == run()


def test_training_stops_when_its_seconds_are_over(page):
    torch.manual_seed(0)
    model = page.GPT(len(page.WORDS), C=12, H=3, n=1)
    losses = list(page.train(model, seconds=0.2))
    assert 1 <= len(losses) < 1000


def test_every_story_it_has_to_read_fits_its_context(page):
    inputs, _ = page.encode(page.read(0, 300))
    assert inputs.shape[1] <= page.GPT(11).position_embedding.num_embeddings


def test_it_goes_on_from_the_opening_and_stops(page):
    torch.manual_seed(0)
    model = page.GPT(len(page.WORDS), C=12, H=3, n=1)
    opening = " ".join(stories.generate(0).words[:3])
    text = page.write(model, opening)
    assert tuple(stories.words(text)[:3]) == stories.generate(0).words[:3]
    assert len(stories.words(text)) <= 128


def test_it_needs_torch_and_the_stories_and_nothing_else():
    imports = [
        line.split()[1].split(".")[0]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert set(imports) <= {"collections", "time", "torch", "minigpt"}
