"""Every notebook keeps to what a reader may rely on; each check is seen red."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import (
    check_notebooks,
    check_numbers,
    compared,
    execute,
    mutants,
    notebook,
    stages,
)

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_keeps_to_order_budgets_reach_and_figures(path: Path) -> None:
    assert check_notebooks.complaints(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_has_no_number_that_nothing_stands_behind(path: Path) -> None:
    measured = check_numbers.results(ROOT / "results")
    assert check_numbers.notebook_numbers(path, measured) == []


def test_no_class_is_defined_in_two_chapters() -> None:
    assert check_notebooks.repeated_classes(NOTEBOOKS) == []


def test_every_notebook_has_a_floor_of_compared_outputs() -> None:
    assert set(compared.FLOORS) == {path.stem for path in NOTEBOOKS}


def picture(caption: str, alt: str, name: str = "fig-a") -> Any:
    """A cell that drew a figure."""
    data = {"image/svg+xml": "<svg/>", "text/plain": "<Figure size 640x340>"}
    cell = new_code_cell("plt.show()", outputs=[new_output("display_data", data)])
    figure = {"name": name, "caption": caption}
    cell.metadata = {"mystnb": {"figure": figure, "image": {"alt": alt}}}
    return cell


FINDING = "The loss falls fast and then slowly."


def good() -> Any:
    """A chapter in which no check finds anything."""
    found = [new_markdown_cell("# Chapter 3. A title\n\n" + "word " * 2500)]
    for _ in range(24):
        found += [new_code_cell("assert True"), new_markdown_cell("And then we saw.")]
    found.append(picture(FINDING, FINDING))
    for count, cell in enumerate((c for c in found if c.cell_type == "code"), 1):
        cell.execution_count = count
    return new_notebook(cells=found)


def save(content: Any, path: Path) -> Path:
    path.write_text(execute.normal_form(copy.deepcopy(content)), encoding="utf-8")
    return path


def complaints_about(content: Any, tmp_path: Path, stem: str = "03_x") -> list[str]:
    """The complaints, with the notebook's own execution counts."""
    path = save(content, tmp_path / f"{stem}.ipynb")
    clean = json.loads(path.read_text("utf-8"))
    for old, new in zip(content.cells, clean["cells"], strict=True):
        if old.cell_type == "code":
            new["execution_count"] = old.execution_count
    path.write_text(json.dumps(clean, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return check_notebooks.complaints(path)


def test_a_good_notebook_has_no_complaint(tmp_path: Path) -> None:
    assert complaints_about(good(), tmp_path) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("!pip install x", "installs"),
        ("%pip install x", "installs"),
        ("import requests", "network"),
        ('x = load_dataset("imdb")', "network"),
        ('x = "https://example.org"', "network"),
        ('AutoModel.from_pretrained("openai-community/gpt2")', "network"),
        ('open("/home/me/x.txt")', "machine path"),
        ("x = 1;", "ends in ';'"),
        ("\n".join(["x = 1"] * 26), "26 lines, at most 25"),
        ("", "empty"),
    ],
)
def test_a_bad_cell_is_red(tmp_path: Path, code: str, words: str) -> None:
    content = good()
    content.cells[1].source = code
    assert words in "\n".join(complaints_about(content, tmp_path))


def test_a_cell_not_run_from_the_top_is_red(tmp_path: Path) -> None:
    for count in (None, 7):
        content = good()
        content.cells[1].execution_count = count
        assert f"run as {count}" in "\n".join(complaints_about(content, tmp_path))


def test_a_failed_cell_and_stderr_are_red(tmp_path: Path) -> None:
    content = good()
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    content.cells[1].outputs = [error, new_output("stream", name="stderr", text="hm")]
    found = complaints_about(content, tmp_path)
    assert [f.split(": ", 2)[2] for f in found] == [
        "failed with ValueError",
        "wrote to stderr",
    ]
    content.cells[1].metadata = {"tags": ["raises-exception"]}
    content.cells[1].outputs = [error]
    assert complaints_about(content, tmp_path) == []


def test_a_machine_path_in_an_output_is_red(tmp_path: Path) -> None:
    content = good()
    text = "/root/x/site-packages/torch"
    content.cells[1].outputs = [new_output("stream", name="stdout", text=text)]
    assert "machine path" in complaints_about(content, tmp_path)[0]


def test_budgets_are_held_from_both_sides(tmp_path: Path) -> None:
    content = good()
    content.cells[0].source = "# Chapter 3. A title"
    assert "words of prose" in complaints_about(content, tmp_path)[0]
    content.cells[0].source = "word " * 4000
    assert "words of prose" in complaints_about(content, tmp_path)[0]
    content = good()
    content.cells = content.cells[:3] + content.cells[-1:]
    content.cells[-1].execution_count = 2
    found = "\n".join(complaints_about(content, tmp_path))
    assert "2 code cells, expected 25" in found
    assert "1 asserts, expected" in found


def test_an_appendix_may_have_a_budget_of_its_own(tmp_path: Path) -> None:
    content = good()
    content.cells[0].source = "word " * 4800
    assert complaints_about(content, tmp_path, "appendix_c_article") == []
    assert len(complaints_about(content, tmp_path, "appendix_b_pytorch")) == 1


def test_a_notebook_is_found_by_its_number_or_its_letter(tmp_path: Path) -> None:
    stems = ("03_attention", "10_classify", "appendix_b_pytorch", "appendix_c_article")
    for stem in stems:
        save(good(), tmp_path / f"{stem}.ipynb")

    def found(*names: str) -> list[str]:
        return [path.stem for path in execute.find(list(names), tmp_path)]

    assert found() == list(stems)
    assert found("03") == ["03_attention"]
    assert found("B") == ["appendix_b_pytorch"]
    assert found("10", "C") == ["10_classify", "appendix_c_article"]
    assert found("appendix") == ["appendix_b_pytorch", "appendix_c_article"]
    for name in ("D", "12"):
        with pytest.raises(SystemExit, match=f"like 03 or B, got .*{name}"):
            found(name)
    assert [execute.mark(stem) for stem in stems] == ["03", "10", "B", "C"]
    assert execute.mark("draft") is None


def test_a_fault_names_its_chapter_by_number_or_letter(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    path = save(good(), tmp_path / "notebooks" / "appendix_c_article.ipynb")
    command = mutants.chapter_command("C", tmp_path)
    assert command is not None
    assert str(path.relative_to(tmp_path)) in command
    assert mutants.chapter_command("", tmp_path) is None
    assert mutants.chapter_command("12", tmp_path) is None


def test_three_code_cells_in_a_row_are_red(tmp_path: Path) -> None:
    content = good()
    content.cells.insert(len(content.cells) - 1, new_code_cell("1", execution_count=25))
    content.cells.insert(len(content.cells) - 1, new_code_cell("1", execution_count=26))
    content.cells[-1].execution_count = 27
    assert "in a row without prose" in complaints_about(content, tmp_path)[0]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (picture(FINDING, FINDING, name=""), "without a name"),
        (picture("Loss curve", FINDING), "expected a sentence"),
        (picture(FINDING, ""), "without a description"),
        (new_markdown_cell("![x](https://example.org/x.png)"), "another host"),
        (new_markdown_cell("![x](figures/x.png)"), "picture without number"),
        (new_markdown_cell("```{figure} a.svg\n:alt: a\n\nNo.\n```"), "without a name"),
    ],
)
def test_a_figure_without_its_words_is_red(
    tmp_path: Path, cell: Any, words: str
) -> None:
    content = good()
    cell = copy.deepcopy(cell)
    if cell.cell_type == "code":
        cell.execution_count = 25
        content.cells[-1] = cell
    else:
        content.cells.insert(2, cell)
    assert words in "\n".join(complaints_about(content, tmp_path))


def test_noise_in_the_metadata_is_red(tmp_path: Path) -> None:
    path = save(good(), tmp_path / "03_x.ipynb")
    assert execute.noise(path) == []
    content = nbformat.read(path, as_version=4)
    content.cells[1].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    nbformat.write(content, path)
    assert "what `make execute` writes" in execute.noise(path)[0]


def test_a_class_in_two_notebooks_is_red(tmp_path: Path) -> None:
    for stem in ("03_x", "04_y"):
        content = new_notebook(cells=[new_code_cell("class Head:\n    pass")])
        nbformat.write(content, tmp_path / f"{stem}.ipynb")
    found = check_notebooks.repeated_classes(sorted(tmp_path.glob("*.ipynb")))
    assert found == ["04_y.ipynb: class Head is in 03_x.ipynb"]


@pytest.mark.parametrize(
    "text",
    [
        "It costs 3.2 nats.",
        "About 40 % of them.",
        "It is 5× faster.",
        "A 3-fold gain.",
        "Repeated 7 times.",
        "The loss $\\ell = 0.25$ falls.",
        "We see `0.37` here.",
        "A cited one {cite:p}`vaswani2017attention`. Then 3.2 alone.",
        "| model | 1.92 |",
        "```{exercise}\nIt is 0.3 now.\n```",
    ],
)
def test_a_number_that_nothing_stands_behind_is_red(text: str) -> None:
    assert len(check_numbers.loose_numbers(text, set())) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Python 3.11, equation 2.1 and Figure 3.4 in 2019.",
        "A matrix of 3 × 4 numbers, 12 heads, 117 million.",
        "GPT-2 reached 35.76 there {cite:p}`radford2019language`.",
        "Try `Temperature(0.8)`, {numref}`fig-0.3` or [it](https://x.org/2.5).",
        "```python\nx = 0.3\n```",
        "It printed 1.386 and 75 %, which is 12.5 on the disk.",
    ],
)
def test_a_number_with_something_behind_it_passes(text: str) -> None:
    known = check_numbers.known_tokens(["loss 1.386, share 0.75"])
    assert check_numbers.loose_numbers(text, known, [12.4999]) == []


def test_captions_are_prose_too(tmp_path: Path) -> None:
    content = good()
    content.cells[-1] = picture("The loss falls to 2.17 in the end.", FINDING)
    path = save(content, tmp_path / "03_x.ipynb")
    assert "'2.17' stands in no output" in check_numbers.notebook_numbers(path)[0]


def test_a_page_of_the_book_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("It is 2.5 here.\n\n```python\nx = 2.5\n```\n\nAnd 4.5 there.")
    assert "'4.5'" in "\n".join(check_numbers.page_numbers(path))
    assert len(check_numbers.page_numbers(path)) == 1


def test_compared_outputs_below_the_floor_are_red() -> None:
    floors = {"03_x": 10}
    assert compared.below_floor({"03_x": 10}, floors) == []
    assert "at least 10" in compared.below_floor({"03_x": 9}, floors)[0]
    assert "expected a floor" in compared.below_floor({"04_y": 9}, floors)[0]


def nbval(folder: Path) -> subprocess.CompletedProcess[str]:
    """The notebooks stage, on another folder."""
    command = [*stages.NBVAL, f"--rootdir={ROOT}", "-p", "no:cacheprovider"]
    command[command.index("notebooks")] = str(folder)
    return subprocess.run(
        [*command, "--confcutdir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_nbval_is_strict_and_counts_what_it_compares(tmp_path: Path) -> None:
    """A changed digit is red, and so are fewer compared outputs than the floor."""
    (tmp_path / "conftest.py").write_text(
        (ROOT / "conftest.py").read_text("utf-8")
        + f"\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        + "from tools import compared\ncompared.FLOORS = {'03_x': 2}\n"
    )
    content = new_notebook(cells=[new_code_cell("6 * 7"), new_code_cell("print('a')")])
    path = tmp_path / "03_x.ipynb"
    nbformat.write(content, path)
    assert execute.execute(path)
    green = nbval(tmp_path)
    assert green.returncode == 0, green.stdout + green.stderr
    assert "outputs compared: 2" in green.stdout
    whole = path.read_text("utf-8")

    path.write_text(whole.replace('"42"', '"43"'), "utf-8")
    assert nbval(tmp_path).returncode == 1

    ignored = nbformat.reads(whole, as_version=4)
    ignored.cells[0].metadata = {"tags": ["nbval-ignore-output"]}
    nbformat.write(ignored, path)
    red = nbval(tmp_path)
    assert red.returncode == 1
    assert "expected at least 2 compared outputs, got 1" in red.stdout


@pytest.mark.slow
def test_executing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    drawing = (
        "from minigpt.bookstyle import start\nimport matplotlib.pyplot as plt\n"
        "_ = start()\nprint('a')\nprint('b')\nplt.plot([1, 3, 2])\nplt.show()"
    )
    path = tmp_path / "03_x.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(drawing)]), path)
    assert execute.execute(path)
    first = path.read_bytes()
    assert b"svg" in first
    assert execute.execute(path)
    assert path.read_bytes() == first
    assert execute.noise(path) == []


def test_a_failing_notebook_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "03_x.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    assert not execute.execute(path)
    assert path.read_bytes() == before


def test_a_notebook_survives_the_trip_through_text(tmp_path: Path) -> None:
    path, text = save(good(), tmp_path / "03_x.ipynb"), tmp_path / "03.md"
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    notebook.to_text(path, text)
    text.write_text(text.read_text("utf-8").replace("And then", "So then", 1), "utf-8")
    notebook.to_notebook(text, path)
    after = nbformat.read(path, as_version=4)
    assert [cell.id for cell in after.cells] == ids
    assert after.cells[2].source == "So then we saw."
    assert after.cells[-1].outputs
    assert after.cells[-1].metadata.mystnb.figure.caption == FINDING


def test_stages_are_counted_and_none_stops_the_rest() -> None:
    table = stages.table({"lint": (True, 1.0), "unit": (False, 2.0)})
    assert table.endswith("stages: 1 passed, 1 failed")
    assert "FAILED" in table
    assert stages.main(["nonsense"]) == 2


@pytest.mark.parametrize(
    ("stage", "code", "passed"), [("unit", 5, False), ("slow", 5, True)]
)
def test_a_stage_without_tests_passes_only_where_that_is_declared(
    monkeypatch: pytest.MonkeyPatch, stage: str, code: int, passed: bool
) -> None:
    command = (sys.executable, "-c", f"raise SystemExit({code})")
    monkeypatch.setitem(stages.STAGES, stage, [command])
    assert stages.run(stage) is passed


def test_a_drawing_is_stored_slim_and_draws_the_same() -> None:
    kept = '<use transform="translate({} -3) scale(0.015625)" xlink:href="#a-1"/>'
    drawn = (
        f"<g> <!-- stir --> <metadata> <x/> </metadata> {kept.format('60.203125')} </g>"
    )
    assert execute.slim(drawn) == f"<g>{kept.format('60.20')}</g>"
    assert execute.slim(execute.slim(drawn)) == execute.slim(drawn)
