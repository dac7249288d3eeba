"""The exercises of the notebooks: what they ask, how long they take, who judges them.

    python tools/exercises.py        every exercise, and what is missing
    python tools/exercises.py 03 B   those of chapter 3 and appendix B

An exercise `ex-3-1` opens with its kind and its time in italics, *By hand, 5 minutes.*,
and has a solution unless it is open or takes an evening. Where code can judge, a cell
defines `check_3_1`, and the solution shows that it takes a right answer and turns a
plausible wrong one away. A checker says so by True and False or, if it returns text, by
an empty text and a complaint.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.check_notebooks import cells, output_text, parse, source  # noqa: E402
from tools.execute import find, mark  # noqa: E402

CHECKERS = 2  # at least, in each chapter, and in an appendix that has exercises
DIRECTIVE = re.compile(r"^(`{3,})\{exercise\} *(.*?)\n(.*?)^\1\s*$", re.M | re.S)
SOLUTION = re.compile(r"\{solution(?:-start)?\} *(\S+)")
TIME = re.compile(r"(?:(\d+) minutes|half an hour|an hour|an evening)$")
MINUTES = {"half an hour": 30, "an hour": 60, "an evening": 0}


class Exercise(NamedTuple):
    """One exercise: its label, number and title, and what stands in its italics."""

    label: str
    number: str
    title: str
    kind: str
    time: str
    checker: str | None
    solved: bool

    @property
    def open(self) -> bool:
        """Whether it ends where the reader ends it, and so has no solution."""
        return "open" in self.kind.lower() or self.time == "an evening"

    @property
    def minutes(self) -> int:
        """Its time in minutes; 0 where it has no end, an evening."""
        found = TIME.search(self.time)
        return int(found[1] or 0) or MINUTES.get(self.time, 0) if found else 0


def load(path: Path) -> dict[str, Any]:
    """A notebook's file."""
    loaded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return loaded


def functions(notebook: dict[str, Any]) -> dict[str, ast.FunctionDef]:
    """Checkers by name."""
    return {
        node.name: node
        for _, cell in cells(notebook, "code")
        for node in parse(source(cell)).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    }


def exercises(path: Path) -> list[Exercise]:
    """A notebook's exercises in their order.

    Raises:
        ValueError: an exercise without label, or without kind and time in italics.
    """
    notebook = load(path)
    number = (mark(path.stem) or path.stem).removeprefix("0") or "0"
    text = "\n\n".join(source(cell) for _, cell in cells(notebook, "markdown"))
    solved, known = set(SOLUTION.findall(text)), functions(notebook)
    found = []
    for count, match in enumerate(DIRECTIVE.finditer(text), 1):
        label = re.search(r"^:label: *(\S+)", match[3], re.M)
        body = re.sub(r"^:.*\n", "", match[3], flags=re.M).strip()
        opening = re.match(r"\*([^*]+?)[.]\*", " ".join(body.split()))
        kind, _, time = opening[1].rpartition(", ") if opening else ("", "", "")
        if label is None or not kind or not TIME.search(time):
            raise ValueError(
                f"{path.name}: expected exercise {match[2]!r} to have a label and to "
                f"open like '*By hand, 5 minutes.*', got {body[:40]!r}"
            )
        checker = label[1].replace("ex-", "check-").replace("-", "_")
        found.append(
            Exercise(
                label[1],
                f"{number}.{count}",
                match[2].strip(),
                kind,
                time,
                checker if checker in known else None,
                label[1] in solved,
            )
        )
    return found


def calls(node: ast.AST, name: str) -> bool:
    """Whether a piece of code calls this function."""
    return any(
        isinstance(one, ast.Call) and getattr(one.func, "id", "") == name
        for one in ast.walk(node)
    )


def verdict(statement: ast.stmt, name: str, *, text: bool, printed: str) -> str:
    """What a statement shows of a checker: "right", "wrong" or nothing.

    `text` says that the checker returns a complaint, `printed` is the cell's output.
    """
    if not calls(statement, name):
        return ""
    if isinstance(statement, ast.Assert):
        test = statement.test
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return "right" if text else "wrong"
        if isinstance(test, ast.Compare):
            other = [test.left, *test.comparators]
            empty = any(isinstance(o, ast.Constant) and o.value == "" for o in other)
            return "right" if empty and isinstance(test.ops[0], ast.Eq) else "wrong"
        return "wrong" if text else "right"
    is_print = isinstance(statement, ast.Expr) and calls(statement, "print")
    return "wrong" if text and is_print and printed.strip() else ""


def shown(notebook: dict[str, Any], name: str) -> set[str]:
    """Which of "right" and "wrong" answers a checker is shown to meet."""
    found = set()
    returns = functions(notebook)[name].returns
    text = isinstance(returns, ast.Name) and returns.id == "str"
    for _, cell in cells(notebook, "code"):
        for node in ast.walk(parse(source(cell))):
            if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef):
                printed = output_text(cell)
                found.add(verdict(node, name, text=text, printed=printed))
    return found - {""}


def complaints(path: Path) -> Iterator[str]:
    """Exercises without a solution, too few checkers, checkers that never say no."""
    notebook, listed = load(path), exercises(path)
    for one in listed:
        if not (one.solved or one.open):
            yield f"{path.name}: exercise {one.number} has no solution"
    judged = [one.checker for one in listed if one.checker]
    chapter = (mark(path.stem) or "").isdigit()
    if len(judged) < CHECKERS and (listed or chapter):
        yield f"{path.name}: {len(judged)} checkers, expected at least {CHECKERS}"
    for name in functions(notebook):
        if name not in judged:
            yield f"{path.name}: {name} belongs to no exercise"
        for answer in sorted({"right", "wrong"} - shown(notebook, name)):
            yield f"{path.name}: {name} is shown no {answer} answer"


def main(names: list[str]) -> int:
    found = []
    for path in find(names):
        for one in exercises(path):
            print(f"{one.number:5} {one.title}: {one.kind}, {one.time}", end="")
            print(f", {one.checker}" if one.checker else "")
        found += complaints(path)
    print("\n".join(found) or "every exercise is solved, every checker has said no")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
