"""The repository is one that a newcomer reads and clones in a moment.

Short files and functions, no heavy file, no word that only one machine understands.
Each check is a function from a path to a list of complaints, shown red on a fault that
is planted in a temporary folder.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
LARGEST_FILE = 500 * 1024
ALL_WEIGHTS = 25 * 1024 * 1024
NOT_OURS = set(".git .venv _build build dist run runs .hypothesis".split())
# Spelled with one-letter sets, so that this file is no find of its own.
FORBIDDEN = {
    r"(?<![\w./~-])/wor[k](?=[/\s\"'`)]|$)": "a path of one machine",
    r"\.\./share[d]\b": "a folder that only one machine has",
    r"pip3? install [^\n]*(?<![\w.-])minigp[t](?![\w-])": "another project",
}


def size_complaints(path: Path) -> list[str]:
    """A file or a function that is too long to read."""
    text = path.read_text("utf-8")
    complaints = []
    lines = text.count("\n")
    if lines > LONGEST_FILE:
        complaints.append(f"{path.name}: {lines} lines, at most {LONGEST_FILE}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                complaints.append(
                    f"{path.name}: {node.name} has {length} lines, "
                    f"at most {LONGEST_FUNCTION}"
                )
    return complaints


def habit_complaints(path: Path) -> list[str]:
    """What the package does not do: print (but for cli), postpone annotations."""
    text = path.read_text("utf-8")
    complaints = []
    if re.search(r"^from __future__ import annotations", text, re.M):
        complaints.append(f"{path.name}: annotations must be real: shapes are checked")
    calls = [n.func for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    if path.stem != "cli" and "print" in names:
        complaints.append(f"{path.name}: prints; report by a callback or a record")
    if path.stem == "utils":
        complaints.append("utils.py: name a file after what it teaches")
    return complaints


def our_files(root: Path) -> Iterator[Path]:
    """Every file that belongs to the project: no environment, build or cache."""
    for path in sorted(root.iterdir()):
        if path.name in NOT_OURS or "cache" in path.name or path.suffix == ".egg-info":
            continue
        if path.is_dir():
            yield from our_files(path)
        elif path.suffix != ".pyc":
            yield path


def weight_complaints(root: Path) -> list[str]:
    """Files too large for a repository that is cloned in a moment."""
    files = {path: path.stat().st_size for path in our_files(root)}
    weights = sum(s for p, s in files.items() if p.suffix == ".safetensors")
    complaints = [
        f"{path.relative_to(root)}: {size} bytes, at most {LARGEST_FILE}"
        for path, size in files.items()
        if size > LARGEST_FILE and "assets" not in path.parts
    ]
    if weights > ALL_WEIGHTS:
        complaints.append(f"weights: {weights} bytes, at most {ALL_WEIGHTS}")
    return complaints


def word_complaints(root: Path) -> list[str]:
    """Words that no reader of the project could make sense of, or that mislead."""
    complaints = []
    for path in our_files(root):
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for pattern, why in FORBIDDEN.items():
            allowed = path.parts[-2:] == (".ci", "run") and "shar" in pattern
            found = re.search(pattern, text, re.M)
            if found and not allowed:
                complaints.append(f"{path.relative_to(root)}: {found[0]!r} is {why}")
    return complaints


def ours(root: Path) -> list[Path]:
    """Python files of the project."""
    return [p for p in our_files(root) if p.suffix == ".py"]


def test_files_and_functions_are_short() -> None:
    assert [line for path in ours(ROOT) for line in size_complaints(path)] == []


def test_the_package_keeps_its_habits() -> None:
    package = (ROOT / "minigpt").rglob("*.py")
    assert [line for path in package for line in habit_complaints(path)] == []


def test_the_repository_is_light() -> None:
    assert weight_complaints(ROOT) == []


def test_no_word_of_one_machine_or_of_another_project() -> None:
    assert word_complaints(ROOT) == []


def test_a_project_without_fault_has_no_complaint(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("A page.")
    assert weight_complaints(tmp_path) == word_complaints(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    ["x = 1\n" * 401, "def f():\n" + "    x = 1\n" * 60],
    ids=["file", "function"],
)
def test_a_long_file_or_function_is_red(tmp_path: Path, text: str) -> None:
    path = tmp_path / "long.py"
    path.write_text(text)
    assert len(size_complaints(path)) == 1


@pytest.mark.parametrize("line", ["from __future__ import annotations", "print(1)"])
def test_a_bad_habit_is_red(tmp_path: Path, line: str) -> None:
    path = tmp_path / "model.py"
    path.write_text(line)
    assert len(habit_complaints(path)) == 1


def test_a_large_file_is_red(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"x" * (LARGEST_FILE + 1))
    assert len(weight_complaints(tmp_path)) == 1


@pytest.mark.parametrize(
    "words", ["see /wor@k/x", "in ../share@d/x", "pip install -U minigp@t"]
)
def test_a_forbidden_word_is_red(tmp_path: Path, words: str) -> None:
    (tmp_path / "page.md").write_text(words.replace("@", ""))
    assert len(word_complaints(tmp_path)) == 1
    (tmp_path / "page.md").write_text("pip install minigpt-book, the homework/x")
    assert word_complaints(tmp_path) == []
