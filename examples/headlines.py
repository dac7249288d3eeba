"""What the day's headlines say of each firm: `python examples/headlines.py`.

    minigpt finetune --data headlines --out sentiment/
    python examples/headlines.py --model sentiment/ --data today.csv --by firm

The table has a column text, and any others; the one that --by names (a firm, a day)
groups the summary. Every row is written to --out with its label, its probability, and a
mark where that lies below --unsure: those are listed, for a person to read.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.adapt.heads import Adapted
from minigpt.adapt.saved import load_adapted
from minigpt.rows import Row, read_rows


class Read(NamedTuple):
    """A row of the table, and what the model says of it."""

    row: Row
    label: str
    sure: float
    unsure: bool


def read(adapted: Adapted, rows: Sequence[Row], limit: float) -> list[Read]:
    """Label every row; a complaint says which of them cannot be read."""
    for i, row in enumerate(rows, start=1):
        if not str(row.get("text") or "").strip():
            raise ValueError(f"expected a text in row {i}, got none: fill it")
    said = adapted.predict([str(row["text"]) for row in rows])
    return [
        Read(row, str(one.answer), max(one.scores), max(one.scores) < limit)
        for row, one in zip(rows, said, strict=True)
    ]


def write(path: Path, found: Sequence[Read]) -> None:
    """The table with three columns more, its rows in their order."""
    columns = list(found[0].row)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([*columns, "said", "sure", "unsure"])
        for row, label, sure, unsure in found:
            own: list[Any] = [row.get(column, "") for column in columns]
            table.writerow([*own, label, f"{sure:.3f}", "unsure" if unsure else ""])


def summary(found: Sequence[Read], labels: Sequence[str], by: str | None) -> Iterator:
    """A line for each group, most headlines first, and then those to be read."""
    groups: dict[str, Counter[str]] = {}
    for one in found:
        group = groups.setdefault(str(one.row.get(by, "")) if by else "all", Counter())
        group.update([one.label, *["unsure"] * one.unsure])
    names = (*labels, "unsure")
    width = max(map(len, [*groups, by or "all"]))
    yield "  ".join([f"{by or '':{width}}", *(f"{name:>8}" for name in names)])
    for group, n in sorted(groups.items(), key=lambda item: -item[1].total()):
        counts = (f"{n[name]:>{max(8, len(name))}}" for name in names)
        yield "  ".join([f"{group:{width}}", *counts])
    for one in sorted((one for one in found if one.unsure), key=lambda one: one.sure):
        yield f"unsure: {one.label} {one.sure:.2f}  {one.row['text']}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="folder that finetune wrote")
    parser.add_argument("--data", type=Path, required=True, help="a .csv of headlines")
    parser.add_argument("--by", help="the column to group by, such as firm or day")
    parser.add_argument("--unsure", type=float, default=0.6, help="mark what is below")
    parser.add_argument("--out", type=Path, default=Path("said.csv"))
    asked = parser.parse_args()
    try:
        adapted, rows = load_adapted(asked.model), read_rows(asked.data)
        if adapted.layout.kind != "classes":
            parser.error(f"expected a classifier, got kind {adapted.layout.kind!r}")
        for column in ("text", asked.by or "text"):
            if column not in rows[0]:
                parser.error(f"expected a column {column!r}, got {', '.join(rows[0])}")
        found = read(adapted, rows, asked.unsure)
        write(asked.out, found)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(*summary(found, adapted.layout.labels, asked.by), sep="\n")
    print(f"{len(found)} rows in {asked.out}")


if __name__ == "__main__":
    main()
