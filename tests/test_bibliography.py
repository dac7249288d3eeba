"""The bibliography: every entry is cited, and complete enough to be found."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VENUES = ("journal", "booktitle", "howpublished", "institution", "publisher", "school")
WANTED = [("author", "editor"), ("title",), ("year",), VENUES, ("url", "doi")]
CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")


def entries(bib: str) -> dict[str, dict[str, str]]:
    """The fields of every entry, by its key."""
    found = re.findall(r"^@\w+\{([^,\s]+),\n(.*?)^\}", bib, re.M | re.S)
    fields = r"^\s*(\w+)\s*=\s*[{\"](.+)[}\"],?\s*$"
    return {key: dict(re.findall(fields, body, re.M)) for key, body in found}


def complaints(bib: str, texts: list[str]) -> list[str]:
    """Entries without what finds them, twice there, or that no text cites."""
    found = []
    cited = {
        key.strip()
        for text in texts
        for keys in CITATION.findall(text)
        for key in keys.split(",")
    }
    known = entries(bib)
    if len(known) != bib.count("@"):
        found.append(f"{bib.count('@')} entries, {len(known)} different ones are read")
    for key, fields in known.items():
        missing = [one[0] for one in WANTED if not any(fields.get(n) for n in one)]
        found += [f"{key}: no {name}" for name in missing]
        if not fields.get("url", "https://").startswith("https://"):
            found.append(f"{key}: expected a link by https")
        if key not in cited:
            found.append(f"{key}: cited nowhere")
    return found


def test_every_entry_is_cited_and_says_where_it_is() -> None:
    pages = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    bib = (ROOT / "book" / "references.bib").read_text("utf-8")
    assert len(entries(bib)) > 50
    assert complaints(bib, [page.read_text("utf-8") for page in pages]) == []


GOOD = """@article{shannon1951prediction,
  author  = {Shannon, Claude E.},
  title   = {Prediction and Entropy},
  journal = {Bell System Technical Journal},
  year    = {1951},
  doi     = {10.1002/j.1538-7305.1951.tb01366.x}
}
"""


@pytest.mark.parametrize("field", ["author", "title", "journal", "year", "doi"])
def test_an_entry_without_a_field_is_red(field: str) -> None:
    bib = "\n".join(
        one for one in GOOD.splitlines() if not one.startswith(f"  {field}")
    )
    said = {"doi": "url"}.get(field, field)
    texts = ["He counted {cite:p}`shannon1951prediction`."]
    assert complaints(GOOD, texts) == []
    assert complaints(bib + "\n", texts) == [f"shannon1951prediction: no {said}"]


def test_an_entry_that_nobody_cites_is_red() -> None:
    assert complaints(GOOD, ["`shannon1951prediction`"]) == [
        "shannon1951prediction: cited nowhere"
    ]


def test_an_entry_that_stands_twice_is_red() -> None:
    texts = ["{cite}`markov2006example,shannon1951prediction`"]
    assert complaints(GOOD + GOOD, texts) == ["2 entries, 1 different ones are read"]
