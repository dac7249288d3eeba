"""Numbers from results/*.json in the pages: one table, or one number in a sentence.

    ```{results-table} stories.json
    :rows: kneser-ney by order
    Order | @
    Regret, nats per word | regret | .3f
    ```

Each line of the body is a column: heading, path below the row ("@" is the row's own
name), format. Without `:rows:` each line is a row of its own: what, path, format. A
path joins keys by "/", and a "/" inside a key has a backslash before it. Below the
table stands what the file says of its making.

    the floor is {result}`stories.json minigpt-stories/floor .3f` nats

A path that is not in the file is a warning, and so ends the build.
"""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

RESULTS = Path(__file__).parents[2] / "results"
NOT_RUN = "not run"


class Line(NamedTuple):
    """One line of a table's body."""

    heading: str
    path: str
    form: str


def read(name: str) -> Any:
    """The content of results/<name>."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def at(found: Any, path: str) -> Any:
    """The value under the keys that "/" joins; a list is counted from 0.

    >>> at({"a": [{"b c": 2}]}, "a/0/b c")
    2
    """
    for key in re.split(r"(?<!\\)/", path):
        key = key.replace("\\/", "/")
        if isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, str) and found.startswith(NOT_RUN):
            return found
        else:
            known = ", ".join(map(str, found)) if isinstance(found, dict) else found
            raise KeyError(
                f"expected a key on the way {path!r}, {key!r} is not in it: "
                f"there are {known}"
            )
    return found


def shown(value: Any, form: str) -> str:
    """A value as text: None was not run, a pair of numbers is an interval."""
    if value is None:
        return NOT_RUN
    if isinstance(value, list):
        return " to ".join(shown(one, form) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items()) or "nothing"
    if isinstance(value, str):
        return value
    return format(value, form or ("," if isinstance(value, int) else ".3f"))


def lines_of(content: Iterable[str]) -> list[Line]:
    """The lines of a body; the format may be left out."""
    split = [
        [part.strip() for part in one.split("|")] for one in content if one.strip()
    ]
    return [Line(*(*parts, "")[:3]) for parts in split]


def grid(found: Any, lines: list[Line], rows: str | None) -> list[list[str]]:
    """The cells of a table, headings first."""
    if rows is None:
        body = [
            [line.heading, shown(at(found, line.path), line.form)] for line in lines
        ]
        return [["", ""], *body]
    under = at(found, rows)
    pairs = under.items() if isinstance(under, dict) else enumerate(under)
    named = [(str(name), row) for name, row in pairs if isinstance(row, dict)]
    columns = [column(named, line) for line in lines]
    values = [line.path != "@" for line in lines]
    body = [list(row) for row in zip(*columns, strict=True)]
    # A file may hold rows of several kinds; those of another kind have no cell here.
    kept = [row for row in body if any(compress(row, values)) or not any(values)]
    return [[line.heading for line in lines], *kept]


def column(named: list[tuple[str, Any]], line: Line) -> list[str]:
    """The cells below one heading; empty where a row has none, if another has one."""
    if line.path == "@":
        return [name for name, _ in named]
    cells: list[str] = []
    for _, row in named:
        try:
            cells.append(shown(at(row, line.path), line.form))
        except KeyError:
            cells.append("")
            lost = row
    if not any(cells):
        at(lost, line.path)
    return cells


def made(found: dict[str, Any]) -> str:
    """What the file says of its making, in one line."""
    seeds = found.get("seeds", found.get("seed"))
    facts = {
        "commit": found.get("commit"),
        "date": found.get("date"),
        "device": found.get("device"),
        "seeds": ", ".join(map(str, seeds)) if isinstance(seeds, list) else seeds,
    }
    return "; ".join(f"{k} {v}" for k, v in facts.items() if v is not None)


def spans(cell: str | nodes.Node) -> list[nodes.Node]:
    """Text in which `code` stands between backticks, as nodes."""
    if isinstance(cell, nodes.Node):
        return [cell]
    kinds = (nodes.Text, lambda code: nodes.literal(text=code))
    return [kinds[i % 2](part) for i, part in enumerate(cell.split("`")) if part]


def table_of(cells: Sequence[Sequence[str | nodes.Node]]) -> nodes.table:
    """A docutils table; headings that are all empty are left out."""
    group = nodes.tgroup(cols=len(cells[0]))
    group += [nodes.colspec(colwidth=1) for _ in cells[0]]
    body = nodes.tbody()
    for number, row in enumerate(cells):
        entries = nodes.row()
        for cell in row:
            entries += nodes.entry("", nodes.paragraph("", "", *spans(cell)))
        if number:
            body += entries
        elif any(row):
            group += nodes.thead("", entries)
    group += body
    return nodes.table("", group, classes=["results"])


class ResultsTable(SphinxDirective):
    """A table from one file of results."""

    required_arguments = 1
    has_content = True
    option_spec = {"rows": directives.unchanged}  # noqa: RUF012 (docutils' own way)

    def run(self) -> list[nodes.Node]:
        """The table, and a line on how its numbers were made."""
        name = self.arguments[0]
        self.env.note_dependency(str(RESULTS / name))
        try:
            found = read(name)
            cells = grid(found, lines_of(self.content), self.options.get("rows"))
        except (OSError, KeyError) as error:
            raise self.error(f"results-table {name}: {error}") from None
        note = nodes.paragraph(classes=["made"])
        if "command" in found:
            note += nodes.literal(text=found["command"])
            note += nodes.Text(f"; {made(found)}")
        else:
            note += nodes.Text("Each row of ")
            note += nodes.literal(text=f"results/{name}")
            note += nodes.Text(" names its command, commit, date and device.")
        return [table_of(cells), note]


class Result(SphinxRole):
    """One number from one file of results."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The number, formatted."""
        name, _, rest = self.text.partition(" ")
        path, _, form = rest.rpartition(" ")
        if not form.startswith((".", ",")):
            path, form = rest, ""
        self.env.note_dependency(str(RESULTS / name))
        try:
            return [nodes.Text(shown(at(read(name), path), form))], []
        except (OSError, KeyError) as error:
            message = self.inliner.reporter.error(
                f"result {self.text}: {error}", line=self.lineno
            )
            return [nodes.problematic(self.text, self.text)], [message]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("results-table", ResultsTable)
    app.add_role("result", Result())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
