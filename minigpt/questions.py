"""Chapter 7. Questions: published test sets as texts to read and texts to score.

Every question is a few candidates, each a text that is read and a text that is scored
after it, and the number of the right one:

    last word     (passage, its last word)                        LAMBADA
    choice        (question, answer) for each answer              PIQA, ARC-easy
    partial       (sentence up to a name, the rest of it) for each name    Winogrande
    pairs         ("", sentence) for each of two sentences        CrowS-Pairs, BLiMP

A space stands between the two where there is something to read. Sets are found by name
(below the folder that MINIGPT_DATA names, then on the Hugging Face hub), or are the
reader's own .jsonl, .csv or .txt file with the columns of one of them.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt import texts
from minigpt.files import TABLES, read_text, rows
from minigpt.rows import read_rows
from minigpt.texts import load_text


@dataclass(frozen=True)
class Question:
    """One item of a test set.

    Attributes:
        candidates: pairs of a text to read, "" for none, and the text to score.
        answer: number of the right candidate.
        kind: the group it belongs to, "" where the set has none.

    Raises:
        ValueError: the answer is none of the candidates.
    """

    candidates: tuple[tuple[str, str], ...]
    answer: int = 0
    kind: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.answer < len(self.candidates):
            raise ValueError(
                f"expected an answer from 0 to {len(self.candidates) - 1}, got "
                f"{self.answer}: take the split whose answers are published"
            )


Fields = Mapping[str, Any]
Shape = tuple[tuple[str, ...], Callable[[Fields], Question]]


def last_word(text: str) -> Question:
    """Everything before the last space, and the word after it.

    >>> last_word("He lit the lamp").candidates
    (('He lit the', 'lamp'),)

    Raises:
        ValueError: a passage of fewer than two words.
    """
    read, _, word = text.rstrip().rpartition(" ")
    if not read.strip():
        raise ValueError(f"expected a passage of at least two words, got {text!r}")
    return Question(((read, word),))


def choice(question: str, answers: Sequence[str], answer: int) -> Question:
    """The words around them are those of lm-evaluation-harness, as is Winogrande's cut.

    >>> choice("What is wet?", ["rain", "sand"], 0).candidates[1]
    ('Question: What is wet?\\nAnswer:', 'sand')
    """
    prompt = f"Question: {question}\nAnswer:"
    return Question(tuple((prompt, one) for one in answers), answer)


def _arc(row: Fields) -> Question:
    offered = row["choices"]
    answer = list(offered["label"]).index(row["answerKey"])
    return choice(row["question"], offered["text"], answer)


def _blank(row: Fields) -> Question:
    before, _, after = row["sentence"].partition("_")
    names = (row["option1"], row["option2"])
    candidates = tuple((f"{before}{name}", after.strip()) for name in names)
    return Question(candidates, int(row["answer"]) - 1)


def _given(row: Fields) -> Question:
    candidates = tuple((read, row["continuation"]) for read in row["context_options"])
    return Question(candidates, int(row["gold"]))


def _pair(first: str, second: str, kind: str) -> Callable[[Fields], Question]:
    def read(row: Fields) -> Question:
        pair = (("", row[first]), ("", row[second]))
        return Question(pair, kind=str(row.get(kind) or ""))

    return read


# Task → the columns that a file of it may have, and what is made of them. The first
# sentence of a pair is the right one, or the one that states the stereotype.
SHAPES: dict[str, tuple[Shape, ...]] = {
    "lambada": ((("text",), lambda row: last_word(row["text"])),),
    "choice": (
        (
            ("goal", "sol1", "sol2", "label"),
            lambda row: choice(
                row["goal"], (row["sol1"], row["sol2"]), int(row["label"])
            ),
        ),
        (
            ("query", "choices", "gold"),
            lambda row: choice(
                row["query"].removeprefix("Question: "),
                row["choices"],
                int(row["gold"]),
            ),
        ),
        (("question", "choices", "answerKey"), _arc),
    ),
    "winogrande": (
        (("context_options", "continuation", "gold"), _given),
        (("sentence", "option1", "option2", "answer"), _blank),
    ),
    "pairs": (
        (
            ("sentence_good", "sentence_bad"),
            _pair("sentence_good", "sentence_bad", "linguistics_term"),
        ),
        (("sent_more", "sent_less"), _pair("sent_more", "sent_less", "bias_type")),
    ),
}
SHAPES |= {"piqa": SHAPES["choice"], "arc-easy": SHAPES["choice"]}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one named test set is to be had.

    Attributes:
        hub: dataset id on the Hugging Face hub.
        config: the hub dataset's configuration.
        revision: the hub dataset's branch; scripts are no longer run, so some need
            the one that the hub converted.
        split: the hub's split.
        files: files below MINIGPT_DATA/<name>; a second holds the labels.
    """

    hub: str
    config: str | None = None
    revision: str | None = None
    split: str
    files: tuple[str, ...]


# A subset has a name of its own, as in `texts.SOURCES`.
TEST_SETS: dict[str, Source] = {
    "lambada": Source(
        hub="EleutherAI/lambada_openai",
        config="default",
        split="test",
        files=("lambada_test.jsonl",),
    ),
    "piqa-valid": Source(
        hub="ybisk/piqa",
        revision="refs/convert/parquet",
        split="validation",
        files=("valid.jsonl", "valid-labels.lst"),
    ),
    "arc-easy-test": Source(
        hub="allenai/ai2_arc",
        config="ARC-Easy",
        split="test",
        files=("arc_easy.jsonl",),
    ),
    "winogrande-val": Source(
        hub="allenai/winogrande",
        config="winogrande_xl",
        split="validation",
        files=("winogrande.jsonl",),
    ),
    "crows-pairs": Source(
        hub="nyu-mll/crows_pairs",
        revision="refs/convert/parquet",
        split="test",
        files=("crows_pairs_anonymized.csv",),
    ),
}
USUAL = {
    "lambada": "lambada",
    "piqa": "piqa-valid",
    "arc-easy": "arc-easy-test",
    "winogrande": "winogrande-val",
    "pairs": "crows-pairs",
}


def load_questions(task: str, data: str | Path | None = None) -> list[Question]:
    """The questions of a task, from a test set's name or the reader's own file.

    Raises:
        FileNotFoundError: the name or path leads nowhere; says where it was looked for.
        ValueError: an unknown task, a file that is no table, or other columns.
    """
    if task not in SHAPES:
        raise ValueError(f"expected a task among {', '.join(SHAPES)}, got {task!r}")
    name = str(data if data is not None else USUAL.get(task, ""))
    if name in TEST_SETS:
        table = _named(name, TEST_SETS[name])
    elif Path(name).is_file():
        table = read_table(Path(name))
    else:
        raise FileNotFoundError(
            f"expected a file or one of {', '.join(TEST_SETS)}, got {name!r}: check "
            f"the path, or choose a name from the list"
        )
    return [_question(task, name, i, row) for i, row in enumerate(table)]


def _question(task: str, name: str, i: int, row: Fields) -> Question:
    for columns, read in SHAPES[task]:
        if all(row.get(column) is not None for column in columns):
            try:
                return read(row)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(
                    f"expected a question for {task} in row {i} of {name}, got "
                    f"{error!s}"
                ) from None
    known = " or ".join(", ".join(columns) for columns, _ in SHAPES[task])
    raise ValueError(
        f"expected columns {known} in row {i} of {name} for {task}, got "
        f"{', '.join(map(str, row)) or 'none'}: rename them, or choose another task"
    )


def read_table(path: Path) -> Sequence[Fields]:
    """The rows of a table; the lines of a .txt file as a column `text`.

    Raises:
        ValueError: as `read_rows`.
    """
    if path.suffix == ".txt":
        lines = read_text(path).split("\n")
        return [{"text": line} for line in lines if line.strip()]
    return read_rows(path)


def _named(name: str, source: Source) -> Sequence[Fields]:
    folder = os.environ.get("MINIGPT_DATA")
    local = None if folder is None else Path(folder) / name
    if local is not None and all((local / file).is_file() for file in source.files):
        table = read_table(local / source.files[0])
        if len(source.files) == 1:
            return table
        labels = read_text(local / source.files[1]).split()
        if len(labels) != len(table):
            raise ValueError(
                f"expected a label for each of {len(table)} rows in "
                f"{local / source.files[1]}, got {len(labels)}: copy both files again"
            )
        return [{**row, "label": one} for row, one in zip(table, labels, strict=True)]
    try:
        import datasets

        loaded: Any = datasets.load_dataset(
            source.hub, source.config, revision=source.revision, split=source.split
        )
        return [dict(row) for row in loaded]
    except Exception as error:
        # As in `texts`: whatever the client raises, the reader needs the same facts.
        looked = "MINIGPT_DATA (not set)" if local is None else str(local)
        raise FileNotFoundError(
            f"expected test set {name!r}, looked in {looked} and the hub's "
            f"{source.hub} ({type(error).__name__}) in vain: put "
            f"{', '.join(source.files)} into a folder {name} and name the folder above "
            f"it in MINIGPT_DATA"
        ) from error


def load_documents(data: str | Path) -> tuple[list[str], int | None]:
    """The texts that `perplexity` reads, and how many words they are counted as.

    Of a named text the part that is held out; WikiText-2 as `wikitext` prepares it. Of
    the reader's own file all: one document, or one in each row of a table.

    Raises:
        FileNotFoundError: the name or path leads nowhere.
        ValueError: no text in it, or not UTF-8.
    """
    path = Path(data)
    if str(data) not in texts.names() and path.is_file():
        if path.suffix in TABLES:
            return [piece.text for piece in rows(path)], None
        return [read_text(path)], None
    text = load_text(data)
    if text.name == "wikitext2-valid-test":
        return wikitext(text.validation)
    return text.documents(text.validation), None


def wikitext(text: str) -> tuple[list[str], int]:
    """WikiText's articles as people write, and the words that its authors counted.

    The set has spaces between all marks ("a film , 2 @.@ 5 m"); GPT-2 was measured
    after undoing them, by rules that were not published. Ours: @-@, @,@ and @.@ lose
    their spaces; marks join the word before them, brackets and double quotes what they
    enclose, 's and n't their word; "= = A = =" becomes "== A =="; "<unk>" stays. Words
    are counted before, with one more for each line (Merity et al. 2017), so that the
    perplexity of a word can be held against published ones.
    """
    words = len(text.split()) + text.count("\n")
    # An article begins with a heading of the first level between two empty lines.
    heading = r"(?m)^ ?\n = [^=\n]+ = \n(?= ?\n)"
    heads = [m.start() for m in re.finditer(heading, text)]
    heads = [0, *(at for at in heads if at > 0)]
    articles = [text[a:b] for a, b in zip(heads, [*heads[1:], None], strict=True)]
    return [joined(one) for one in articles if one.strip()], words


_JOINS: tuple[tuple[str, str], ...] = (
    (r" @([-,.])@ ", r"\1"),
    (r'(?m)" ([^"\n]*?) "', r'"\1"'),
    (r" ([.,:;!?)\]}])", r"\1"),
    (r"([(\[{]) ", r"\1"),
    (r" ('(?:s|m|d|re|ve|ll)|n't)\b", r"\1"),
    (r"(?<==) (?==)", ""),
    (r"(?m)^ | $", ""),
)


def joined(text: str) -> str:
    """WikiText's spaced marks as people write them.

    >>> joined(' He said , " it \\'s 2 @.@ 5 m ( 8 ft ) . " ')
    'He said, "it\\'s 2.5 m (8 ft)."'
    """
    for pattern, put in _JOINS:
        text = re.sub(pattern, put, text)
    return text.strip()
