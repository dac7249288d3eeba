"""Every exercise is solved or open, and checkers have been seen to say yes and no."""

import ast
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import exercises
from tools.execute import find

NOTEBOOKS = find([])
SOLUTION = "````{solution-start} ex-3-1\n:class: dropdown\n````"


def asked(
    opening: str = "*By hand, 5 minutes.* How many?", label: str = "ex-3-1"
) -> str:
    """An exercise's text."""
    return f"```{{exercise}} Two of a kind\n:label: {label}\n{opening}\n```"


def written(tmp_path: Path, *found: nbformat.NotebookNode) -> Path:
    path = tmp_path / "03_x.ipynb"
    nbformat.write(new_notebook(cells=list(found)), path)
    return path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_checkers_judge_two_exercises_and_turn_wrong_answers_away(path: Path) -> None:
    assert list(exercises.complaints(path)) == []


def test_an_exercise_is_read_with_its_number_kind_and_time(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        new_markdown_cell(asked("*Hard, with a GPU,\nhalf an hour.* Do.")),
        new_markdown_cell("Well. " + asked("*Open, an evening.* Play.", "ex-3-2")),
        new_markdown_cell(asked("*Open, an evening.* Play.", "ex-3-2")),
        new_code_cell("def check_3_1(n: int) -> bool:\n    return n == 3"),
        new_markdown_cell(SOLUTION),
    )
    first, second = exercises.exercises(path)
    assert first == (
        *("ex-3-1", "3.1", "Two of a kind", "Hard, with a GPU", "half an hour"),
        *("check_3_1", True),
    )
    assert (second.number, second.checker, second.solved) == ("3.2", None, False)
    assert (first.open, second.open) == (False, True)
    assert first._replace(time="an evening").open
    assert (first.minutes, second.minutes) == (30, 0)
    assert first._replace(time="5 minutes").minutes == 5


@pytest.mark.parametrize(
    "opening", ["How many?", "*By hand.* Two?", "*5 minutes.* Two?"]
)
def test_an_exercise_without_kind_or_time_is_refused(
    tmp_path: Path, opening: str
) -> None:
    path = written(tmp_path, new_markdown_cell(asked(opening)))
    with pytest.raises(
        ValueError, match=r"03_x.*'Two of a kind' to have a label and to"
    ):
        exercises.exercises(path)


@pytest.mark.parametrize(
    ("returns", "code", "shown"),
    [
        ("bool", "assert check(3)", "right"),
        ("bool", "assert not check(4)", "wrong"),
        ("bool", "assert not any(check(n) for n in (4, 5))", "wrong"),
        ("bool", "print(check(4))", ""),
        ("str", "assert check(3) == ''", "right"),
        ("str", "assert not check(3)", "right"),
        ("str", "assert check(4)", "wrong"),
        ("str", "assert check(4) == 'too many'", "wrong"),
        ("str", "assert 'many' in check(4)", "wrong"),
        ("str", "print(check(4))", "wrong"),
        ("str", "x = check(4)", ""),
        ("str", "assert other(4)", ""),
    ],
)
def test_what_a_line_shows_of_a_checker(returns: str, code: str, shown: str) -> None:
    (statement,) = ast.parse(code).body
    text = returns == "str"
    found = exercises.verdict(statement, "check", text=text, printed="too many")
    assert found == shown


def test_a_complaint_that_printed_nothing_shows_nothing() -> None:
    (statement,) = ast.parse("print(check(4))").body
    assert exercises.verdict(statement, "check", text=True, printed="\n") == ""


def test_an_appendix_may_have_no_exercises_and_a_chapter_may_not(
    tmp_path: Path,
) -> None:
    chapter = written(tmp_path, new_markdown_cell("# 3 · X"))
    assert len(list(exercises.complaints(chapter))) == 1
    appendix = chapter.rename(tmp_path / "appendix_c_x.ipynb")
    assert list(exercises.complaints(appendix)) == []


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    output = new_output("stream", name="stdout", text="hm\n")
    path = written(
        tmp_path,
        new_markdown_cell(asked()),
        new_code_cell("def check_3_1(n) -> str:\n    return ''"),
        new_code_cell("def check_3_9(n) -> bool:\n    return True"),
        new_code_cell("print(check_3_1(4))", outputs=[output]),
    )
    assert list(exercises.complaints(path)) == [
        "03_x.ipynb: exercise 3.1 has no solution",
        "03_x.ipynb: 1 checkers, expected at least 2",
        "03_x.ipynb: check_3_1 is shown no right answer",
        "03_x.ipynb: check_3_9 belongs to no exercise",
        "03_x.ipynb: check_3_9 is shown no right answer",
        "03_x.ipynb: check_3_9 is shown no wrong answer",
    ]
