"""How long the book takes, counted from the notebooks; links to chapters that exist.

    ```{ways}
    Start to end | 0-9
    How a classifier is made | 0 2 10
    ```

Each line is a way through the book and becomes a row: its chapters as links, the time
to read them and the time of their exercises. `{chapters}`0 2 10`` is such a list of
links in a sentence. A chapter that is not written yet stands in parentheses, without a
link, and its time is not counted.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from measured import table_of  # noqa: E402

from tools import exercises  # noqa: E402
from tools.check_notebooks import cells, count_words  # noqa: E402
from tools.execute import find, mark  # noqa: E402

WORDS_A_MINUTE = 200
MINUTES_A_CELL = 0.5
HEADINGS = ("Way", "Chapters", "To read", "Exercises")


class Chapter(NamedTuple):
    """A notebook's page, and the minutes that it and its exercises take."""

    page: str
    reading: float
    exercises: int


@cache
def chapters(folder: Path) -> dict[str, Chapter]:
    """Chapters by number, appendices by letter."""
    found = {}
    for path in find([], folder):
        notebook = exercises.load(path)
        code = sum(1 for _ in cells(notebook, "code"))
        minutes = count_words(notebook) / WORDS_A_MINUTE + code * MINUTES_A_CELL
        asked = sum(one.minutes for one in exercises.exercises(path))
        number = (mark(path.stem) or path.stem).removeprefix("0") or "0"
        found[number] = Chapter(path.stem, minutes, asked)
    return found


def numbers(text: str) -> Iterator[str]:
    """The chapters that a text like "0 2 4-6 B" names."""
    for part in text.split():
        if bounds := re.fullmatch(r"(\d+)-(\d+)", part):
            yield from map(str, range(int(bounds[1]), int(bounds[2]) + 1))
        else:
            yield part


def links(wanted: list[str], known: dict[str, Chapter]) -> list[nodes.Node]:
    """A list of links, and of numbers in parentheses where nothing is written yet."""
    found: list[nodes.Node] = []
    for number in wanted:
        found.append(nodes.Text(", " if found else ""))
        if number in known:
            address = f"../notebooks/{known[number].page}.html"
            found.append(nodes.reference("", number, refuri=address))
        else:
            found.append(nodes.Text(f"({number})"))
    return found


def hours(minutes: float) -> str:
    """A length of time, to the quarter of an hour below two hours, then to the half."""
    step = 15 if minutes < 120 else 30
    quarters = round(minutes / step) * step
    if quarters < 60:
        return f"{quarters} minutes"
    whole, rest = divmod(quarters, 60)
    fraction = {0: "", 15: "¼", 30: "½", 45: "¾"}[rest]
    return f"{whole}{fraction} hour" + "s" * (quarters > 60)


def rows(lines: list[str], known: dict[str, Chapter]) -> list[list[str | nodes.Node]]:
    """The table of ways."""
    table: list[list[str | nodes.Node]] = [list(HEADINGS)]
    for line in lines:
        way, _, which = line.partition("|")
        wanted = list(numbers(which))
        written = [known[number] for number in wanted if number in known]
        table.append(
            [
                way.strip(),
                nodes.inline("", "", *links(wanted, known)),
                hours(sum(chapter.reading for chapter in written)),
                hours(sum(chapter.exercises for chapter in written)),
            ]
        )
    return table


class Ways(SphinxDirective):
    """A table of ways through the book."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The table."""
        for path in find([], ROOT / "notebooks"):
            self.env.note_dependency(str(path))
        lines = [line for line in self.content if line.strip()]
        return [table_of(rows(lines, chapters(ROOT / "notebooks")))]


class Chapters(SphinxRole):
    """A list of links to chapters."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The links."""
        known = chapters(ROOT / "notebooks")
        return links(list(numbers(self.text)), known), []


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("ways", Ways)
    app.add_role("chapters", Chapters())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
