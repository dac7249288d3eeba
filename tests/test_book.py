"""The book: its sources, and (stage `site`) the files that rendering made of them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import check_notebooks, check_numbers, check_site, exercises, extra, stages

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "book").glob("*.md"))
EXTENSIONS = ROOT / "book" / "_ext"
sys.path.insert(0, str(EXTENSIONS))

import chapter_numbers  # noqa: E402
import docstrings  # noqa: E402
import measured  # noqa: E402
import reading  # noqa: E402
import repository  # noqa: E402
import solutions  # noqa: E402


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_has_no_number_that_nothing_stands_behind(path: Path) -> None:
    measured = check_numbers.results(ROOT / "results")
    assert check_numbers.page_numbers(path, measured) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_figure_of_a_page_has_name_finding_and_description(path: Path) -> None:
    assert list(check_notebooks.directive_complaints(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (":alt: six boxes in a row, numbered", "without a name"),
        (":name: fig-a", "without a description"),
        (":name: fig-a\n:alt: six boxes in a row, numbered", "expected a sentence"),
    ],
)
def test_a_figure_without_its_words_is_red(figure: str, words: str) -> None:
    page = f"```{{figure}} a.svg\n{figure}\n\nA caption\n```"
    assert words in "\n".join(check_notebooks.directive_complaints(page))
    page = f"```{{figure}} https://example.org/a.svg\n{figure}\n\nA caption\n```"
    assert "another host" in "\n".join(check_notebooks.directive_complaints(page))


def test_the_package_is_read_without_its_heavy_imports() -> None:
    """As `make book` does, in an environment that has no torch."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "minigpt").rglob("*.py"))
        if not path.stem.startswith("__")
    ]
    code = f"""
import sys
sys.path[:0] = [{str(EXTENSIONS)!r}, {str(ROOT)!r}]
from stand_ins import HEAVY, HeavyModule, standing_in
with standing_in():
    for name in {names}:
        __import__(name)
loaded = [sys.modules[name] for name in HEAVY if name in sys.modules]
assert loaded and all(isinstance(module, HeavyModule) for module in loaded)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_table_of_results_is_read_from_its_file() -> None:
    rows: dict[str, dict[str, Any]]
    rows = {"a": {"n": 1200, "x": 0.12345}, "b": {"n": 5, "x": None}}
    found = {"runs": rows}
    lines = measured.lines_of(["Run | @", "", "n | n", "Loss | x | .2f"])
    assert measured.grid(found, lines, "runs") == [
        ["Run", "n", "Loss"],
        ["a", "1,200", "0.12"],
        ["b", "5", "not run"],
    ]
    assert measured.at({"x": "not run: no network"}, "x/value") == "not run: no network"
    mixed = {"runs": {"a": {"n": 1}, "b": {"m": 2}}}
    assert measured.grid(mixed, measured.lines_of(["Run | @", "n | n"]), "runs") == [
        ["Run", "n"],
        ["a", "1"],
    ]
    rows["a"]["factor"] = {"rate": 2}
    assert measured.grid(found, measured.lines_of(["By | factor"]), "runs") == [
        ["By"],
        ["rate 2"],
    ]
    with pytest.raises(KeyError, match="'speed' is not in it: there are n, x"):
        measured.grid(found, measured.lines_of(["Speed | speed"]), "runs")
    single = measured.lines_of(["Loss of a | runs/a/x"])
    assert measured.grid(found, single, None)[1:] == [["Loss of a", "0.123"]]
    assert measured.shown([0.1, 0.25], ".1f") == "0.1 to 0.2"
    with pytest.raises(KeyError, match="'c' is not in it: there are a, b"):
        measured.at(found, "runs/c/x")
    table = measured.table_of([["", ""], ["Loss of `a`", "0.123"]])
    assert [node.astext() for node in table.findall(measured.nodes.literal)] == ["a"]
    assert [type(one).__name__ for one in table[0]] == ["colspec", "colspec", "tbody"]


def test_the_making_of_a_result_is_told_in_one_line() -> None:
    found = {"command": "run", "commit": "abc", "date": "today", "seeds": [1, 2]}
    assert measured.made(found) == "commit abc; date today; seeds 1, 2"


def test_the_list_of_solutions_names_and_links_every_exercise() -> None:
    one = exercises.Exercise("ex-3-1", "3.1", "Two", "Easy", "5 minutes", "c", True)
    two = exercises.Exercise("ex-3-2", "3.2", "Six", "Open", "an evening", None, False)
    rows = solutions.rows("03_x", [one, two])
    table = measured.table_of(rows)
    said = [
        [cell.astext() for cell in row] for row in table.findall(solutions.nodes.row)
    ]
    assert said == [
        ["Exercise", "Kind and time", "Answer"],
        ["3.1 Two", "Easy, 5 minutes", "solution, checker"],
        ["3.2 Six", "Open, an evening", "yours"],
    ]
    links = list(table.findall(solutions.nodes.reference))
    assert [link["refuri"] for link in links] == [
        "../notebooks/03_x.html#ex-3-1",
        "",
        "../notebooks/03_x.html#ex-3-2",
    ]
    document = solutions.nodes.section("", table)
    node = {"target_label": "ex-3-1"}
    page = {"docname": "notebooks/03_x", "node": {}}
    registry = {
        "ex-3-1": {**page, "type": "exercise"},
        "sol-1": {**page, "type": "solution-start", "node": node},
    }
    app = SimpleNamespace(env=SimpleNamespace(sphinx_exercise_registry=registry))
    solutions.resolve(app, document, "book/solutions")  # type: ignore[arg-type]
    assert links[1]["refuri"] == "../notebooks/03_x.html#sol-1"


def test_the_length_of_a_way_is_counted_from_its_notebooks(tmp_path: Path) -> None:
    chapter = new_markdown_cell("word " * 3000)
    exercise = new_markdown_cell(
        "```{exercise} Two\n:label: ex-2-1\n*By hand, 40 minutes.* How many?\n```"
    )
    code = [new_code_cell("1") for _ in range(30)]
    for name in ("02_tokenizer", "appendix_b_pytorch"):
        cells = [chapter, exercise, *code]
        nbformat.write(new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    known = reading.chapters(tmp_path)
    assert list(known) == ["2", "B"]
    assert 30 < known["2"].reading < 30.1
    assert known["2"].exercises == 40
    assert reading.rows(["All | 1-2 B"], known)[1][2:] == ["1 hour", "1¼ hours"]
    found = reading.links(list(reading.numbers("1-2 B")), known)
    assert "".join(node.astext() for node in found) == "(1), 2, B"
    shown = [n["refuri"] for n in found if isinstance(n, reading.nodes.Element)]
    assert shown == [
        "../notebooks/02_tokenizer.html",
        "../notebooks/appendix_b_pytorch.html",
    ]


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        (20, "15 minutes"),
        (67, "1 hour"),
        (70, "1¼ hours"),
        (119, "2 hours"),
        (400, "6½ hours"),
    ],
)
def test_a_length_of_time_is_said_as_roughly_as_it_is_known(
    minutes: int, said: str
) -> None:
    assert reading.hours(minutes) == said


def test_figures_are_numbered_by_chapter() -> None:
    numbers = {
        "notebooks/03_attention": {"figure": {"fig-a": (1,), "fig-b": (2,)}},
        "notebooks/00_one_page": {"figure": {"fig-c": (3,)}},
        "notebooks/appendix_b_pytorch": {"figure": {"fig-e": (5,)}},
        "book/index": {"figure": {"fig-d": (4,)}},
    }
    chapter_numbers.renumber(numbers)
    assert numbers == {
        "notebooks/03_attention": {"figure": {"fig-a": (3, 1), "fig-b": (3, 2)}},
        "notebooks/00_one_page": {"figure": {"fig-c": (0, 1)}},
        "notebooks/appendix_b_pytorch": {"figure": {"fig-e": ("B", 1)}},
        "book/index": {"figure": {"fig-d": (4,)}},
    }


def test_appendices_are_lettered_in_their_order() -> None:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    pages = next(p for p in contents["parts"] if p["caption"] == "Appendices")
    letters = []
    for entry in pages["chapters"]:
        path = next(ROOT.glob(f"{entry['file']}.*"))
        title = re.search(r"# ([A-Z]) · \w", path.read_text("utf-8"))
        assert title is not None, f"{entry['file']}: expected a title like '# A · …'"
        letters.append(title[1])
    assert letters == sorted(letters)  # an appendix may have several pages
    assert "".join(dict.fromkeys(letters)) == "ABCDEFGH"


def test_an_indented_block_of_a_docstring_is_shown_as_it_stands() -> None:
    lines = ["The sum:", "", "    a = b", "", "Then more."]
    shown = ["The sum:", "", "::", "", "    a = b", "", "Then more."]
    assert docstrings.show_blocks(lines) == shown
    assert docstrings.escape_bars("a <|b|> `c|d`") == r"a <\|b\|> `c|d`"


@pytest.mark.parametrize("address", ["", "https://example.org/minigpt"])
def test_links_to_the_repository_need_its_address(tmp_path: Path, address: str) -> None:
    urls = f'\n[project.urls]\nRepository = "{address}"' if address else ""
    (tmp_path / "pyproject.toml").write_text(f"[project]\nname = 'x'{urls}")
    config = SimpleNamespace(html_theme_options={"show_toc_level": 2})
    repository.add_links(SimpleNamespace(srcdir=tmp_path), config)  # type: ignore[arg-type]
    assert config.html_theme_options["use_repository_button"] is bool(address)
    assert config.html_theme_options["repository_url"] == address
    assert config.html_theme_options["show_toc_level"] == 2


def test_the_book_extra_installs_no_torch() -> None:
    lines = extra.requirements("book")
    assert any(line.startswith("jupyter-book") for line in lines)
    assert not any(line.startswith(("torch", "minigpt")) for line in lines)


@pytest.mark.slow
def test_what_does_not_resolve_stops_the_build(tmp_path: Path) -> None:
    """References, citations, terms, equations and links, each with one fault."""
    faults = {
        "ref": "{ref}`nowhere`",
        "numref": "{numref}`fig-nowhere`",
        "cite": "{cite}`nobody2020`",
        "term": "{term}`nothing`",
        "eq": "{eq}`eq-nowhere`",
        "doc": "{doc}`nopage`",
        "link": "[x](nopage.md)",
        "class": "{py:class}`minigpt.model.Nothing`",
    }
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "pyproject.toml", "book/references.bib"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(EXTENSIONS, tmp_path / "book" / "_ext")
    (tmp_path / "book" / "_static").mkdir()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    page = tmp_path / "book" / "index.md"
    build = stages.STAGES["book"][0]

    page.write_text("# Page\n\nNothing wrong here, {math}`x`.\n")
    assert subprocess.run(build, cwd=tmp_path, capture_output=True).returncode == 0

    page.write_text("# Page\n\n" + "\n\n".join(faults.values()))
    red = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert red.returncode != 0
    said = red.stdout + red.stderr
    missing = [
        name
        for name, text in faults.items()
        if text.strip("`)").split("`")[-1].split("(")[-1] not in said
    ]
    assert missing == []


@pytest.fixture(scope="session")
def site() -> Path:
    """The rendered book."""
    if not (check_site.SITE / "book" / "index.html").exists():
        pytest.fail("expected the rendered book in _build/html: run `make book` first")
    return check_site.SITE


@pytest.mark.site
def test_the_rendered_book_has_no_complaint(site: Path) -> None:
    assert check_site.complaints(site) == []


@pytest.mark.site
def test_every_chapter_can_be_downloaded_as_a_notebook(site: Path) -> None:
    for page in (site / "notebooks").glob("*.html"):
        stem = f"_sources/notebooks/{page.stem}.ipynb"
        assert f'href="../{stem}"' in page.read_text("utf-8")
        assert (site / stem).exists()


@pytest.mark.site
def test_no_page_links_to_a_repository_that_is_not_ours(site: Path) -> None:
    for page in check_site.pages(site):
        assert "executablebooks" not in page.read_text("utf-8")


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<script src="//cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example.org/x.css">',
        '<link rel="preconnect" href="https://fonts.example.org">',
        '<img src="https://example.org/x.png">',
    ],
)
def test_a_resource_from_another_host_is_red(tmp_path: Path, html: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(html)
    assert len(list(check_site.foreign_resources(page))) == 1
    page.write_text('<a href="https://example.org">a citation</a><img src="x.png">')
    check_site.soup.cache_clear()
    assert list(check_site.foreign_resources(page)) == []


def test_a_style_from_another_host_is_red(tmp_path: Path) -> None:
    page = tmp_path / "x.css"
    page.write_text("@font-face { src: url('https://fonts.example.org/x.woff') }")
    assert len(list(check_site.foreign_resources(page))) == 1


@pytest.mark.parametrize("href", ["no.html", "#nowhere", "page.html#nowhere"])
def test_a_broken_link_is_red(tmp_path: Path, href: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f'<a href="#here">x</a><p id="here"><a href="{href}">y</a>')
    assert len(list(check_site.broken_links(page))) == 1


@pytest.mark.parametrize(
    ("html", "number"),
    [
        ('<figure><img alt="a b c" src="x"><span class="caption-number">1</span>', 1),
        ('<img alt="a b c" src="x">', 1),
        ('<img alt="" src="x">', 2),
    ],
)
def test_a_picture_without_its_words_is_red(
    tmp_path: Path, html: str, number: int
) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<article>{html}</article>")
    assert len(list(check_site.picture_complaints(page))) == number


def test_an_incomplete_entry_of_the_reference_is_red(tmp_path: Path) -> None:
    package = tmp_path / "minigpt"
    package.mkdir()
    code = (
        "def shown(x: int) -> int:\n    raise ValueError('no')\n"
        "def hidden() -> None: ...\n"
    )
    (package / "model.py").write_text(code)
    page = tmp_path / "api.html"
    entry = (
        '<dl><dt id="minigpt.model.shown">shown( x : int ) → int</dt><dd>{}</dd></dl>'
    )
    page.write_text(entry.format("It raises ValueError."))
    assert list(check_site.api_complaints(tmp_path, package)) == [
        "minigpt.model.hidden: not in the API reference"
    ]
    page.write_text(entry.format("").replace(": int", "").replace("→ int", ""))
    check_site.soup.cache_clear()
    assert len(list(check_site.api_complaints(tmp_path, package))) == 4
