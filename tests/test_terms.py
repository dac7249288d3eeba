"""Terms: defined before they are used, and linked with the glossary both ways."""

import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tools import check_terms
from tools.check_site import SITE

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from defined import Entry, anchor, entries, names  # noqa: E402

ONE, TWO = "notebooks/01_one", "notebooks/02_two"
MASK = Entry("causal mask", ["causal mask"], [TWO])
GLOSSARY = """# Glossary

```{glossary}
causal mask
  因果掩码. It hides the future ({doc}`chapter 2 <../notebooks/02_two>`).

top-p, nucleus sampling
  核采样. Two names of one thing ({doc}`chapter 1 <../notebooks/01_one>`).

warm-up, stable, decay
  预热. One name with commas ({doc}`chapter 1 <../notebooks/01_one>`).
```
"""


def test_no_term_is_used_before_it_is_defined() -> None:
    assert check_terms.main() == 0


def test_every_entry_says_its_chinese_name_and_where_it_is_defined() -> None:
    text = (ROOT / "book" / "glossary.md").read_text("utf-8")
    for entry in entries(text):
        assert entry.pages, f"{entry.term}: no chapter"
        meaning = text.partition(f"\n{entry.term}\n  ")[2].partition("\n")[0]
        chinese = meaning.partition(". ")[0]
        assert any("\u4e00" <= sign <= "\u9fff" for sign in chinese), entry.term


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("", "A *causal mask* hides. The causal mask is here.", ""),
        ("A causal mask comes.", "A *causal mask* hides.", "01_one: 'causal mask' is"),
        ("Causal masks come.", "A *causal mask* hides.", "01_one: 'causal mask' is"),
        ("A ⇒causal mask comes. That causal mask.", "A *causal mask* hides.", ""),
        ("", "The causal mask, a *causal\nmask*.", "02_two: 'causal mask' is not"),
        ("", "Nothing.", "02_two: expected the definition of 'causal mask'"),
        ("A ⇒causal mask comes.", "Nothing.", "02_two: expected the definition"),
    ],
)
def test_a_term_before_its_definition_is_red(
    first: str, second: str, said: str
) -> None:
    found = "\n".join(check_terms.complaints([MASK], {ONE: first, TWO: second}))
    assert said in found
    assert bool(said) == bool(found)


def test_everyday_words_and_terms_of_the_appendices_are_let_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensor = Entry("tensor", ["tensor"], ["notebooks/appendix_b"])
    texts = {ONE: "A tensor, a causal mask.", TWO: "Now a *causal mask*."}
    assert len(list(check_terms.complaints([tensor, MASK], texts))) == 1
    monkeypatch.setattr(check_terms, "EVERYDAY", {"causal mask"})
    assert list(check_terms.complaints([tensor, MASK], texts)) == []


def test_entries_are_read_with_their_names_and_chapters() -> None:
    mask, top, wsd = entries(GLOSSARY)
    assert mask == MASK
    assert names(top) == {"top-p, nucleus sampling", "top-p", "nucleus sampling"}
    assert wsd.names == ["warm-up, stable, decay"]
    assert anchor(top) == "defined-top-p"


def test_chapters_are_read_in_order_and_without_appendices() -> None:
    contents = "- file: notebooks/02_b\n- file: book/x\n- file: notebooks/01_a\n"
    after = "  - caption: Appendices\n- file: notebooks/appendix_b\n"
    found = check_terms.chapters(contents + after)
    assert found == ["notebooks/02_b", "notebooks/01_a"]


@pytest.mark.site
def test_definitions_and_glossary_lead_to_each_other() -> None:
    pages = {
        path: BeautifulSoup(path.read_text("utf-8"), "html.parser")
        for path in [SITE / "book/glossary.html", *(SITE / "notebooks").glob("*.html")]
    }
    for entry in entries((ROOT / "book" / "glossary.md").read_text("utf-8")):
        for page in entry.pages:
            place = pages[SITE / f"{page}.html"].find(id=anchor(entry))
            assert place is not None, f"{entry.term}: no definition in {page}"
            term = str(place.a["href"]).partition("#")[2]
            assert place.a["href"] == f"../book/glossary.html#{term}"
            item = pages[SITE / "book/glossary.html"].find(id=term)
            links = [link["href"] for link in item.find_next("dd").find_all("a")]
            assert f"../{page}.html#{anchor(entry)}" in links
