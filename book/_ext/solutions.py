"""`{solutions}`: every exercise of every notebook, read from the notebooks themselves.

A table for each chapter: number and title, kind and time, and whether code judges an
answer, with links to the exercise and to its solution, which stand in the chapter.
"""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from measured import spans, table_of  # noqa: E402

from tools import exercises  # noqa: E402
from tools.execute import find  # noqa: E402

HEADINGS = ("Exercise", "Kind and time", "Answer")


def link(page: str, anchor: str, text: str, **attributes: str) -> nodes.reference:
    """A link to a place in a notebook's page, from a page in book/."""
    address = f"../notebooks/{page}.html#{anchor}" if anchor else ""
    return nodes.reference("", "", *spans(text), refuri=address, **attributes)


def rows(page: str, found: list[exercises.Exercise]) -> list[list[str | nodes.Node]]:
    """One notebook's table; the address of a solution is filled in later."""
    table: list[list[str | nodes.Node]] = [list(HEADINGS)]
    for one in found:
        exercise = link(page, one.label, f"{one.number} {one.title}")
        solution = link(page, "", "solution", solves=one.label)
        answer = nodes.inline("", "", solution if one.solved else nodes.Text("yours"))
        if one.checker:
            answer += nodes.Text(", checker")
        table.append([exercise, f"{one.kind}, {one.time}", answer])
    return table


class Solutions(SphinxDirective):
    """A section with a table for each notebook that has exercises."""

    def run(self) -> list[nodes.Node]:
        """A line of counts, then the sections."""
        sections: list[nodes.Node] = []
        every: list[exercises.Exercise] = []
        for path in find([], ROOT / "notebooks"):
            self.env.note_dependency(str(path))
            docname = f"notebooks/{path.stem}"
            if docname not in self.env.found_docs:
                continue
            try:
                found = exercises.exercises(path)
            except ValueError as error:
                raise self.error(f"solutions: {error}") from None
            if not found:
                continue
            every += found
            cells = exercises.load(path)["cells"]
            title = exercises.source(cells[0]).split("\n")[0].removeprefix("# ")
            section = nodes.section(ids=[f"exercises-{path.stem.replace('_', '-')}"])
            section += nodes.title("", title)
            table = table_of(rows(path.stem, found))
            table["classes"].append("solutions")
            section += table
            sections.append(section)
        judged = sum(one.checker is not None for one in every)
        solved = sum(one.solved for one in every)
        said = (
            f"There are {len(every)} exercises, {solved} of them with a solution that "
            f"was executed, {judged} with a checker that judges an answer of yours."
        )
        return [nodes.paragraph(text=said), *sections]


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Give the links to solutions their addresses, once every page has been read."""
    registry = getattr(app.env, "sphinx_exercise_registry", {})
    anchors = {
        entry["node"].get("target_label"): label
        for label, entry in registry.items()
        if entry["type"].startswith("solution")
    }
    for reference in doctree.findall(nodes.reference):
        if label := reference.attributes.pop("solves", None):
            page = registry[label]["docname"]
            reference["refuri"] = f"../{page}.html#{anchors[label]}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("solutions", Solutions)
    # Before sphinx_exercise's own listeners give labels their final form.
    app.connect("doctree-resolved", resolve, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
