"""Figures, equations and exercises are numbered by chapter: the first of 03_… is 3.1,
the first of appendix_c_… is C.1.

Sphinx counts chapters from 1 in the order of the table of contents, ours begin at 0 and
leave gaps for chapters to come; so the table is unnumbered and this file renumbers.
"""

import re

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

Numbers = dict[str, dict[str, dict[str, tuple[int | str, ...]]]]


def renumber(numbers: Numbers) -> None:
    """Give each page's items its chapter's number or letter, and a count from 1."""
    for page, kinds in numbers.items():
        found = re.search(r"/(?:(\d\d)|appendix_([a-z]))_", page)
        if found is None:
            continue
        chapter = int(found[1]) if found[1] else found[2].upper()
        for items in kinds.values():
            for count, name in enumerate(items, 1):
                items[name] = (chapter, count)


def after_numbering(app: Sphinx, env: BuildEnvironment) -> list[str]:
    renumber(env.toc_fignumbers)  # type: ignore[arg-type]
    return []


def setup(app: Sphinx) -> dict[str, bool]:
    # Sphinx's own numbering is a listener of the same event at the default priority.
    app.connect("env-get-updated", after_numbering, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
