"""No term of the book is used before it is defined.

    python tools/check_terms.py

The terms are the glossary's. A chapter defines one by writing it in italics; its entry
in the glossary names the chapter. In the order of the table of contents a term may
stand in prose from there on; before it only as a link to the glossary, or where
EVERYDAY lists it: a word that has its plain English meaning until then. What only an
appendix defines (PyTorch's words, in B) a reader of the chapters is taken to know.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "book" / "_ext")]

from defined import Entry, entries, names, plain  # noqa: E402

from tools.check_notebooks import cells, prose, source  # noqa: E402

# Words of everyday English, which a chapter may use as such before a later one gives
# them a narrower meaning.
EVERYDAY = {"rank", "replay"}
LINKED = re.compile(r"\[([^\]]*)\]\((?:\.\./book/)?glossary\.md[^)]*\)")
LINK = "⇒"  # stands before the words of a link to the glossary
ITALICS = re.compile(r"(?<![*\w])\*((?:[^*\n]|\n(?!\s*\n))+)\*(?![*\w])")


def chapters(contents: str) -> list[str]:
    """The chapters in the order of _toc.yml, appendices left out."""
    body = contents.partition("- caption: Appendices")[0]
    return re.findall(r"- file: (notebooks/\w+)", body)


def running(notebook: Path) -> str:
    """A chapter's running prose: no code, formulas, headings, links marked."""
    content = json.loads(notebook.read_text("utf-8"))
    text = "\n\n".join(prose(source(cell)) for _, cell in cells(content, "markdown"))
    text = LINKED.sub(rf"{LINK}\1", text)
    text = re.sub(r"\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$|\]\([^)]*\)", " ", text)
    return re.sub(r"^#.*$", "", text, flags=re.M)


def pattern(entry: Entry) -> re.Pattern[str]:
    """The term in prose, one or many; an abbreviation only as it is written."""
    one = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in entry.names)
    flags = 0 if re.search(r"[A-Z]{2}", entry.term) else re.I
    return re.compile(rf"(?<![\w-])(?:{one})(?:s|es)?(?![\w-])", flags)


def complaints(glossary: list[Entry], texts: dict[str, str]) -> Iterator[str]:
    """Terms that are used before the italics which define them; terms without any."""
    for entry in glossary:
        known = entry.term in EVERYDAY or not set(entry.pages) & set(texts)
        for page, text in texts.items():
            italics = (i for i in ITALICS.finditer(text) if plain(i[1]) in names(entry))
            defined = next(italics, None) if page in entry.pages else None
            used = pattern(entry).search(text)
            if used and not known and not (defined and defined.start() <= used.start()):
                if text[used.start() - 1 : used.start()] != LINK:
                    words = " ".join(
                        text[max(0, used.start() - 30) : used.end()].split()
                    )
                    yield f"{page}: {entry.term!r} is not defined yet: {words!r}"
                known = True
            if page in entry.pages and not defined:
                yield f"{page}: expected the definition of {entry.term!r} in italics"
            known = known or defined is not None


def main() -> int:
    glossary = entries((ROOT / "book" / "glossary.md").read_text("utf-8"))
    order = chapters((ROOT / "_toc.yml").read_text("utf-8"))
    texts = {page: running(ROOT / f"{page}.ipynb") for page in order}
    found = list(complaints(glossary, texts))
    print("\n".join(found) or f"{len(glossary)} terms are used after their definition")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
