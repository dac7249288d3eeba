"""No number in prose that nothing stands behind.

    python tools/check_numbers.py notebooks/03_attention.ipynb book/index.md

A decimal (3.2), a percentage (40 %) or a factor (5×, five-fold as 5-fold, 5 times) in
prose must stand, to the digit, in an output or a source cell of the same notebook, or
round from a value in results/*.json, or share its sentence with a citation. Captions
and descriptions of figures are prose too.

Formulas are looked into: a decimal in a formula is a claim like any other. Exempt are
code blocks, directive options, roles and link targets; code spans that are more than a
number (`TopK(40)`, not `0.37`); versions (Python 3.11) and places (equation 2.1).
Whole numbers without a sign of measure are not looked at.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.check_notebooks import cells, output_text, prose, source  # noqa: E402

NUMBER = r"\d+(?:[,\u202f]\d{3})*"
SPACE = r"[\s\u202f\u00a0]?"
CLAIM = re.compile(
    rf"(?<![\w.])(?:(?P<measure>{NUMBER}(?:\.\d+)?)"
    rf"(?:(?P<percent>{SPACE}\\?%)"
    rf"|{SPACE}(?:[×x](?!\w|{SPACE}\d)|-fold\b|-times\b| times\b))"
    rf"|(?P<decimal>{NUMBER}\.\d+(?:e[+-]?\d+)?)(?!\w|\.\d))"
)
VERSION = re.compile(
    r"(?:Python|PyTorch|torch|transformers|CC BY|version|v|GPT-) ?\d+(?:\.\d+)*"
    r"|(?:[Ee]quations?|eq\.|[Ff]igures?|[Tt]ables?|[Ss]ections?|§|[Cc]hapters?|"
    r"[Aa]ppendix|[Ee]xercises?)[ \u00a0]?\d+(?:\.\d+)*"
)
CITED = re.compile(r"\{cite(?::\w+)?\}`")
SENTENCE = re.compile(r"(?<=[.!?:])[\"”’)*_]*\s+(?=[\"“‘(*_`$]*[A-Z0-9{\[])|\n\s*\n")


def sentences(markdown: str) -> Iterator[str]:
    """The sentences of a text's prose; a table row or a list item is one."""
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) )|\n(?=\|)", markdown):
        yield from SENTENCE.split(block)


def plain(sentence: str) -> str:
    """The sentence without what is exempt."""
    sentence = re.sub(r"\{[\w:]+\}`[^`]*`", " ", sentence)
    sentence = re.sub(r"`[^`]*[A-Za-z_=\[][^`]*`", " ", sentence)
    sentence = re.sub(r"\]\([^)]*\)|https?://\S+|<[^>]*>", " ", sentence)
    return VERSION.sub(" ", sentence)


def known_tokens(texts: Iterable[str]) -> set[str]:
    """Every number in the texts, as it is written there."""
    found: set[str] = set()
    for text in texts:
        for number in re.findall(r"(?<![\w.])\d[\d,_]*(?:\.\d+)?(?:e[+-]?\d+)?", text):
            found.add(re.sub(r"[,_]", "", number))
        found |= {"0" + n for n in re.findall(r"(?<![\w.])\.\d+", text)}
    return found


def values(data: Any) -> Iterator[float]:
    """Every number inside a loaded JSON file."""
    if isinstance(data, bool):
        return
    if isinstance(data, (int, float)):
        yield float(data)
    elif isinstance(data, (dict, list)):
        for item in data.values() if isinstance(data, dict) else data:
            yield from values(item)


def results(folder: Path) -> list[float]:
    """Every number that a recorded experiment measured."""
    files = sorted(folder.glob("*.json"))
    return [v for file in files for v in values(json.loads(file.read_text("utf-8")))]


def stands(claim: re.Match[str], known: set[str], measured: Iterable[float]) -> bool:
    """Whether the number was printed, is in the code, or rounds from a result."""
    text = re.sub(r"[,\u202f]", "", claim["measure"] or claim["decimal"])
    if text in known:
        return True
    digits = len(text.partition(".")[2])
    wanted = [(float(text), digits, 1.0)]
    if claim["percent"]:
        wanted.append((float(text), digits, 100.0))
        share = float(text) / 100
        if any(f"{share:.{n}f}" in known for n in range(digits + 2, digits + 4)):
            return True
        if f"{share:g}" in known:
            return True
    return any(
        f"{value * scale:.{places}f}" == f"{number:.{places}f}"
        for number, places, scale in wanted
        for value in measured
    )


def loose_numbers(
    markdown: str, known: set[str], measured: Iterable[float] = ()
) -> list[str]:
    """Numbers of the text that nothing stands behind, each with its sentence."""
    found = []
    measured = list(measured)
    for sentence in sentences(prose(markdown)):
        if CITED.search(sentence):
            continue
        for claim in CLAIM.finditer(plain(sentence)):
            if not stands(claim, known, measured):
                line = " ".join(sentence.split())
                found.append(f"{claim[0]!r} stands in no output: {line[:90]!r}")
    return found


def notebook_numbers(path: Path, measured: Iterable[float] = ()) -> list[str]:
    """Loose numbers in a notebook's text cells, captions and descriptions."""
    notebook = json.loads(path.read_text("utf-8"))
    code = [cell for _, cell in cells(notebook, "code")]
    known = known_tokens(source(cell) + "\n" + output_text(cell) for cell in code)
    texts = [source(cell) for _, cell in cells(notebook, "markdown")]
    for cell in code:
        mystnb = cell["metadata"].get("mystnb", {})
        texts.append(str(mystnb.get("figure", {}).get("caption", "")))
        texts.append(str(mystnb.get("image", {}).get("alt", "")))
    measured = list(measured)
    return [
        f"{path.name}: {line}"
        for text in texts
        for line in loose_numbers(text, known, measured)
    ]


def page_numbers(path: Path, measured: Iterable[float] = ()) -> list[str]:
    """Loose numbers on a page of book/; its own code blocks stand behind them."""
    text = path.read_text("utf-8")
    blocks = re.findall(r"^```(?:python|text|bash)?\n(.*?)^```", text, re.M | re.S)
    found = loose_numbers(text, known_tokens(blocks), measured)
    return [f"{path.name}: {line}" for line in found]


def main(names: list[str]) -> int:
    measured = results(ROOT / "results")
    paths = [Path(name) for name in names] or [
        *sorted((ROOT / "notebooks").glob("*.ipynb")),
        *sorted((ROOT / "book").glob("*.md")),
    ]
    found: list[str] = []
    for path in paths:
        check = notebook_numbers if path.suffix == ".ipynb" else page_numbers
        found += check(path, measured)
    print("\n".join(found) or f"{len(paths)} files without a loose number")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
