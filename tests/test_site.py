"""The rendered book in a browser, from file://, wide and narrow, light and dark.

Each page is opened once, and then seen at both widths in both schemes. Chromium is
found by path (CHROMIUM, or `chromium` or `google-chrome` on the PATH).
Without one these tests are skipped and say so; where CI=true that is a failure.
Pictures of the main pages are left in _build/screenshots for people to look at.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page
from playwright.sync_api import TimeoutError as TooLate

from tools.check_site import SITE, pages

SCREENSHOTS = SITE.parent / "screenshots"
PHOTOGRAPHED = ("index", "preface", "00_one_page", "03_attention")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
WEIGHT = 1_500_000  # bytes of a page and its pictures
APART = "/_static/"  # what all pages share is loaded once: the theme, MathJax, weights
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
# Axe's rules that look at colours; in the dark no other can say anything new.
COLOURS = ["color-contrast", "link-in-text-block"]
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
# Axe takes a second for every thousand words of code, each of them a span. Marks of one
# kind, in frames of one kind, look alike: one is left to stand for all. Formulas lose
# their glyphs, and of the reference's entries, which one template makes, a page keeps a
# dozen of each kind. Nothing fades either: a colour halfway is nobody's.
THIN = """() => {
  for (const glyphs of document.querySelectorAll('mjx-container svg'))
    glyphs.replaceChildren();
  for (const kind of ['class', 'function', 'method', 'attribute', 'property'])
    for (const entry of [...document.querySelectorAll('dl.py.' + kind)].slice(12))
      entry.remove();
  const marks = 'pre span, dt.sig :is(span, em), code, code span, a.headerlink';
  const frames = '.cell_input, .cell_output, dt, dd, .admonition, nav';
  const seen = new Set();
  for (const mark of [...document.querySelectorAll(marks)].reverse()) {
    const around = [mark.closest(frames), mark.parentElement, mark];
    const kind = around.map(e => e?.tagName + e?.className).join('/');
    if (mark.children.length || mark.id) continue;
    if (seen.has(kind)) mark.replaceWith(...mark.childNodes);
    seen.add(kind);
  }
  document.body.normalize();
  document.head.insertAdjacentHTML(
    'beforeend', '<style>* { transition: none !important }</style>');
}"""
# The theme lets keys reach what scrolls a moment after the page has changed its width.
REACHED = """() => [
  ...document.querySelectorAll('pre, .output, .pst-scrollable-table-container')
].every(box => box.scrollWidth <= box.clientWidth || box.tabIndex == 0)"""
# What axe finds, as: how bad, which rule, how often, and the first place.
VIOLATIONS = """async (rules) => {
  const run = rules.length ? {runOnly: rules} : {};
  const found = await axe.run({...run, resultTypes: ['violations'], preload: false});
  return found.violations.filter(v => ['serious', 'critical'].includes(v.impact))
    .map(v => `${v.impact}: ${v.id}, ${v.nodes.length} times: `
      + v.nodes[0].html.slice(0, 120) + ' ' + v.nodes[0].failureSummary.slice(0, 200))
}"""


def find_browser() -> str | None:
    """The path of a Chromium that is already there."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for n in NAMES if (path := shutil.which(n))), None)


class Visit:
    """One page, opened as a reader opens it, and what went wrong on the way."""

    def __init__(
        self,
        browser: Browser,
        path: Path,
        size: str = "desktop",
        scheme: str = "light",
    ) -> None:
        width, height = SIZES[size]
        self.name, self.view = path.stem, f"{size} {scheme}"
        self.wrong: list[str] = []
        self.loaded = {path.resolve().as_uri()}
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        self.page.on("request", lambda request: self.note_request(request.url))
        self.page.on("console", lambda message: self.note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.note("error", str(error)))
        self.page.goto(path.resolve().as_uri(), wait_until="load", timeout=120_000)
        self.page.evaluate("window.MathJax?.startup?.promise")

    def turn(self, size: str, scheme: str) -> None:
        """See the page at another width, in another scheme."""
        width, height = SIZES[size]
        self.view = f"{size} {scheme}"
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate("to => document.documentElement.dataset.theme = to", scheme)

    def note(self, kind: str, text: str) -> None:
        if kind == "error":
            self.add(f"console: {text}")

    def note_request(self, url: str) -> None:
        self.loaded.add(url.partition("#")[0].partition("?")[0])
        if not url.startswith(("file:", "data:", "blob:")):
            self.add(f"request: {url}")

    def add(self, fault: str) -> None:
        self.wrong.append(f"{self.name} {self.view}: {fault}")

    def look(self) -> list[str]:
        """Note everything wrong with the page as it is seen now; all noted so far."""
        page = self.page
        if raw := page.evaluate(FORMULAS):
            self.add(f"formula not drawn: {raw[:2]}")
        if page.evaluate(MISTAKES):
            self.add("a formula is drawn as an error")
        if "$$" in page.inner_text("body"):
            self.add("raw $$ on the page")
        if (over := page.evaluate(OVERFLOW)) > 0:
            self.add(f"scrolls sideways by {over} px: {page.evaluate(WIDE)}")
        if empty := page.evaluate(EMPTY_IMAGES):
            self.add(f"images do not load: {empty}")
        return self.wrong

    def weigh(self) -> int:
        """Bytes of the page and of all that it alone loads."""
        urls = [u for u in self.loaded if u.startswith("file:")]
        paths = [Path(unquote(urlsplit(u).path)) for u in urls]
        counted = [p for p in paths if APART not in p.as_posix()]
        weight = sum(p.stat().st_size for p in counted if p.exists())
        if weight > WEIGHT:
            self.add(f"{weight:,} bytes with all it loads, at most {WEIGHT:,}")
        return weight

    def ask_axe(self) -> None:
        """Note what shuts readers out, at both widths and in both schemes."""
        self.page.evaluate(THIN)
        self.page.evaluate(AXE.read_text("utf-8"))
        for size in SIZES:
            self.turn(size, "light")
            with suppress(TooLate):  # axe will say what is out of reach
                self.page.wait_for_function(REACHED, timeout=2_000)
            for scheme in SCHEMES:
                self.turn(size, scheme)
                rules = COLOURS if scheme == "dark" else []
                for found in self.page.evaluate(VIOLATIONS, rules):
                    self.add(found)

    def photograph(self) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        name = f"{self.name}-{self.view.replace(' ', '-')}.png"
        self.page.screenshot(path=SCREENSHOTS / name, full_page=True)


def every_page() -> list[Path]:
    """All that a reader can open: the chapters, the search, the indices."""
    redirect, parts = SITE / "index.html", SITE / "_static"  # parts: the theme's
    return [p for p in pages(SITE) if p != redirect and parts not in p.parents]


@pytest.mark.site
@pytest.mark.parametrize("path", every_page(), ids=lambda path: path.stem)
def test_every_page_opens_whole_from_the_disk_and_shuts_nobody_out(
    browser: Browser, path: Path
) -> None:
    """No error, no request, mathematics drawn, nothing wider than the page, axe quiet.

    Axe's serious and critical rules hold without exception.
    """
    visit = Visit(browser, path)
    for size in SIZES:
        visit.turn(size, "light")
        visit.look()  # nothing that this sees depends on the scheme
        for scheme in SCHEMES if path.stem in PHOTOGRAPHED else ():
            visit.turn(size, scheme)
            visit.photograph()
    visit.weigh()
    visit.ask_axe()
    visit.page.close()
    assert visit.wrong == []


@pytest.mark.site
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_page_takes_the_readers_scheme(browser: Browser, scheme: str) -> None:
    visit = Visit(browser, SITE / "book/preface.html", "desktop", scheme)
    assert visit.page.evaluate("document.documentElement.dataset.theme") == scheme
    visit.page.close()


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


# Where the keys have led, and whether a reader sees it.
FOCUS = """() => {
  const here = document.activeElement, style = getComputedStyle(here);
  const box = here.getBoundingClientRect();
  const drawn = parseFloat(style.outlineWidth) > 1 && style.outlineStyle != 'none';
  return {
    name: here == document.body ? '' : here.outerHTML.slice(0, 90),
    text: here.textContent.trim(),
    seen: drawn && (box.width > 0 || here.tagName == 'SUMMARY'),
    toggle: here.classList.contains('toggle-button'),
    closed: !!here.closest('.admonition')?.classList.contains('toggle-hidden'),
  }
}"""


@pytest.mark.site
def test_a_chapter_can_be_read_by_keys_alone(browser: Browser) -> None:
    """The skip link first, every stop seen, solutions open, search finds and goes."""
    visit = Visit(browser, SITE / "notebooks/03_attention.html")
    page, opened, unseen = visit.page, 0, []
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS)["text"] == "Skip to main content"
    for _ in range(500):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUS)
        if not stop["name"]:
            break
        if not stop["seen"]:
            unseen.append(stop["name"])
        if stop["toggle"] and stop["closed"]:
            page.keyboard.press("Enter")
            opened += not page.evaluate(FOCUS)["closed"]
    assert unseen == []
    assert opened >= 4
    assert opened == page.locator(".admonition.dropdown").count()
    page.keyboard.press("Control+k")
    page.keyboard.type("softmax")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a", timeout=15_000)
    page.locator("#search-results li a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "search.html" not in url)
    visit.page.close()


@pytest.mark.site
def test_the_skip_link_skips(browser: Browser) -> None:
    visit = Visit(browser, SITE / "book/preface.html")
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    assert visit.page.url.endswith("#main-content")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("!!document.activeElement.closest('main')")
    visit.page.close()


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
@pytest.mark.parametrize("scheme", SCHEMES)
def test_shaded_words_lie_on_the_page_and_can_be_read(
    browser: Browser, scheme: str
) -> None:
    visit = Visit(browser, SITE / "notebooks/00_one_page.html")
    visit.turn("desktop", scheme)
    contrasts = visit.page.evaluate(CONTRASTS)
    cards = visit.page.locator(".text_html").evaluate_all(
        "cards => cards.map(card => getComputedStyle(card).backgroundColor)"
    )
    visit.page.close()
    assert set(cards) == {"rgba(0, 0, 0, 0)"}
    assert len(contrasts) > 100
    assert min(contrasts) > 4.5


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A page with one fault of each kind that only a browser sees."""
    page = tmp_path / "faulty.html"
    page.write_text(
        "<html lang='en'><title>Faulty</title>"
        "<style>pre { background: #fff } .kn { color: #bbb } .k { color: #333 }"
        "[data-theme=dark] { color: #eee; background: #111 }"
        "[data-theme=dark] .k { color: #aaa } </style>"
        "<article class='bd-article'><div class='math'>$$ x $$</div>"
        "<div class='highlight'><pre><span class='kn'>from</span> "
        "<span class='kn'>import</span> <span class='k'>a</span></pre></div>"
        "<div style='width: 900px'>wide</div><img src='nothing.png'>"
        "<script>console.error('oh')</script>"
        "<script src='https://cdn.example.org/x.js'></script></article>"
    )
    return page


@pytest.mark.site
def test_each_fault_of_a_page_is_red(
    browser: Browser, faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "WEIGHT", 100)
    visit = Visit(browser, faulty, "phone")
    visit.look()
    weight = visit.weigh()
    visit.ask_axe()
    visit.page.close()
    assert weight == faulty.stat().st_size
    found = "\n".join(visit.wrong)
    for words in (
        "console: oh",
        "request: https://cdn.example.org/x.js",
        "formula not drawn",
        "raw $$",
        "scrolls sideways",
        "images do not load",
        "bytes with all it loads, at most 100",
        "critical: image-alt, 1 times",
        "phone light: serious: color-contrast, 1 times",
        "desktop dark: serious: color-contrast, 2 times",
    ):
        assert words in found


def test_a_missing_browser_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "")
    assert find_browser() is None
    monkeypatch.setenv("CHROMIUM", "/a/browser")
    assert find_browser() == "/a/browser"
