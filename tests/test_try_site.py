"""The page "Try it" in a browser: what its scripts compute, and how they answer.

The oracle of the JavaScript is PyTorch: the same words, the same logits to 1e-4.
"""

import json
from collections import Counter
from collections.abc import Iterator
from math import isclose, log, log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Error, Page
from torch.testing import assert_close

from minigpt import load_pretrained, stories
from minigpt.regret import xray
from minigpt.sampling import draw
from tests.test_site import SITE, Visit
from tests.test_try import FIRST, tryit

ROOT = Path(__file__).parents[1]
MODEL, TOKENIZER = load_pretrained("minigpt-stories")
END, V = stories.END, MODEL.config.vocab_size


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return tryit.content()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    visit = Visit(browser, SITE / "book" / "try.html", "phone", "light")
    yield visit
    found = visit.look()
    visit.page.close()
    assert found == []


@pytest.fixture
def page(visit: Visit) -> Page:
    return visit.page


def rows(seed: int, n: int) -> list[int]:
    return torch.randint(V, (n,), generator=torch.manual_seed(seed)).tolist()


TEXTS = {
    "a story": [TOKENIZER.end_id, *TOKENIZER.encode(FIRST)],
    "one word": [TOKENIZER.end_id],
    "every place": rows(1, MODEL.config.context_length),
}


@torch.inference_mode()
def by_torch(tokens: list[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits, and each layer's attention."""
    row, maps = torch.tensor([tokens]), []
    x = MODEL.token_embedding(row) + MODEL.position_embedding(torch.arange(len(tokens)))
    for block in MODEL.blocks:
        maps.append(block.attention.weights(block.norm1(x))[0])
        x = block(x)
    return MODEL(row)[0], maps


FORWARD = """tokens => {
  const look = [];
  const logits = model.forward(tokens, {look});
  return [[...logits], look.map(weights => [...weights])];
}"""


@pytest.mark.site
@pytest.mark.parametrize("text", TEXTS)
def test_the_browser_computes_what_torch_computes(page: Page, text: str) -> None:
    tokens = TEXTS[text]
    logits, maps = by_torch(tokens)
    found, looks = page.evaluate(FORWARD, tokens)
    assert_close(torch.tensor(found).view_as(logits), logits, atol=1e-4, rtol=0)
    assert len(looks) == len(maps)
    for look, weights in zip(looks, maps, strict=True):
        assert_close(
            torch.tensor(look).float().view_as(weights), weights, atol=1e-4, rtol=0
        )


@pytest.mark.site
def test_word_by_word_with_a_cache_gives_the_same_logits(page: Page) -> None:
    code = """tokens => {
      const cache = new KVCache(model.config);
      const parts = [tokens.slice(0, 40), ...tokens.slice(40).map(token => [token])];
      return parts.flatMap(part => [...model.forward(part, {cache})]);
    }"""
    logits, _ = by_torch(TEXTS["every place"])
    found = page.evaluate(code, TEXTS["every place"])
    assert_close(torch.tensor(found).view_as(logits), logits, atol=1e-4, rtol=0)
    with pytest.raises(Error, match="expected 1 to 128 positions, got 129: shorten"):
        page.evaluate("tokens => [...model.forward(tokens)]", [0] * 129)


FAULTS = [
    ("attentionWeights", "/= Math.sqrt(D)", "/= 1"),
    ("attentionWeights", "const seen = S - T + t + 1", "const seen = S"),
    ("attend", "v[s * C + d]", "v[t * C + d]"),
    ("gelu", "0.044715", "0"),
    ("linear", ": bias[o]", ": 0"),
    ("layerNorm", "- mean) ** 2", ") ** 2"),
    ("GPT.prototype.block", "return add(x, ", "return ((a, b) => b)(x, "),
    ("GPT.prototype.hidden", "past * C, (past + T)", "0, T"),
]


@pytest.mark.site
@pytest.mark.parametrize(("where", "old", "new"), FAULTS)
def test_each_fault_of_the_forward_pass_is_red(
    page: Page, where: str, old: str, new: str
) -> None:
    code = """([where, old, now]) => {
      const source = eval(where).toString();
      if (!source.includes(old)) throw new Error(`${where} has no ${old}`);
      const changed = source.replace(old, now).replace(/^(function )?/, "function ");
      eval(`${where} = ${changed}`);
      const cache = new KVCache(model.config);
      const tokens = TALES[0].words.map(word => NUMBER.get(word));
      const parts = [tokens.slice(0, 40), tokens.slice(40)];
      return parts.flatMap(part => [...model.forward(part, {cache})]);
    }"""
    logits, _ = by_torch(TOKENIZER.encode(f"{FIRST} {END}"))
    found = torch.tensor(page.evaluate(code, [where, old, new])).view_as(logits)
    assert not torch.allclose(found, logits, atol=1e-3, rtol=0)


@pytest.mark.site
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_a_draw_is_the_packages_draw(page: Page, temperature: float) -> None:
    logits = by_torch(TEXTS["a story"])[0][:1] / temperature
    seeds = range(200)
    ours = [int(draw(logits, torch.Generator().manual_seed(s))) for s in seeds]
    us = [
        float(torch.rand(1, dtype=torch.float64, generator=generator))
        for generator in map(torch.Generator().manual_seed, seeds)
    ]
    code = "([logits, t, us]) => us.map(u => draw(logits, t, u))"
    scaled = (logits[0] * temperature).tolist()
    assert page.evaluate(code, [scaled, temperature, us]) == ours
    assert len(set(ours)) > 3


def chapter_0() -> dict[str, Any]:
    """Names of chapter 0 after its recorded game, whose cells are run as they stand."""
    notebook = json.loads((ROOT / "notebooks" / "00_one_page.ipynb").read_text("utf-8"))
    marks = "beginning =|def bits(|GUESSES =|TYPED =|ranks = play(|def bits_of_game("
    space: dict[str, Any] = {"stories": stories, "END": END, "log2": log2}
    space |= {"Counter": Counter, "isclose": isclose}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and any(m in source for m in marks.split("|")):
            exec(source, space)  # noqa: S102 (our own cell)
        if "bits_of_game" in space:
            return space
    pytest.fail("expected chapter 0 to define bits_of_game, it does not")


@pytest.mark.site
def test_the_readers_score_is_the_sum_of_chapter_0(page: Page) -> None:
    game = chapter_0()
    for ranks in (game["ranks"], [1], [0, 0, 3]):
        found = page.evaluate("([ranks, V]) => bitsOfGame(ranks, V)", [ranks, V])
        assert found == pytest.approx(game["bits_of_game"](ranks, V))


def press_to(page: Page, name: str) -> list[str]:
    """Press Tab until the control with this id has the focus; the ids on the way."""
    passed: list[str] = []
    while not passed or passed[-1] != name:
        page.keyboard.press("Tab")
        passed.append(page.evaluate("document.activeElement.id"))
        assert len(passed) < 300, f"Tab never reaches {name}"
    return passed


@pytest.mark.site
def test_a_game_is_played_with_the_keyboard_alone(
    page: Page, content: dict[str, Any]
) -> None:
    tale = next(tale for tale in content["tales"] if tale["game"])
    press_to(page, "guess")
    for word in tale["words"]:
        page.keyboard.insert_text("END" if word == END else word.upper())
        page.keyboard.press("Enter")
        assert "first guess" in page.inner_text("#game-said")
    assert "story is over" in page.inner_text("#game-said")
    scores = page.locator("#game-score tr").all_inner_texts()
    bits = [float(line.split()[-1]) for line in scores]
    costs = [tale["bits"][name] for name in (*content["players"], "truth")]
    assert bits == [0.0, *(pytest.approx(np.mean(c), abs=0.006) for c in costs)]
    controls = "prompt tale place layer head temperature go".split()
    passed = press_to(page, "go")
    assert [name for name in passed if name in controls] == controls


@pytest.mark.site
def test_a_wrong_guess_counts_and_an_unknown_word_does_not(page: Page) -> None:
    def guess(word: str) -> str:
        page.fill("#guess", word)
        page.press("#guess", "Enter")
        return page.inner_text("#game-said")

    word = page.evaluate("game.word")
    wrong = [w for w in ("Ada", "drum", "the", "In") if w != word]
    assert guess("zebra") == "No story uses “zebra”. That guess is free."
    assert guess(wrong[0]) == f"Not “{wrong[0]}”. 2 left."
    assert guess(wrong[0]) == f"You have tried “{wrong[0]}”."
    assert guess(wrong[1]).endswith("1 left.")
    assert guess(wrong[2]).startswith(f"“{word}”: you were told.")
    assert page.evaluate("game.ranks") == [0]


def say(page: Page, prompt: str) -> None:
    """Type a prompt and wait until it was read."""
    page.evaluate("seen = null")
    page.fill("#prompt", prompt)
    page.wait_for_function("seen !== null")


@pytest.mark.site
def test_an_unknown_word_of_a_prompt_is_said(page: Page) -> None:
    say(page, "In Ternhaven, Rosa saw a zebra")
    said = page.inner_text("#prompt-said")
    assert said == "No story uses “saw”. The rest is not read."
    assert page.evaluate("seen.words") == ["In", "Ternhaven", ",", "Rosa"]
    assert page.locator("#sheet span[title='not read']").all_inner_texts() == [
        *("saw", "a", "zebra")
    ]
    say(page, "In ternhaven")
    assert "No story uses “ternhaven”; there is “Ternhaven”." in page.inner_text(
        "#prompt-said"
    )
    say(page, "the " * 130)
    assert "after word 127 is not read" in page.inner_text("#prompt-said")


@pytest.mark.site
def test_regret_is_shown_where_the_truth_is_known_and_only_there(page: Page) -> None:
    say(page, FIRST)
    paid = xray(MODEL, TOKENIZER, FIRST)
    mean = float(paid.regret[:-1].mean()) / log(2)  # END is not in the prompt
    said = page.inner_text("#sheet-said")
    assert said.startswith("Red is regret")
    assert f"{mean:.2f} bits a word" in said
    titles = page.locator("#sheet span").evaluate_all("s => s.map(e => e.title)")
    lost = [float(t.removesuffix(" bits").replace("−", "-")) for t in titles]
    assert lost == pytest.approx(paid.regret[:-1] / log(2), abs=0.006)
    say(page, FIRST.replace("orange", "blue"))
    assert page.inner_text("#sheet-said").startswith("Blue is surprisal")


@pytest.mark.site
def test_the_next_words_are_the_models_beside_the_true_ones(page: Page) -> None:
    before = stories.words(FIRST)[:7]
    say(page, stories.join(before))
    logits, _ = by_torch([TOKENIZER.end_id, *TOKENIZER.encode(stories.join(before))])
    top, truth = logits[-1].softmax(-1).topk(8), stories.next_words(before)
    found = [line.split()[:3] for line in page.locator("#next tr").all_inner_texts()]
    words = [TOKENIZER.words[i] for i in top.indices.tolist()]
    assert [line[0] for line in found] == words
    model, true = ([float(line[i]) for line in found] for i in (1, 2))
    assert model == pytest.approx(top.values.tolist(), abs=0.001)
    assert true == pytest.approx([truth.get(word, 0) for word in words], abs=0.001)


@pytest.mark.site
def test_the_page_opens_on_the_head_that_fetches_the_colour(page: Page) -> None:
    prompt = page.input_value("#prompt")
    assert FIRST.startswith(prompt)
    for colour in ("orange", "blue"):
        say(page, prompt.replace("orange", colour))
        said = page.inner_text("#map-said")
        assert said.startswith("Layer 4, head 2, at “the” (word 82) reads ")
        share, word = said.partition("reads ")[2].split(", ")[0].split(" ", 1)
        assert word == f"“{colour}” (word 8)"
        assert float(share) > 0.9
        best, chance = page.locator("#next tr").first.inner_text().split()[:2]
        assert best == colour
        assert float(chance) > 0.9


@pytest.mark.site
def test_a_continuation_is_drawn_at_the_chosen_temperature(page: Page) -> None:
    page.evaluate("Math.random = () => 0.6")
    say(page, "Once an")
    for temperature in (0.5, 1.7):
        tokens, drawn = [TOKENIZER.end_id, *TOKENIZER.encode("Once an")], 0
        while len(tokens) < 128 and drawn != TOKENIZER.end_id:
            chances = (by_torch(tokens)[0][-1].double() / temperature).softmax(-1)
            drawn = int((chances.cumsum(-1) <= 0.6).sum())
            tokens.append(drawn)
        page.evaluate(f"byId('temperature').value = {temperature}")
        page.click("#go")
        told = TOKENIZER.decode([t for t in tokens if t != TOKENIZER.end_id])
        assert page.inner_text("#continuation").strip() == told
    page.click("#take")
    assert page.input_value("#prompt") == told


@pytest.mark.site
def test_a_prompt_that_fills_every_place_does_not_go_on(page: Page) -> None:
    say(page, "the " * 130)
    page.click("#go")
    assert page.inner_text("#continuation") == "No place is left: shorten the prompt."
    assert page.is_disabled("#take")


@pytest.mark.site
def test_without_scripts_an_example_stands_there(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((SITE / "book" / "try.html").resolve().as_uri())
    assert "runs no scripts" in page.inner_text(".tryit-still")
    cells = page.locator(".tryit-still td").all_inner_texts()
    assert len(cells) == 5
    floor = np.mean(stories.surprisal(FIRST)) / log(2)
    assert float(cells[-1]) == pytest.approx(floor, abs=0.006)
    assert page.locator(".tryit:visible").count() == 0
    context.close()


@pytest.mark.site
def test_with_scripts_the_example_is_gone(page: Page) -> None:
    assert page.locator(".tryit-still").count() == 0
    assert page.locator(".tryit:visible").count() == 5
