"""What a chapter's or an appendix's notebook keeps to; prints what it does not.

    python tools/check_notebooks.py 03

Executed from the top, within the budgets, no installs, no network, no path of one
machine, clean metadata, figures with a name, a finding and a description, in letters
that a phone can show. The numbers in its prose are looked at by tools/check_numbers.py.
Tags that hide a cell from nbval are counted by tools/compared.py.
"""

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.execute import find, noise  # noqa: E402


class Budget(NamedTuple):
    """How long a notebook may be, from and to."""

    code_cells: tuple[int, int]
    words: tuple[int, int]


CHAPTER = Budget(code_cells=(25, 45), words=(2000, 3800))
# An appendix is looked up in, not read in one go: C answers an article row by row.
BUDGETS = {"appendix_c_article": Budget(code_cells=(25, 60), words=(2000, 5000))}
CELL_LINES = 25
ASSERTS = 5
CODE_IN_A_ROW = 2
CAPTION_WORDS = 6
# A phone of 390 pixels shows a figure 371 wide; below 8, letters are guessed.
PHONE, LETTER = 371, 8

NETWORK = (
    r"https?://",
    r"\b(?:import|from) (?:requests|urllib|httpx|socket|aiohttp)\b",
    r"\b(?:load_dataset|hf_hub_download|snapshot_download|urlopen|urlretrieve)\(",
    r"\bfrom_pretrained\(\s*[\"'][\w.-]+(?:/[\w.-]+)?[\"']",
)
INSTALLS = (r"^\s*[!%]", r"\bpip(?:3)? install\b", r"\b(?:conda|apt-get|uv) \w*install")
MACHINE = (
    r"(?<![\w./])/(?:home|root|Users|tmp|usr|opt|mnt|var|wor[k])/",
    r"\b[A-Z]:\\\\",
    r"site-packages",
)
FENCE = re.compile(r"^(`{3,}|:{3,}|~{3,})(.*?)^\1\s*$", re.M | re.S)
FOREIGN_IMAGE = re.compile(r"!\[[^\]]*\]\(\s*http|<img[^>]*src=.http", re.I)
DIRECTIVE = re.compile(r"\{(exercise|solution|admonition|note|tip|warning|figure)")


def cells(notebook: dict[str, Any], kind: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Cells of one kind with their place, counted from 1."""
    for place, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == kind:
            yield place, cell


def source(cell: dict[str, Any]) -> str:
    """A cell's text; the file may hold it as lines."""
    return "".join(cell["source"])


def output_text(cell: dict[str, Any]) -> str:
    """Everything a cell printed or showed, as text; pictures left out."""
    parts: list[str] = []
    for output in cell.get("outputs", []):
        parts.append("".join(output.get("text", "")))
        for kind, data in output.get("data", {}).items():
            if kind.startswith("text/"):
                parts.append("".join(data))
    return "\n".join(parts)


def parse(code: str) -> ast.Module:
    """A cell's syntax; empty where it is not plain Python."""
    try:
        return ast.parse(code)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def count_asserts(notebook: dict[str, Any]) -> int:
    """Assert statements and calls of `assert_…` functions."""
    count = 0
    for _, cell in cells(notebook, "code"):
        for node in ast.walk(parse(source(cell))):
            count += isinstance(node, ast.Assert)
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                count += name.startswith("assert_")
    return count


def prose(markdown: str) -> str:
    """Markdown without code blocks and displayed formulas; directives' text stays."""

    def keep(fence: re.Match[str]) -> str:
        if DIRECTIVE.match(fence[2]):
            lines = fence[2].split("\n")[1:]
            return "\n".join(line for line in lines if not line.startswith(":"))
        return ""

    for _ in range(3):  # directives nest
        markdown = FENCE.sub(keep, markdown)
    return re.sub(r"\$\$.*?\$\$", "", markdown, flags=re.S)


def count_words(notebook: dict[str, Any]) -> int:
    """Words of prose; an inline formula is one, and so is a Chinese character."""
    text = "\n".join(prose(source(cell)) for _, cell in cells(notebook, "markdown"))
    text = re.sub(r"\$[^$\n]+\$", "formula", re.sub(r"\{[\w:]+\}", "", text))
    return len(re.findall(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff][\w'’-]*|\d+", text))


def order_complaints(notebook: dict[str, Any]) -> Iterator[str]:
    """Cells not run once from the top, and cells that failed."""
    for count, (place, cell) in enumerate(cells(notebook, "code"), 1):
        if cell["execution_count"] != count:
            yield f"cell {place}: run as {cell['execution_count']}, expected {count}"
        if not source(cell).strip():
            yield f"cell {place}: empty"
        tags = cell["metadata"].get("tags", [])
        for output in cell["outputs"]:
            if output["output_type"] == "error" and "raises-exception" not in tags:
                yield f"cell {place}: failed with {output.get('ename')}"
            if output.get("name") == "stderr":
                yield f"cell {place}: wrote to stderr"


def budget_complaints(notebook: dict[str, Any], budget: Budget) -> Iterator[str]:
    """Too few or too many cells, words, lines and asserts; code without prose."""
    number = sum(1 for _ in cells(notebook, "code"))
    words, asserts = count_words(notebook), count_asserts(notebook)
    for count, what, (least, most) in (
        (number, "code cells", budget.code_cells),
        (words, "words of prose", budget.words),
    ):
        if not least <= count <= most:
            yield f"{count} {what}, expected {least} to {most}"
    if asserts < ASSERTS:
        yield f"{asserts} asserts, expected at least {ASSERTS}"
    in_a_row = 0
    for place, cell in enumerate(notebook["cells"], 1):
        in_a_row = in_a_row + 1 if cell["cell_type"] == "code" else 0
        if in_a_row == CODE_IN_A_ROW + 1:
            yield f"cell {place}: code cell {in_a_row} in a row without prose"
    for place, cell in cells(notebook, "code"):
        lines = source(cell).rstrip().count("\n") + 1
        if lines > CELL_LINES:
            yield f"cell {place}: {lines} lines, at most {CELL_LINES}"


def reach_complaints(notebook: dict[str, Any]) -> Iterator[str]:
    """Installs, the network, and paths of one machine."""
    rules = [("installs", INSTALLS), ("network", NETWORK), ("machine path", MACHINE)]
    for place, cell in cells(notebook, "code"):
        code = source(cell)
        for name, patterns in rules:
            text = code + "\n" + output_text(cell) if name == "machine path" else code
            for pattern in patterns:
                if found := re.search(pattern, text, re.M):
                    yield f"cell {place}: {name}: {found[0].strip()!r}"
        if code.rstrip().endswith(";"):
            # nbval runs without history, where the semicolon hushes nothing.
            yield f"cell {place}: ends in ';', write `_ = …`"
    for place, cell in cells(notebook, "markdown"):
        if found := FOREIGN_IMAGE.search(source(cell)):
            yield f"cell {place}: image from another host: {found[0]!r}"


def caption_complaint(caption: str) -> str | None:
    """A caption is a finding: a sentence that says what the figure shows."""
    plain = re.sub(r"\{[\w:]+\}|[`$*]", "", caption).strip()
    if not plain.endswith((".", ".)", "?")) or len(plain.split()) < CAPTION_WORDS:
        return f"caption {plain[:40]!r}: expected a sentence of ≥ {CAPTION_WORDS} words"
    return None


def letter_complaints(notebook: dict[str, Any]) -> Iterator[str]:
    """Letters that a phone would show too small; exponents may be smaller."""
    for place, cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            drawing = "".join(output.get("data", {}).get("image/svg+xml", ""))
            width = re.search(r'<svg[^>]* width="([\d.]+)pt"', drawing)
            # Glyphs are outlines of 100 points, each scaled to the size it is shown in.
            glyphs = re.findall(r"scale\((0\.\d+) -0\.\d+\)", drawing)
            if width is None or not glyphs:
                continue
            points = 100 * min(map(float, glyphs))
            shown = points * min(4 / 3, PHONE / float(width[1]))
            if shown < LETTER:
                yield f"cell {place}: a phone shows letters of {shown:.1f} pixels"


def figure_complaints(notebook: dict[str, Any]) -> Iterator[str]:
    """Pictures without name, finding or description."""
    for place, cell in cells(notebook, "code"):
        kinds = [kind for o in cell["outputs"] for kind in o.get("data", {})]
        if not any(kind.startswith("image/") for kind in kinds):
            continue
        mystnb = cell["metadata"].get("mystnb", {})
        figure, alt = mystnb.get("figure", {}), mystnb.get("image", {}).get("alt", "")
        if not str(figure.get("name", "")).startswith("fig-"):
            yield f"cell {place}: figure without a name 'fig-…' (mystnb: figure: name)"
        if complaint := caption_complaint(str(figure.get("caption", ""))):
            yield f"cell {place}: {complaint}"
        if len(str(alt).split()) < CAPTION_WORDS:
            yield f"cell {place}: figure without a description (mystnb: image: alt)"
    for place, cell in cells(notebook, "markdown"):
        if re.search(r"!\[[^\]]*\]\(|<img", source(cell)):
            yield f"cell {place}: picture without number, use {{figure}}"
        for complaint in directive_complaints(source(cell)):
            yield f"cell {place}: {complaint}"


def directive_complaints(markdown: str) -> Iterator[str]:
    """`{figure}` directives without name, description or finding."""
    pattern = r"^([`:]{3,})\{figure\} *(\S+)\n(.*?)^\1"
    for figure in re.finditer(pattern, markdown, re.M | re.S):
        file, body = figure[2], figure[3]
        name = re.search(r"^:name: *fig-\S+", body, re.M)
        alt = re.search(r"^:alt: *(.+)", body, re.M)
        caption = re.sub(r"^:.*$", "", body, flags=re.M).strip()
        if file.startswith("http"):
            yield f"{file}: from another host"
        if name is None:
            yield f"{file}: figure without a name 'fig-…'"
        if alt is None or len(alt[1].split()) < CAPTION_WORDS:
            yield f"{file}: figure without a description (:alt:)"
        if complaint := caption_complaint(caption):
            yield f"{file}: {complaint}"


def complaints(path: Path) -> list[str]:
    """Everything this file can say about one notebook."""
    notebook = json.loads(path.read_text("utf-8"))
    found = noise(path)
    budget = BUDGETS.get(path.stem, CHAPTER)
    lines = [
        *order_complaints(notebook),
        *budget_complaints(notebook, budget),
        *reach_complaints(notebook),
        *figure_complaints(notebook),
        *letter_complaints(notebook),
    ]
    return found + [f"{path.name}: {line}" for line in lines]


def repeated_classes(paths: Iterable[Path]) -> list[str]:
    """Classes that two notebooks define: such a class belongs to the package."""
    where: dict[str, str] = {}
    found = []
    for path in paths:
        for _, cell in cells(json.loads(path.read_text("utf-8")), "code"):
            for node in ast.walk(parse(source(cell))):
                if isinstance(node, ast.ClassDef):
                    first = where.setdefault(node.name, path.name)
                    if first != path.name:
                        found.append(f"{path.name}: class {node.name} is in {first}")
    return found


def main(names: list[str]) -> int:
    paths = find(names)
    found = [line for path in paths for line in complaints(path)]
    found += repeated_classes(find([]))
    print("\n".join(found) or f"{len(paths)} notebooks keep to everything")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
