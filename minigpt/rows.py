"""Chapter 10. Rows: a table of the reader's own becomes labelled examples.

The columns say what a row is. Each row has a `text`, and may have a `text_pair`:

    label                 a class, or a number where all are and some are no integers
    labels                a list of classes
    choices, label        a list of texts, and the index of the right one
    words, tags           two lists of the same length
    spans                 a list of {"start": 3, "end": 8, "label": "date"}
    target                what is to be written

A row may also be a tuple (text, label) or (text, text_pair, label), or an `Example`.
Every row is checked, and none is dropped.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minigpt.labelled import Example, Examples, Kind, Span, check_example

Row = Mapping[str, Any]
# The column that makes a row one of a kind; `label` alone is a class or a number.
COLUMNS: Mapping[str, Kind] = {
    "target": "text",
    "spans": "spans",
    "tags": "tags",
    "choices": "choice",
    "labels": "multilabel",
}


# From a file to rows.
def read_rows(path: Path) -> list[Row]:
    """The rows of a .csv, .tsv, .jsonl or .json file.

    Raises:
        ValueError: another type, not UTF-8, not a table, or a row that is not whole.
    """
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".json": _json}
    if path.suffix not in readers:
        raise ValueError(
            f"expected a {', '.join(readers)} file, got {path.name}: export the table "
            f"as one of these"
        )
    try:
        # "utf-8-sig" drops the mark that Windows programs put at the start of a file.
        whole = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected UTF-8 text in {path}, got a byte that is not "
            f"(position {error.start}): convert the file first"
        ) from None
    rows = readers[path.suffix](whole, path)
    if not rows:
        raise ValueError(f"expected rows in {path}, got none: the file is empty")
    return rows


def _csv(whole: str, path: Path) -> list[Row]:
    lines = io.StringIO(whole, newline="")
    if path.suffix == ".tsv":
        # Tables with tabs come from programs that put no quotation marks round a text.
        hint = "let no tab and no line break stand within a text"
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        hint = "put a text with a comma in quotation marks"
        reader = csv.reader(lines, strict=True)
    rows: list[Row] = []
    header: list[str] = []
    try:
        for cells in filter(None, reader):
            if header and len(cells) != len(header):
                raise ValueError(
                    f"expected {len(header)} columns in line {reader.line_num} of "
                    f"{path}, got {len(cells)}: {hint}"
                )
            rows += [dict(zip(header, cells, strict=True))] if header else []
            header = header or [name.strip() for name in cells]
    except csv.Error as error:
        raise ValueError(
            f"expected a table in {path}, got {error} (line {reader.line_num}): check "
            f"its quotation marks"
        ) from None
    return rows


def _json_lines(whole: str, path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(whole.split("\n"), start=1):
        if line.strip():
            rows.append(_parsed(line, f"line {number} of {path}"))
            _check_object(rows[-1], f"line {number} of {path}")
    return rows


def _json(whole: str, path: Path) -> list[Row]:
    rows = _parsed(whole, str(path)) if whole.strip() else []
    if not isinstance(rows, list):
        kind = type(rows).__name__
        raise ValueError(f"expected a list of rows in {path}, got one {kind}: list it")
    for number, row in enumerate(rows, start=1):
        _check_object(row, f"row {number} of {path}")
    return rows


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"expected JSON in {where}, got {error.msg} (character {error.pos}): check "
            f"that the row is whole"
        ) from None


def _check_object(row: Any, where: str) -> None:
    if not isinstance(row, dict):
        raise ValueError(
            f"expected a row with named columns in {where}, got {row!r}: write "
            f'{{"text": …, "label": …}}'
        )


# From rows to examples.
def to_examples(
    rows: Iterable[Any], name: str, kind: Kind | None = None
) -> tuple[Kind, Examples]:
    """The examples that some rows hold, and their kind.

    Raises:
        ValueError: no rows, a missing column, or a row that the kind cannot have.
    """
    named = with_names(rows)
    read = [_row(row, f"row {i} of {name}") for i, row in enumerate(named, start=1)]
    if not read:
        raise ValueError(f"expected rows in {name}, got none: it is empty")
    kind = kind or _kind(read, name)
    examples = []
    for i, row in enumerate(read, start=1):
        where = f"row {i} of {name}"
        examples.append(check_example(_example(row, kind, where), kind, where))
    return kind, examples


def with_names(rows: Iterable[Any]) -> Iterable[Any]:
    """The rows with names for the integers that a `datasets.Dataset` may hold."""
    features = getattr(rows, "features", None) or {}
    within = {c: getattr(f, "feature", f) for c, f in features.items()}
    names = {c: f.names for c, f in within.items() if getattr(f, "names", None)}

    def name(column: str, value: Any) -> Any:
        if isinstance(value, list):
            return [name(column, one) for one in value]
        # -1 stands for a label that its authors keep to themselves.
        return names[column][value] if value is not None and value >= 0 else ""

    if not names:
        return rows
    return ({**row, **{c: name(c, row[c]) for c in names}} for row in rows)


def _row(row: Any, where: str) -> Row:
    if isinstance(row, Mapping):
        return row
    if isinstance(row, Example):
        return {k: v for k, v in row._asdict().items() if v is not None and v != ()} | {
            "label": row.label
        }
    if isinstance(row, (tuple, list)) and len(row) in (2, 3):
        columns = ("text", "label") if len(row) == 2 else ("text", "text_pair", "label")
        return dict(zip(columns, row, strict=True))
    raise ValueError(
        f"expected (text, label), (text, text_pair, label) or named columns in {where},"
        f" got {row!r}"
    )


def _kind(rows: Sequence[Row], name: str) -> Kind:
    columns = dict.fromkeys(column for row in rows for column in row)
    for column, kind in COLUMNS.items():
        if column in columns:
            return kind
    if "label" not in columns:
        raise ValueError(_missing("label", columns, name))
    labels = [row["label"] for row in rows if "label" in row]
    lists = [label for label in labels if isinstance(label, (list, tuple))]
    if lists:
        spans = any(isinstance(one, Span) for label in lists for one in label)
        return "spans" if spans else "multilabel"
    numbers = [_float(label) for label in labels]
    whole = all(n is not None and n.is_integer() for n in numbers)
    return "classes" if None in numbers or whole else "number"


def _float(label: Any) -> float | None:
    try:
        return None if isinstance(label, bool) else float(label)
    except (TypeError, ValueError):
        return None


def _missing(column: str, columns: Iterable[str], where: str) -> str:
    return (
        f"expected columns text and label in {where}, got no {column} among "
        f"{', '.join(map(repr, columns))}: name the columns in the first row"
    )


def _example(row: Row, kind: Kind, where: str) -> Example:
    if kind == "tags" and "words" in row:
        row = {**row, "text": " ".join(row["words"])}
    own = next((column for column, k in COLUMNS.items() if k == kind), "label")
    own = "label" if kind == "choice" or own not in row else own
    for column in ("text", own):
        if column not in row:
            raise ValueError(_missing(column, row, where))
    pair = row.get("text_pair")
    return Example(
        str(row["text"] or ""),
        _label(row[own], kind),
        None if pair is None else str(pair),
        choices_of(row, where),
    )


def choices_of(row: Row, where: str) -> tuple[str, ...]:
    """The texts to choose from, none where a row has none.

    Raises:
        ValueError: one text in place of a list, which would be taken apart by letters.
    """
    choices = row.get("choices")
    if isinstance(choices, str):
        raise ValueError(
            f"expected a list of choices in {where}, got {choices!r}: a .csv holds no "
            f"lists, so write the rows as .jsonl"
        )
    return () if choices is None else tuple(map(str, choices))


def _label(value: Any, kind: Kind) -> Any:
    """The value as the kind has it, where it can be; the check names what cannot."""
    if kind == "number":
        number = _float(value)
        return value if number is None else number
    if kind in ("multilabel", "tags") and isinstance(value, (list, tuple)):
        return tuple(map(str, value))
    if kind == "spans" and isinstance(value, (list, tuple)):
        return tuple(_span(one) for one in value)
    if kind == "choice":
        number = _float(value)
        return int(number) if number is not None and number.is_integer() else value
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value).strip()


def _span(value: Any) -> Any:
    if isinstance(value, Mapping) and {"start", "end"} <= value.keys():
        label = str(value.get("label", Span._field_defaults["label"]))
        return Span(value["start"], value["end"], label)
    return value
