"""Our docstrings, as Sphinx wants them: indented blocks and bars are shown as such."""

import re

from sphinx.application import Sphinx


def show_blocks(lines: list[str]) -> list[str]:
    """Put the mark of a literal block before each indented block after a blank line."""
    shown: list[str] = []
    inside = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not inside and shown and not shown[-1].strip():
            shown += ["::", ""]
        inside = indented or (inside and not line.strip())
        shown.append(line)
    return shown


def escape_bars(line: str) -> str:
    """`<|endoftext|>` outside a code span is text, and no substitution."""
    if line.startswith((" ", ">>>")):
        return line
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(p if p.startswith("`") else p.replace("|", r"\|") for p in parts)


def process(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    lines[:] = [escape_bars(line) for line in lines]
    # Functions and classes have sections (Raises:) whose text is indented as well.
    if what == "module":
        lines[:] = show_blocks(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
