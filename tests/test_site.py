"""The rendered book in a browser, from file://, wide and narrow, light and dark.

Chromium is found by path (CHROMIUM, or `chromium` or `google-chrome` on the PATH).
Without one these tests are skipped and say so; where CI=true that is a failure.
Pictures of the main pages are left in _build/screenshots for people to look at.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tools.check_site import SITE, our_pages

SCREENSHOTS = SITE.parent / "screenshots"
PHOTOGRAPHED = ("index", "preface", "00_one_page", "03_attention")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
NAMES = ("chromium", "chromium-browser", "google-chrome")

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
WIDE = """() => [...document.querySelectorAll('.bd-article *')]
  .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1)
  .filter(e => { for (let p = e.parentElement; p != document.body; p = p.parentElement)
      if (getComputedStyle(p).overflowX != 'visible') return false;
      return true })
  .map(e => e.tagName + '.' + e.className).slice(0, 3)"""
FORMULAS = """() => [...document.querySelectorAll('.bd-article .math')]
  .filter(e => !e.querySelector('mjx-container svg')).map(e => e.textContent)"""
MISTAKES = "document.querySelectorAll('mjx-container [data-mml-node=merror]').length"
EMPTY_IMAGES = """() => [...document.images].filter(i => i.loading != 'lazy')
  .filter(i => !i.complete || i.naturalWidth == 0).map(i => i.src)"""


def find_browser() -> str | None:
    """The path of a Chromium that is already there."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for n in NAMES if (path := shutil.which(n))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("expected a browser in CI, got none: install chromium")
    if path is None:
        pytest.skip("no browser found: only the static checks of the site have run")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"] if root else []
        )
        yield launched
        launched.close()


class Visit:
    """One page, opened as a reader opens it, and what went wrong on the way."""

    def __init__(self, browser: Browser, path: Path, size: str, scheme: str) -> None:
        width, height = SIZES[size]
        self.name, self.size, self.scheme = path.stem, size, scheme
        self.wrong: list[str] = []
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        self.page.on("request", lambda request: self.note_request(request.url))
        self.page.on("console", lambda message: self.note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.note("error", str(error)))
        self.page.goto(path.resolve().as_uri(), wait_until="load")
        self.page.evaluate("window.MathJax?.startup?.promise")

    def note(self, kind: str, text: str) -> None:
        if kind == "error":
            self.wrong.append(f"console: {text}")

    def note_request(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(f"request: {url}")

    def look(self) -> list[str]:
        """Everything wrong on this page."""
        page = self.page
        raw = page.evaluate(FORMULAS)
        if raw:
            self.wrong.append(f"formula not drawn: {raw[:2]}")
        if page.evaluate(MISTAKES):
            self.wrong.append("a formula is drawn as an error")
        if "$$" in page.inner_text(".bd-article"):
            self.wrong.append("raw $$ on the page")
        if (over := page.evaluate(OVERFLOW)) > 0:
            self.wrong.append(f"scrolls sideways by {over} px: {page.evaluate(WIDE)}")
        if empty := page.evaluate(EMPTY_IMAGES):
            self.wrong.append(f"images do not load: {empty}")
        return [f"{self.name} {self.size} {self.scheme}: {w}" for w in self.wrong]

    def photograph(self) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        name = f"{self.name}-{self.size}-{self.scheme}.png"
        self.page.screenshot(path=SCREENSHOTS / name, full_page=True)


@pytest.mark.site
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_opens_whole_from_the_disk(
    browser: Browser, size: str, scheme: str
) -> None:
    """No error, no request, mathematics drawn, nothing wider than the page."""
    wrong: list[str] = []
    for path in our_pages(SITE):
        visit = Visit(browser, path, size, scheme)
        wrong += visit.look()
        if path.stem in PHOTOGRAPHED:
            visit.photograph()
        visit.page.close()
    assert wrong == []


@pytest.mark.site
def test_the_first_page_leads_to_the_book(browser: Browser) -> None:
    page = browser.new_page()
    page.goto((SITE / "index.html").resolve().as_uri())
    page.wait_for_url("**/book/index.html")
    page.close()


@pytest.mark.site
def test_search_finds_a_word(browser: Browser) -> None:
    path = (SITE / "search.html").resolve()
    page = browser.new_page()
    page.goto(path.as_uri() + "?q=attention")
    page.wait_for_selector("#search-results li a", timeout=15_000)
    found = page.locator("#search-results li a").all_inner_texts()
    page.close()
    assert any("Attention" in title for title in found)


# The contrast of each shaded word with the page and the shade it stands on (WCAG).
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v > 0.04045 ? ((v + 0.055) / 1.055) ** 2.4 : v / 12.92)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0.05);
  const page = numbers(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll('.text_html span')].map((word) => {
    const style = getComputedStyle(word);
    const [r, g, b, alpha = 1] = numbers(style.backgroundColor);
    const paper = [r, g, b].map((v, i) => alpha * v + (1 - alpha) * page[i]);
    const [a, z] = [light(paper), light(numbers(style.color))];
    return Math.max(a, z) / Math.min(a, z);
  });
}"""


@pytest.mark.site
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_shaded_words_lie_on_the_page_and_can_be_read(
    browser: Browser, scheme: str
) -> None:
    visit = Visit(browser, SITE / "notebooks/00_one_page.html", "desktop", scheme)
    contrasts = visit.page.evaluate(CONTRASTS)
    cards = visit.page.locator(".text_html").evaluate_all(
        "cards => cards.map(card => getComputedStyle(card).backgroundColor)"
    )
    visit.page.close()
    assert set(cards) == {"rgba(0, 0, 0, 0)"}
    assert len(contrasts) > 100
    assert min(contrasts) > 3.7


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A page with one fault of each kind that only a browser sees."""
    page = tmp_path / "faulty.html"
    page.write_text(
        "<article class='bd-article'><div class='math'>$$ x $$</div>"
        "<div style='width: 900px'>wide</div><img src='nothing.png'>"
        "<script>console.error('oh')</script>"
        "<script src='https://cdn.example.org/x.js'></script></article>"
    )
    return page


@pytest.mark.site
def test_each_fault_of_a_page_is_red(browser: Browser, faulty: Path) -> None:
    visit = Visit(browser, faulty, "phone", "light")
    found = "\n".join(visit.look())
    visit.page.close()
    for words in (
        "console: oh",
        "request: https://cdn.example.org/x.js",
        "formula not drawn",
        "raw $$",
        "scrolls sideways",
        "images do not load",
    ):
        assert words in found


def test_a_missing_browser_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "")
    assert find_browser() is None
    monkeypatch.setenv("CHROMIUM", "/a/browser")
    assert find_browser() == "/a/browser"
