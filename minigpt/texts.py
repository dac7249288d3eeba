"""Chapter 5. Texts: found by name or by path, and split once.

`load_text` knows the texts written for this book (`stories`, `letters`), real ones by
name (looked for below the folder that MINIGPT_DATA names, then on the Hugging Face
hub), and the reader's own files. Running text is cut by position: the last tenth is for
validation, and no token of it is ever trained on. A collection of documents is cut
between two of them. `overlap` counts what two parts share all the same.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from minigpt import stories
from minigpt.files import TABLES, Piece, hold_out, read_text, rows

ASSETS = Path(__file__).parent / "assets"
# GPT-2's mark between two documents.
END_OF_TEXT = "<|endoftext|>"


class Text(NamedTuple):
    """A text and its two parts; `end` stands between documents, None: there is one.

    Documents that are `packed` follow each other in one long row of tokens, as books
    do; others, as the stories, have a row each.
    """

    name: str
    train: str
    validation: str
    end: str | None = None
    packed: bool = False

    def documents(self, part: str) -> list[str]:
        """The documents of one part, each without its end mark."""
        if self.end is None:
            return [part]
        return [piece.strip() for piece in part.split(self.end) if piece.strip()]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one named text is to be had, and how it is cut.

    Attributes:
        hub: dataset id on the Hugging Face hub; None where there is none.
        config: the hub dataset's configuration.
        revision: the hub dataset's branch.
        column: the hub dataset's text column.
        train: hub splits that are joined for training.
        validation: hub splits for validation; none: the last tenth of the whole.
        files: files below MINIGPT_DATA/<name>, in order; patterns allowed.
        held_out: the files among them that are kept for validation.
        unwrap: lines are broken for print, and paragraphs are joined again.
    """

    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    column: str = "text"
    train: tuple[str, ...] = ("train",)
    validation: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    unwrap: bool = False


# A subset has a name of its own: "tinystories-sample" is no stand-in for "tinystories".
SOURCES: dict[str, Source] = {
    "tinyshakespeare": Source(
        hub="karpathy/tiny_shakespeare",
        revision="refs/convert/parquet",
        train=("train", "validation", "test"),
        files=("input.txt",),
    ),
    "tinystories": Source(hub="roneneldan/TinyStories", validation=("validation",)),
    "tinystories-sample": Source(files=("tiny_stories.txt",)),
    "wikitext-2": Source(
        hub="Salesforce/wikitext",
        config="wikitext-2-raw-v1",
        validation=("validation",),
    ),
    "wikitext-103": Source(
        hub="Salesforce/wikitext",
        config="wikitext-103-raw-v1",
        validation=("validation",),
    ),
    "wikitext2-valid-test": Source(
        files=("wiki.valid.tokens.txt", "wiki.test.tokens.txt"),
        held_out=("wiki.test.tokens.txt",),
    ),
    # Two of the three books are by authors of whom nothing else is in the collection.
    "gutenberg-prose": Source(
        files=("*.txt",),
        held_out=(
            "alice_in_wonderland.txt",
            "the_picture_of_dorian_gray.txt",
            "the_time_machine.txt",
        ),
        unwrap=True,
    ),
    "chinese-classics": Source(files=("*.txt",)),
}
EMBEDDED = ("stories", "letters")


def names() -> tuple[str, ...]:
    """Every name that `load_text` knows."""
    return (*EMBEDDED, *SOURCES)


def load_text(name: str | Path | Iterable[str]) -> Text:
    """A text by name, the reader's own .txt, .jsonl or .csv file, or her documents.

    Raises:
        FileNotFoundError: the name or path leads nowhere; says where it was looked for.
        ValueError: the text is empty, too short to split, or not UTF-8.
    """
    if not isinstance(name, (str, Path)):
        return _from_documents(name)
    if str(name) == "stories":
        return _stories()
    if str(name) == "letters":
        files = sorted((ASSETS / "letters").glob("*.txt"))
        return split_text("letters", _join(map(read_text, files)))
    if str(name) in SOURCES:
        return _named(str(name), SOURCES[str(name)])
    path = Path(name)
    if path.is_file() and path.suffix in TABLES:
        return split_documents(path.stem, rows(path), path.stat().st_size)
    if path.is_file():
        return split_text(path.stem, read_text(path))
    raise FileNotFoundError(
        f"expected a file or one of {', '.join(names())}, got {str(name)!r}: check "
        f"the path, or choose a name from the list"
    )


def split_text(name: str, text: str, *, held_out: float = 0.1) -> Text:
    """Cut by position: the last tenth of the characters is for validation.

    >>> split_text("digits", "0123456789")[1:3]
    ('012345678', '9')

    Raises:
        ValueError: nothing to cut.
    """
    if not text.strip():
        raise ValueError(f"expected text in {name}, got none: the file is empty")
    if len(text) < 10:
        raise ValueError(
            f"expected at least 10 characters in {name}, got {len(text)}: there is "
            f"nothing to hold out"
        )
    cut = int((1 - held_out) * len(text))
    return Text(name, text[:cut], text[cut:])


def split_documents(name: str, documents: Iterable[Piece], size: int) -> Text:
    """Cut between two documents, `hold_out` says where; packed with end marks.

    Raises:
        ValueError: fewer than two documents.
    """
    parts: dict[bool, list[str]] = {False: [], True: []}
    for held, piece in hold_out(documents, size):
        parts[held].append(piece.text)
    if not parts[False]:
        raise ValueError(
            f"expected at least 2 documents in {name}, one to hold out, got "
            f"{len(parts[True])}: bring more rows"
        )
    train, held_out = (END_OF_TEXT.join(parts[held]) for held in (False, True))
    return Text(name, train, held_out, end=END_OF_TEXT, packed=True)


def _from_documents(texts: Iterable[str]) -> Text:
    pieces, at = [], 0
    for text in texts:
        if text.strip():
            pieces.append(Piece(at, text))
            at += len(text)
    return split_documents("documents", pieces, at)


def _stories(n: int = 8_000, n_validation: int = 800) -> Text:
    train = [story.text for story in stories.corpus(n)]
    seen = set(train)
    # Two seeds can tell the same story; what is held out must be new to the model.
    held = stories.corpus(n_validation, seed=stories.VALIDATION_SEED)
    fresh = [story.text for story in held if story.text not in seen]
    close = f" {stories.END}\n"
    return Text(
        "stories",
        "".join(f"{story}{close}" for story in train),
        "".join(f"{story}{close}" for story in fresh),
        end=stories.END,
    )


def _named(name: str, source: Source) -> Text:
    folder = os.environ.get("MINIGPT_DATA")
    local = None if folder is None else Path(folder) / name
    if local is not None and source.files and local.is_dir():
        return _from_folder(name, source, local)
    if source.hub is not None:
        return _from_hub(name, source, local)
    raise FileNotFoundError(_absent(name, source, local, "it is on no hub"))


def _absent(name: str, source: Source, local: Path | None, why: str) -> str:
    looked = "MINIGPT_DATA (not set)" if local is None else str(local)
    hub = "" if source.hub is None else f" and the hub's {source.hub} ({why})"
    get = (
        f"put {', '.join(source.files)} into a folder {name} and name the folder above "
        f"it in MINIGPT_DATA"
        if source.files
        else "connect to the network once"
    )
    return f"expected data set {name!r}, looked in {looked}{hub} in vain: {get}"


def _from_folder(name: str, source: Source, folder: Path) -> Text:
    # SOURCE.txt says where a folder's files come from; it is no part of the text.
    found = [
        path
        for pattern in source.files
        for path in sorted(folder.glob(pattern))
        if path.name != "SOURCE.txt"
    ]
    if not found:
        raise FileNotFoundError(_absent(name, source, folder, "not tried"))
    prepare: Callable[[str], str] = unwrap if source.unwrap else str
    texts = {path.name: prepare(read_text(path)) for path in found}
    if not source.held_out:
        return split_text(name, _join(texts.values()))
    absent = [file for file in source.held_out if file not in texts]
    if absent:
        raise FileNotFoundError(
            f"expected {absent[0]}, which is held out of {name}, in {folder}, got "
            f"{len(texts)} other files: copy the whole folder"
        )
    held = [texts.pop(file) for file in source.held_out]
    train, validation = map(END_OF_TEXT.join, (texts.values(), held))
    return Text(name, train, validation, end=END_OF_TEXT, packed=True)


def _from_hub(name: str, source: Source, local: Path | None) -> Text:
    try:
        import datasets

        loaded: Any = datasets.load_dataset(
            source.hub, source.config, revision=source.revision
        )
        parts = [
            "".join(_lines(loaded[split][source.column] for split in splits))
            for splits in (source.train, source.validation)
        ]
    except Exception as error:
        # Whatever the hub's client raises (no network, a renamed set), the reader
        # needs the same three facts: the name, where it was looked for, what to do.
        why = type(error).__name__
        raise FileNotFoundError(_absent(name, source, local, why)) from error
    if source.validation:
        return Text(name, parts[0], parts[1])
    return split_text(name, parts[0])


def _lines(columns: Iterable[Iterable[str]]) -> Iterator[str]:
    for column in columns:
        for line in column:
            yield line if line.endswith("\n") else f"{line}\n"


def _join(texts: Iterable[str]) -> str:
    """One text from several, a blank line between them; a single one as it is."""
    parts = list(texts)
    return parts[0] if len(parts) == 1 else "\n\n".join(p.strip("\n") for p in parts)


def unwrap(text: str) -> str:
    """Join the lines of each paragraph: a model would learn where print breaks them.

    >>> unwrap("It was the best\\nof times.\\n\\nIt was")
    'It was the best of times.\\n\\nIt was'
    """
    return re.sub(r"(?<!\n)\n(?!\n)[ \t]*", " ", text.replace("\r\n", "\n"))
