"""Chapter 10. Published sets: where each is to be had, and how its rows are read.

One table: name → files below MINIGPT_DATA, dataset on the Hugging Face hub, columns. A
set whose rows differ from the published ones has a name of its own.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt.labelled import PARTS, Kind
from minigpt.rows import Row, read_rows

Convert = Callable[[Row], Iterable[Row]]


# What is done with the columns of the named sets.
def _columns(text: str, label: str = "label", text_pair: str = "") -> Convert:
    """Rename columns; "a|b" is whichever of the two a row has."""

    def convert(row: Row) -> Iterator[Row]:
        def cell(columns: str) -> Any:
            return row[next(c for c in columns.split("|") if c in row)]

        pair = {"text_pair": cell(text_pair)} if text_pair else {}
        value = cell(label)
        if value not in ("", "-", None):  # the annotators did not agree
            yield {"text": cell(text), **pair, "label": value}

    return convert


_ENTITY = re.compile(r"""['"]((?:(?!['"]: ').)+)['"]: '(neutral|positive|negative)'""")


def _headline(row: Row) -> Iterator[Row]:
    """A headline, and what it says about each company in it.

    The column is no valid Python where a name has an apostrophe; the pattern reads it.
    """
    for entity, label in dict(_ENTITY.findall(row["Decisions"])).items():
        yield {"text": row["Title"], "text_pair": entity, "label": label}


def _lone_headline(row: Row) -> Iterator[Row]:
    found = list(_headline(row))
    if len(found) == 1:
        yield {"text": row["Title"], "label": found[0]["label"]}


def _utterance(row: Row) -> Iterator[Row]:
    asked = row.get("context", {}).get("requestedSlots", ())
    spans = [
        # An absent start is 0: it is how this format writes a zero.
        {
            "start": one["valueSpan"].get("startIndex", 0),
            "end": one["valueSpan"]["endIndex"],
            "label": one["slot"],
        }
        for one in row.get("labels", ())
    ]
    # The answer "13" is a time or a number of people, by what was asked before it.
    pair = ", ".join(dict.fromkeys(asked)).replace("_", " ") or "nothing"
    yield {"text": row["userInput"]["text"], "text_pair": pair, "spans": spans}


def _question(row: Row) -> Iterator[Row]:
    answers = row["answers"]
    pairs = zip(answers["answer_start"], answers["text"], strict=True)
    spans = [{"start": start, "end": start + len(text)} for start, text in pairs]
    yield {"text": row["context"], "text_pair": row["question"], "spans": spans[:1]}


def _goal(row: Row) -> Iterator[Row]:
    choices = [row["sol1"], row["sol2"]]
    yield {"text": row["goal"], "choices": choices, "label": row["label"]}


def _query(row: Row) -> Iterator[Row]:
    yield {"text": row["query"], "choices": row["choices"], "label": row["gold"]}


def _pronoun(row: Row) -> Iterator[Row]:
    """The two beginnings differ in their last words; those begin the choices."""
    begun = [option.split() for option in row["context_options"]]
    same = next(i for i, (a, b) in enumerate(zip(*begun, strict=False)) if a != b)
    ends = [" ".join([*words[same:], row["continuation"]]) for words in begun]
    yield {"text": " ".join(begun[0][:same]), "choices": ends, "label": row["gold"]}


# What is done with their files.
def _squad(path: Path) -> list[Row]:
    """Questions in the nested format of SQuAD, with the columns that the hub has."""
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    return [
        {
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {
                key: [answer[key] for answer in question["answers"]]
                for key in ("answer_start", "text")
            },
        }
        for article in articles
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def _lines(labels: Mapping[str, str]) -> Callable[[Path], list[Row]]:
    """One text to a line; the name of the file says what it is."""

    def read(path: Path) -> list[Row]:
        lines = path.read_text(encoding="utf-8").split("\n")
        label = labels[path.name]
        return [{"text": s.strip(), "label": label} for s in lines if s.strip()]

    return read


def _goals(path: Path) -> list[Row]:
    labels = path.with_name("valid-labels.lst").read_text(encoding="utf-8").split()
    rows = zip(read_rows(path), labels, strict=True)
    return [{**row, "label": label} for row, label in rows]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one named task is to be had, and how its rows are read.

    Attributes:
        convert: from a row as published to rows as `minigpt.rows` has them.
        kind: what its labels are.
        files: part → files below MINIGPT_DATA/<folder>.
        folder: where that is not the name of the task.
        read: how a file becomes rows.
        home: where the files come from.
        hub: dataset id on the Hugging Face hub; None where there is none.
        config: the hub dataset's configuration.
        revision: the hub dataset's branch.
        splits: part → split of the hub dataset.
        note: what to say beside a figure.
    """

    convert: Convert
    kind: Kind = "classes"
    files: Mapping[str, Sequence[str]] | None = None
    folder: str = ""
    read: Callable[[Path], list[Row]] = read_rows
    home: str = ""
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    splits: Mapping[str, str] | None = None
    note: str = ""


def _glue(
    config: str, text: str, text_pair: str = "", *, kind: Kind = "classes"
) -> Source:
    matched = "validation_matched" if config == "mnli" else "validation"
    return Source(
        convert=_columns(text, text_pair=text_pair),
        kind=kind,
        hub="nyu-mll/glue",
        config=config,
        splits={"train": "train", "test": matched},
        note=f"GLUE keeps the labels of its test split; test is its {matched} split",
    )


_POLYAI = "github.com/PolyAI-LDN/task-specific-datasets"
_NLTK = "github.com/nltk/nltk_data"
_PAIR = {"train": "train", "test": "test"}
SOURCES: dict[str, Source] = {
    "banking77": Source(
        convert=_columns("text", "category|label"),
        files={"train": ("train.csv",), "test": ("test.csv",)},
        home=f"{_POLYAI} (banking_data)",
        hub="legacy-datasets/banking77",
        splits=_PAIR,
    ),
    "movie-polarity": Source(
        convert=_columns("text"),
        files={"all": ("rt-polarity.neg", "rt-polarity.pos")},
        read=_lines({"rt-polarity.neg": "negative", "rt-polarity.pos": "positive"}),
        home=f"{_NLTK} (corpora/sentence_polarity)",
    ),
    "subjectivity": Source(
        convert=_columns("text"),
        files={"all": ("plot.tok.gt9.5000.txt", "quote.tok.gt9.5000.txt")},
        read=_lines(
            {
                "plot.tok.gt9.5000.txt": "objective",
                "quote.tok.gt9.5000.txt": "subjective",
            }
        ),
        home=f"{_NLTK} (corpora/subjectivity)",
    ),
    "sentfin-headlines": Source(
        convert=_headline,
        files={"all": ("SEntFiN.csv",)},
        home="github.com/pyRis/SEntFiN",
        note="one example for each company in a headline",
    ),
    "sentfin-single": Source(
        convert=_lone_headline,
        files={"all": ("SEntFiN.csv",)},
        folder="sentfin-headlines",
        home="github.com/pyRis/SEntFiN",
        note="only headlines about one company",
    ),
    "snli": Source(
        convert=_columns("premise", text_pair="hypothesis"),
        hub="stanfordnlp/snli",
        splits={part: part for part in PARTS},
        note="pairs on which the annotators did not agree are left out",
    ),
    "snli-small": Source(
        convert=_columns("premise", text_pair="hypothesis"),
        files={"train": ("dev.tsv",), "test": ("test.tsv",)},
        home="github.com/OanaMariaCamburu/e-SNLI (s1, s2 and labels, joined by tabs)",
        note="trains on the published dev file, tests on the published test file",
    ),
    "restaurant8k-spans": Source(
        convert=_utterance,
        kind="spans",
        files={"train": ("train_0.json",), "test": ("test.json",)},
        home=f"{_POLYAI} (span_extraction/restaurant8k)",
    ),
    "xquad-en": Source(
        convert=_question,
        kind="spans",
        files={"all": ("xquad.en.json",)},
        folder="xquad-en-zh",
        read=_squad,
        home="github.com/google-deepmind/xquad",
        hub="google/xquad",
        config="xquad.en",
        splits={"all": "validation"},
        note="the English questions of XQuAD, all about one paragraph in one part",
    ),
    "piqa-valid": Source(
        convert=_goal,
        kind="choice",
        files={"test": ("valid.jsonl",)},
        read=_goals,
        home="github.com/ybisk/ybisk.github.io (piqa/data, with valid-labels.lst)",
        hub="ybisk/piqa",
        revision="refs/convert/parquet",
        splits={"test": "validation"},
    ),
    "arc-easy-test": Source(
        convert=_query,
        kind="choice",
        files={"test": ("arc_easy.jsonl",)},
        home="github.com/leticiacnavarro/llm-eval (data)",
    ),
    "winogrande-val": Source(
        convert=_pronoun,
        kind="choice",
        files={"test": ("winogrande.jsonl",)},
        home="github.com/leticiacnavarro/llm-eval (data)",
    ),
    "sst2": _glue("sst2", "sentence"),
    "cola": _glue("cola", "sentence"),
    "mrpc": _glue("mrpc", "sentence1", "sentence2"),
    "qqp": _glue("qqp", "question1", "question2"),
    "stsb": _glue("stsb", "sentence1", "sentence2", kind="number"),
    "mnli": _glue("mnli", "premise", "hypothesis"),
    "qnli": _glue("qnli", "question", "sentence"),
    "rte": _glue("rte", "sentence1", "sentence2"),
}
