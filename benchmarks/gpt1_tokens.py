"""How OpenAI's own pipeline cuts text for GPT-1, beside the one that is used today.

    MINIGPT_DATA=<folder> python benchmarks/gpt1_tokens.py

GPT-1 was trained on text that ftfy had repaired and spaCy had cut (OpenAI's
finetune-transformer-lm, text_utils.py). `transformers`, and our GPT1Tokenizer with it,
clean as BERT does and keep only the vocabulary. `openai_words` rebuilds the first;
results/gpt1_tokens.json records what the two make of this book's sentences and letters.

Needs the packages ftfy and spacy (no spaCy model), which nothing else here needs, and
tokenizer-gpt1 (encoder_bpe_40000.json, vocab_40000.bpe) below MINIGPT_DATA. Versions of
2018 cut a few words otherwise. Nothing is drawn at random.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

from minigpt.bpe import Merger, gpt1_words
from minigpt.texts import load_text
from minigpt.tokenizer import GPT1Tokenizer

try:
    import ftfy
    import spacy
except ImportError:
    raise SystemExit(
        "expected the packages ftfy and spacy, got at most one of them: install both"
    ) from None

ROOT = Path(__file__).parents[1]
FILES = ("encoder_bpe_40000.json", "vocab_40000.bpe")
SENTENCES = (
    "Lin Mei's CAFÉ:\n    31 letters",
    "“I don't know…”, Ada said — twice.",
    "Idaâ€™s lamp cost 1,871 crowns.",
    "燕鸥港",
)
# One mark for many, as OpenAI's text_standardize writes them, and the marks of which
# each run is set apart by spaces.
SAME_MARK = str.maketrans(dict.fromkeys("—–―", "-") | {"…": "...", "´": "'"})
RUN_OF_A_MARK = re.compile(r"""([-~!";?+,)(/*\[\]}{|_])\1*""")
CUT = spacy.blank("en")


def openai_words(text: str) -> list[str]:
    """The words that OpenAI's GPT-1 saw: repaired, set apart, cut, lower case."""
    text = ftfy.fix_text(text).translate(SAME_MARK)
    text = RUN_OF_A_MARK.sub(r" \g<0> ", text)
    text = re.sub(r"\s*\n\s*", " \n ", text)
    text = re.sub(r"[^\S\n]+", " ", text).strip()
    # A line break comes out of spaCy with the space behind it.
    return [token.text.strip(" ").lower() for token in CUT(text)]


class OpenAITokenizer:
    """GPT-1's merges on the words of `openai_words`."""

    def __init__(self, table: dict[str, int], merges: Sequence[Sequence[str]]) -> None:
        self.table = table
        self.merger = Merger([(table[a], table[b], table[a + b]) for a, b in merges])

    def encode(self, text: str) -> list[int]:
        """Ids as OpenAI's TextEncoder gives them; 0 for a letter without a token."""
        ids: list[int] = []
        for word in openai_words(text):
            letters = [*word[:-1], word[-1] + "</w>"]
            ids += self.merger.merge([self.table.get(s, 0) for s in letters])
        return ids


def find() -> list[Path]:
    """The two published files below MINIGPT_DATA."""
    folder = Path(os.environ.get("MINIGPT_DATA", ""), "tokenizer-gpt1")
    paths = [folder / name for name in FILES]
    if "MINIGPT_DATA" not in os.environ or not all(p.is_file() for p in paths):
        raise SystemExit(
            f"expected {' and '.join(FILES)} in a folder tokenizer-gpt1 below "
            f"MINIGPT_DATA, got none: put OpenAI's published files there"
        )
    return paths


def shown(tokenizer: GPT1Tokenizer, ids: list[int]) -> dict[str, Any]:
    """Ids, their pieces, and the text that they give back."""
    name = {i: piece for piece, i in tokenizer.table.items()}
    pieces = [name[i] for i in ids]
    return {"ids": ids, "pieces": pieces, "comes back as": tokenizer.decode(ids)}


def letters(theirs: OpenAITokenizer, ours: GPT1Tokenizer) -> dict[str, Any]:
    """How many lines of the book's letters the two cut differently, and at what."""
    text = load_text("letters")
    lines = [line for line in (text.train + text.validation).splitlines() if line]
    english = [line for line in lines if not re.search("[\u4e00-\u9fff]", line)]
    different = [line for line in english if theirs.encode(line) != ours.encode(line)]
    only: list[Counter[str]] = [Counter(), Counter()]
    for line in different:
        both = Counter(openai_words(line)), Counter(gpt1_words(line))
        only[0] += both[0] - both[1]
        only[1] += both[1] - both[0]
    return {
        "English lines": len(english),
        "cut differently": len(different),
        "words only of OpenAI's": dict(only[0].most_common(12)),
        "words only of transformers'": dict(only[1].most_common(12)),
    }


def main() -> int:
    paths = find()
    ours = GPT1Tokenizer.from_files(*paths)
    theirs = OpenAITokenizer(ours.table, ours.merges)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    result = {
        "command": "python benchmarks/gpt1_tokens.py",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": "cpu",
        "versions": {"ftfy": ftfy.__version__, "spacy": spacy.__version__},
        "sha256": {p.name: sha256(p.read_bytes()).hexdigest() for p in paths},
        "cuts": {
            text: {
                "OpenAI": shown(ours, theirs.encode(text)),
                "transformers": shown(ours, ours.encode(text)),
            }
            for text in SENTENCES
        },
        "letters": letters(theirs, ours),
    }
    path = ROOT / "results" / "gpt1_tokens.json"
    path.write_text(
        json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
