"""Our docstrings, as Sphinx wants them: indented blocks and bars are shown as such."""

import re
from typing import Any, get_type_hints

from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation


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


def skip_field(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """A named tuple's fields stand in its signature; "alias for field 0" is empty."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def sign_tuple(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, None] | None:
    """Write a named tuple's signature with its types, which its constructor lacks."""
    if what != "class" or not hasattr(obj, "_fields"):
        return None
    types = get_type_hints(obj)
    fields = (f"{field}: {stringify_annotation(types[field])}" for field in obj._fields)
    return f"({', '.join(fields)})", None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip_field)
    # Before sphinx_autodoc_typehints: the first listener that answers is heard.
    app.connect("autodoc-process-signature", sign_tuple, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
