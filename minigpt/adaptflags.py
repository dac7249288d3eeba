"""Chapter 10. The commands `finetune` and `predict`: a table becomes a saved model.

What is printed is made here and printed by the command line: the report of a
fine-tuning, or one line for each row that was read, in the order of the rows.
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from minigpt.adapt.finetune import Finetuned, finetune, judge
from minigpt.adapt.heads import Adapted
from minigpt.adapt.inputs import Item
from minigpt.adapt.loop import EpochRecord, FinetuneConfig
from minigpt.adapt.metrics import Score
from minigpt.adapt.saved import load_adapted, place_for, save_adapted
from minigpt.adapt.scores import Prediction, named
from minigpt.flags import add_fields, given
from minigpt.hardware import choose
from minigpt.labelled import KINDS, Example, Examples, Span, Task
from minigpt.pretrained import load_pretrained
from minigpt.rows import COLUMNS, Row, choices_of, read_rows, to_examples
from minigpt.storage import write_json
from minigpt.tasks import is_known, load_task, task_names

Show = Callable[[str], object]
# The columns of what `--out` writes.
TABLE = ("text", "text_pair", "said", "sure")


def add_finetune(parser: argparse.ArgumentParser) -> None:
    """The flags of `minigpt finetune`."""
    names = ", ".join(task_names())
    parser.add_argument(
        "--data",
        required=True,
        help=f"a .csv, .tsv, .jsonl or .json with columns text and label, or {names}",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument(
        "--task", choices=KINDS, help="what the labels are (default: as columns say)"
    )
    parser.add_argument(
        "--base",
        default="minigpt-base",
        help="saved folder, or a known name (default: minigpt-base)",
    )
    add_fields(parser.add_argument_group("run"), FinetuneConfig)


def add_predict(parser: argparse.ArgumentParser) -> None:
    """The flags of `minigpt predict`."""
    parser.add_argument("--model", required=True, help="folder that finetune wrote")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", help="one text")
    source.add_argument(
        "--data", help="a table with a column text, or a known name (its test part)"
    )
    parser.add_argument(
        "--text-pair", help="the second text, where the model reads two"
    )
    parser.add_argument("--out", type=Path, help="write the rows as a .csv instead")
    parser.add_argument("--device", default="auto", help="(default: auto)")


# To fine-tune.
def task_for(data: str, kind: str | None) -> Task:
    """The task that `--data` names; `--task` says or confirms its kind.

    Raises:
        ValueError: a known task of another kind, or something wrong with a row.
    """
    if not is_known(data):
        return load_task(data, kind=kind)  # type: ignore[arg-type]
    task = load_task(data)
    if kind not in (None, task.kind):
        raise ValueError(
            f"expected --task {task.kind} for {data}, got {kind}: leave it out"
        )
    return task


def run(arguments: argparse.Namespace, show: Show) -> Finetuned:
    """Fine-tune, test once, and save model and report.

    Raises:
        ValueError: bad input, or a folder that holds something else.
    """
    place_for(arguments.out)
    config = FinetuneConfig(**given(arguments, FinetuneConfig))
    task = task_for(arguments.data, arguments.task)
    base = load_pretrained(arguments.base)
    found = finetune(base, task, config, callbacks=[lambda one: show(epoch_line(one))])
    save_adapted(found.adapted, arguments.out)
    report = found.report
    record = {
        "data": arguments.data,
        "base": arguments.base,
        "report": str(report).split("\n"),
        "seed": report.seed,
        "cut": {part: list(cut) for part, cut in report.cut.items()},
        "scores": {name: score._asdict() for name, score in report.scores.items()},
    }
    write_json(arguments.out / "report.json", record)
    return found


def epoch_line(record: EpochRecord) -> str:
    """What an epoch came to, in one line."""
    return (
        f"epoch {record.epoch}  loss {record.loss:.3f}  validation {record.metric} "
        f"{record.validation:.3f}  {record.seconds:.0f} s"
        f"{'  best so far' if record.best else ''}"
    )


# To predict.
def predict(arguments: argparse.Namespace) -> Iterator[str]:
    """The lines to print: one for each text, what was cut, and scores if labelled.

    Raises:
        ValueError: bad input; no row is left out in silence.
    """
    adapted = load_adapted(arguments.model)
    choose(arguments.device, "float32").place(adapted)
    examples, task = _asked(arguments, adapted)
    scores: dict[str, Score] = {}
    if task is None:
        said = adapted.predict(examples)
    else:
        said, _, scores = judge(adapted, task)
    if arguments.out is None:
        for example, one in zip(examples, said, strict=True):
            shown = [answer(one), *([f"{sure(one):.3f}"] if sure(one) else [])]
            # A text of several lines stays one row.
            yield "\t".join([*shown, " ".join(example.text.split())])
    else:
        write_table(arguments.out, examples, said)
        yield f"{len(examples)} rows in {arguments.out}"
    yield from _notes(adapted, adapted.items(examples, labelled=False), scores)


def _notes(
    adapted: Adapted, items: Sequence[Item], scores: dict[str, Score]
) -> Iterator[str]:
    cut = sum(item.cut > 0 for item in items)
    if cut:
        yield (
            f"{cut} of {len(items)} examples are longer than the context and were cut "
            f"on the {adapted.layout.cut}"
        )
    yield from map(str, scores.values())


def _asked(
    arguments: argparse.Namespace, adapted: Adapted
) -> tuple[Examples, Task | None]:
    if arguments.text is not None:
        return [Example(arguments.text, "", arguments.text_pair)], None
    if arguments.text_pair is not None:
        raise ValueError(
            "expected --text-pair beside --text, got --data: name the column text_pair"
        )
    if is_known(arguments.data):
        task = load_task(arguments.data)
        return task.test, task
    path = Path(arguments.data)
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a file or one of {', '.join(task_names())}, got "
            f"{str(path)!r}: check the path, or choose a name from the list"
        )
    return from_rows(read_rows(path), str(path), adapted)


def from_rows(
    rows: Sequence[Row], name: str, adapted: Adapted
) -> tuple[Examples, Task | None]:
    """Rows to predict from, and a task to score where they have labels.

    Raises:
        ValueError: no column text, an empty text, or a label that the model was not
            trained with.
    """
    layout = adapted.layout
    column = next((c for c, kind in COLUMNS.items() if kind == layout.kind), "label")
    column = "label" if layout.kind == "choice" else column
    if any(column in row for row in rows):
        _, found = to_examples(rows, name, layout.kind)
        own = [_indexed(example, adapted) for example in found]
        return own, Task([], [], own, layout.labels, name, layout.kind)
    return [_bare(row, f"row {i} of {name}") for i, row in enumerate(rows, 1)], None


def _bare(row: Row, where: str) -> Example:
    if "text" not in row:
        raise ValueError(
            f"expected a column text in {where}, got {', '.join(map(repr, row))}: name "
            f"the columns in the first row"
        )
    text, pair = str(row["text"] or ""), row.get("text_pair")
    if not text.strip():
        raise ValueError(f"expected a text in {where}, got none: fill it or remove it")
    return Example(
        text, "", None if pair is None else str(pair), choices_of(row, where)
    )


def _indexed(example: Example, adapted: Adapted) -> Example:
    """The names that its label holds as the model's own indices."""
    layout, label = adapted.layout, example.label
    if layout.kind == "classes":
        return example._replace(label=named([str(label)], layout)[0])
    if layout.kind in ("multilabel", "tags") and isinstance(label, tuple):
        found = named([str(one) for one in label], layout)
        order = sorted(found) if layout.kind == "multilabel" else found
        return example._replace(label=tuple(order))
    if layout.kind == "spans" and isinstance(label, tuple):
        named([one.label for one in label if isinstance(one, Span)], layout)
    return example


def answer(said: Prediction) -> str:
    """What was said, as a person reads it; several names stand one after another."""
    if isinstance(said.answer, tuple):
        return "; ".join(said.answer) or "none"
    return f"{said.answer:g}" if isinstance(said.answer, float) else said.answer


def sure(said: Prediction) -> float | None:
    """The probability of what was said, where it is one class or choice."""
    return max(said.scores) if isinstance(said.label, int) else None


def write_table(path: Path, examples: Examples, said: Sequence[Prediction]) -> None:
    """One row for each example, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(TABLE)
        for example, one in zip(examples, said, strict=True):
            p = sure(one)
            shown = "" if p is None else f"{p:.4f}"
            pair = example.text_pair or ""
            table.writerow([example.text, pair, answer(one), shown])
