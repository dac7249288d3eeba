"""Is the embedded prose its own? Runs of words it shares with other text, or repeats.

    MINIGPT_DATA=data python tools/check_overlap.py
    python tools/check_overlap.py --data data --length 6

Prints every run of `--length` words that stands both in a .txt file of
`minigpt/assets/letters` and in a text below the data folder, then the longest run that
the letters repeat among themselves; the exit status is 1 if anything is shared.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

LETTERS = Path(__file__).parents[1] / "minigpt" / "assets" / "letters"
BINARY = {".safetensors", ".npz", ".npy", ".pt", ".bin", ".gz", ".zip", ".parquet"}
# A word is a run of letters and digits, or one Chinese character: an apostrophe
# divides, so that "don't", "don’t" and the "do n't" of tokenised corpora agree
# as nearly as they can.
WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\[nrt]")

Run = tuple[str, ...]


def words(text: str) -> list[str]:
    """The words of `text`, lower-cased.

    >>> words("Don't ask: 潮汐钟!")
    ['don', 't', 'ask', '潮', '汐', '钟']
    """
    return WORD.findall(text.lower())


def read(folder: Path) -> dict[str, list[str]]:
    """The words of every .txt file in `folder`, by file name."""
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise SystemExit(f"expected .txt files in {folder}, got none")
    return {path.name: words(path.read_text(encoding="utf-8")) for path in files}


def runs(documents: dict[str, list[str]], length: int) -> dict[Run, str]:
    """Every run of `length` words, with the first document that holds it."""
    found: dict[Run, str] = {}
    for name, document in documents.items():
        for start in range(len(document) - length + 1):
            found.setdefault(tuple(document[start : start + length]), name)
    return found


def texts(folder: Path) -> Iterator[Path]:
    """The files below `folder` that are not known to be binary."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in BINARY:
            yield path


def stream(path: Path) -> Iterator[str]:
    """The words of a file of any size, across its line breaks."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if path.suffix in {".json", ".jsonl"}:
                line = ESCAPE.sub(_unescape, line)
            yield from words(line)


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else " "


def shared(source: Iterable[str], known: dict[Run, str]) -> set[Run]:
    """The runs of `known` that `source` contains.

    A word that the letters never use breaks the run, so that almost nothing of the
    source has to be kept or hashed.
    """
    length = max(map(len, known), default=0)
    vocabulary = {word for run in known for word in run}
    found: set[Run] = set()
    window: list[str] = []
    for word in source:
        if word not in vocabulary:
            window.clear()
            continue
        window.append(word)
        if len(window) >= length:
            del window[:-length]
            if (run := tuple(window)) in known:
                found.add(run)
    return found


def longest_repeat(documents: dict[str, list[str]]) -> Run:
    """The longest run of words that stands twice in the documents."""
    best: Run = ()
    while again := _repeated(documents, len(best) + 1):
        best = again
    return best


def _repeated(documents: dict[str, list[str]], length: int) -> Run:
    seen: set[Run] = set()
    for document in documents.values():
        for start in range(len(document) - length + 1):
            run = tuple(document[start : start + length])
            if run in seen:
                return run
            seen.add(run)
    return ()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--letters", type=Path, default=LETTERS)
    parser.add_argument("--data", type=Path, default=os.environ.get("MINIGPT_DATA"))
    parser.add_argument("--length", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.data is None or not Path(arguments.data).is_dir():
        raise SystemExit("expected a folder in --data or MINIGPT_DATA, got none")
    documents = read(arguments.letters)
    known = runs(documents, arguments.length)
    files = hits = 0
    for path in texts(Path(arguments.data)):
        files += 1
        for run in sorted(shared(stream(path), known)):
            hits += 1
            print(f"{known[run]}: “{' '.join(run)}” is also in {path}")
    repeat = longest_repeat(documents)
    print(f"{hits} shared runs of {arguments.length} words; {files} files read")
    print(f"longest repeat: {len(repeat)} words, “{' '.join(repeat)}”")
    return int(hits > 0)


if __name__ == "__main__":
    sys.exit(main())
