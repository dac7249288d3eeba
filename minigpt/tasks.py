"""Chapter 11. Tasks: found by name or by path, checked, and split once.

`load_task` knows tasks drawn from the stories, sets that were written for this book
(`EMBEDDED`), real ones by name (looked for below the folder that MINIGPT_DATA names,
then on the Hugging Face hub), and the reader's own tables and rows.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.labelled import Examples, Kind, Task
from minigpt.published import SOURCES, Source
from minigpt.rows import Row, read_rows, to_examples, with_names
from minigpt.splits import make_task
from minigpt.story_tasks import MAKERS, stories_task
from minigpt.texts import ASSETS

# Written for this book; each is a table assets/<name>.csv with columns text and label.
EMBEDDED = ("shop-messages", "headlines")
# How much of a set is validation, and how much test. An embedded one has some hundred
# rows, of which a tenth would leave its intervals wide.
HELD_OUT, HELD_OUT_EMBEDDED = 0.1, 0.2

# What others call the parts.
ALIASES = {"dev": "validation", "valid": "validation", "val": "validation"}


def task_names() -> tuple[str, ...]:
    """Every name that `load_task` knows; "stories-spans-3" turns the dial to 3."""
    return (*(f"stories-{kind}" for kind in MAKERS), *EMBEDDED, *SOURCES)


def is_known(name: str) -> bool:
    """Whether `load_task` finds a task by this name, not by a path."""
    return name in task_names() or _drawn(name) is not None


def _drawn(name: str) -> re.Match[str] | None:
    return re.fullmatch(rf"stories-({'|'.join(MAKERS)})(?:-([1-3]))?", name)


def load_task(
    source: Any,
    *,
    kind: Kind | None = None,
    held_out: float | None = None,
    seed: int = 0,
) -> Task:
    """A labelled task by name, by path, or from rows.

    Rows are a `datasets.Dataset`, or anything that yields (text, label) or mappings; a
    `DatasetDict`, or any mapping from part to path or rows, has its own split.

    Args:
        source: a name, a .csv, .tsv, .jsonl or .json file, or rows.
        kind: what the labels are, where the columns do not say it (1 to 5 stars are
            classes unless kind="number").
        held_out: how much is validation, and how much test, where no part is
            published; None: a fifth each of "shop-messages" and "headlines" (three
            fifths train), a tenth of any other.
        seed: draws those parts.

    Raises:
        FileNotFoundError: the name or path leads nowhere; says where it was looked for.
        ValueError: something is wrong with a row, a label or a part.
    """
    known = isinstance(source, (str, Path)) and is_known(str(source))
    drawn = _drawn(str(source)) if known else None
    embedded = known and str(source) in EMBEDDED
    if held_out is None:
        held_out = HELD_OUT_EMBEDDED if embedded else HELD_OUT
    if known and kind is not None:
        raise ValueError(
            f"expected no kind for {str(source)!r}, got {kind!r}: its kind is known"
        )
    if known and drawn:
        return stories_task(drawn[1], seed=seed, difficulty=int(drawn[2] or 1))
    if embedded:
        return _embedded(str(source), held_out, seed)
    if known:
        return _named(str(source), SOURCES[str(source)], held_out, seed)
    name = "the rows"
    if isinstance(source, (str, Path)):
        name, source = Path(source).stem, {"all": Path(source)}
    kind, parts = _own(source, name, kind)
    return make_task(name, kind, parts, held_out=held_out, seed=seed)


def _own(source: Any, name: str, kind: Kind | None) -> tuple[Kind, dict[str, Examples]]:
    """The reader's parts, each from a file or from rows."""
    given = source if isinstance(source, Mapping) else {"all": source}
    parts: dict[str, Examples] = {}
    for part, rows in given.items():
        where = name if len(given) == 1 else f"{part} of {name}"
        if isinstance(rows, (str, Path)):
            rows, where = _from_path(Path(rows)), str(rows)
        kind, parts[ALIASES.get(part, part)] = to_examples(rows, where, kind)
    if kind is None:
        raise ValueError(f"expected rows in {name}, got no part: give at least one")
    return kind, {"all": parts["train"]} if parts.keys() == {"train"} else parts


def _from_path(path: Path) -> list[Row]:
    if path.is_file():
        return read_rows(path)
    raise FileNotFoundError(
        f"expected a file or one of {', '.join(task_names())}, got {str(path)!r}: "
        f"check the path, or choose a name from the list"
    )


def _embedded(name: str, held_out: float, seed: int) -> Task:
    kind, rows = to_examples(read_rows(ASSETS / f"{name}.csv"), name)
    note = f"written for this book; {held_out:.0%} are validation, as many test"
    return make_task(name, kind, {"all": rows}, held_out=held_out, seed=seed, note=note)


def _named(name: str, source: Source, held_out: float, seed: int) -> Task:
    published = _published(name, source)
    parts: dict[str, Examples] = {}
    left_out = 0
    for part, rows in published.items():
        converted = [list(source.convert(row)) for row in rows]
        left_out += sum(not found for found in converted)
        own = [row for found in converted for row in found]
        _, parts[part] = to_examples(own, f"{part} of {name}", source.kind)
    said = f"{left_out} published rows left out"
    note = "; ".join(filter(None, (source.note, said if left_out else "")))
    return make_task(name, source.kind, parts, held_out=held_out, seed=seed, note=note)


def _published(name: str, source: Source) -> dict[str, list[Row]]:
    data = os.environ.get("MINIGPT_DATA")
    local = None if data is None else Path(data) / (source.folder or name)
    looked = "MINIGPT_DATA (not set)" if local is None else str(local)
    if local is not None and source.files and local.is_dir():
        try:
            return {
                part: [row for file in files for row in source.read(local / file)]
                for part, files in source.files.items()
            }
        except FileNotFoundError as error:
            looked = f"{looked} (no {Path(str(error.filename)).name} there)"
            raise FileNotFoundError(_absent(name, source, looked)) from None
    if source.hub is None:
        raise FileNotFoundError(_absent(name, source, looked))
    try:
        import datasets

        loaded: Any = datasets.load_dataset(
            source.hub, source.config, revision=source.revision
        )
        splits = source.splits or {}
        return {part: list(with_names(loaded[s])) for part, s in splits.items()}
    except Exception as error:
        # Whatever the hub's client raises (no network, a renamed set), the reader
        # needs the same three facts: the name, where it was looked for, what to do.
        looked += f" and the hub's {source.hub} ({type(error).__name__})"
        raise FileNotFoundError(_absent(name, source, looked)) from error


def _absent(name: str, source: Source, looked: str) -> str:
    files = [file for some in (source.files or {}).values() for file in some]
    get = (
        f"put {', '.join(files)} from {source.home} into a folder "
        f"{source.folder or name} and set MINIGPT_DATA to the folder around it"
        if files
        else "connect to the network once"
    )
    return f"expected data set {name!r}, looked in {looked} in vain: {get}"
