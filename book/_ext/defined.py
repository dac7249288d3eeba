"""A term's definition and its entry in the glossary, linked both ways.

A chapter defines a term by writing it in italics, `*causal mask*`, which reads well in
JupyterLab too; the glossary's entry names the chapter. From these two the pages get
their links: the italics lead to the entry, and "chapter 3" in the entry leads to the
italics. An entry whose chapter has no such italics is a warning, and so ends the build.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

GLOSSARY = "book/glossary"
CHAPTER = re.compile(r"\{doc\}`[^`<]*<\.\./(notebooks/\w+)>`")


class Entry(NamedTuple):
    """A term of the glossary: its names, and the pages that define it, first first."""

    term: str
    names: list[str]
    pages: list[str]


def entries(glossary: str) -> list[Entry]:
    """The entries of the glossary's source."""
    body = glossary.partition("```{glossary}\n")[2].partition("\n```")[0]
    found = []
    for block in body.split("\n\n"):
        term, _, text = block.partition("\n")
        # "top-p, nucleus sampling" are two names; "warm-up, stable, decay" is one.
        names = term.split(", ") if term.count(", ") == 1 else [term]
        found.append(Entry(term, names, CHAPTER.findall(text)))
    return found


def plain(words: str) -> str:
    """A name as it is compared: without capitals and without a plural's s.

    >>> plain("Glitch tokens") == plain("glitch token")
    True
    """
    return re.sub(r"(?<=\w)s$", "", " ".join(words.split()).lower())


def names(entry: Entry) -> set[str]:
    """All that a chapter may write in italics to define it.

    >>> "head" in names(Entry("head (of a task)", ["head (of a task)"], []))
    True
    """
    both = (entry.term, *entry.names)
    return {plain(name) for one in both for name in (one, one.partition(" (")[0])}


def anchor(entry: Entry) -> str:
    """The name of the place where a page defines a term."""
    return "defined-" + re.sub(r"\W+", "-", plain(entry.names[0])).strip("-")


def defining(doctree: nodes.Node, entry: Entry) -> nodes.emphasis | None:
    """The italics that define a term on a page; None where there are none."""
    italics = doctree.findall(nodes.emphasis)
    return next((one for one in italics if plain(one.astext()) in names(entry)), None)


def link_definitions(app: Sphinx, doctree: nodes.document) -> None:
    """Let a chapter's definitions lead to the glossary, and be led to."""
    page = app.env.docname
    source = Path(app.srcdir, GLOSSARY + ".md")
    if not page.startswith("notebooks/") or not source.exists():
        return
    app.env.note_dependency(str(source))
    for entry in entries(source.read_text("utf-8")):
        if page not in entry.pages:
            continue
        italics = defining(doctree, entry)
        if italics is None:
            logging.getLogger(__name__).warning(
                "the glossary says that this page defines %r, no italics do",
                entry.term,
                location=page,
            )
            continue
        link = addnodes.pending_xref(
            "",
            nodes.inline("", italics.astext(), classes=["std", "std-term"]),
            refdomain="std",
            reftype="term",
            reftarget=entry.term,
            refdoc=page,
            refexplicit=True,
            refwarn=True,
        )
        italics.children = []
        italics += link
        italics["ids"].append(anchor(entry))


def links_of(item: nodes.Node) -> Iterator[nodes.reference]:
    """The links of an entry to the chapters."""
    for link in item.findall(nodes.reference):
        if "/notebooks/" in link.get("refuri", ""):
            yield link


def link_entries(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let the glossary's entries lead to the very place in the chapter."""
    if page != GLOSSARY:
        return
    source = Path(app.srcdir, GLOSSARY + ".md").read_text("utf-8")
    known = {entry.term: entry for entry in entries(source)}
    for item in doctree.findall(nodes.definition_list_item):
        for link in links_of(item):
            link["refuri"] += "#" + anchor(known[item[0].astext()])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", link_definitions)
    app.connect("doctree-resolved", link_entries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
