"""How the published tokenizers of GPT-1 and GPT-2 cut this book's sentences.

    MINIGPT_DATA=<folder> python benchmarks/gpt2_tokens.py

OpenAI's vocabularies are not shipped with this book, so Chapter 2 shows what is
recorded here in results/gpt2_tokens.json. The script looks for tokenizer-gpt2
(encoder.json, vocab.bpe) and tokenizer-gpt1 (encoder_bpe_40000.json, vocab_40000.bpe)
below MINIGPT_DATA. Nothing is drawn at random: every run records the same.
"""

import json
import os
import re
import subprocess
import sys
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

from minigpt import stories
from minigpt.texts import load_text
from minigpt.tokenizer import BPETokenizer, GPT1Tokenizer

ROOT = Path(__file__).parents[1]
STORIES = 100  # validation stories told in both languages

SENTENCES = (
    "Bram gave him a loaf the size of a dog.",
    "lantern",
    " lantern",
    "Lantern",
    "Lin Mei's café: 31 letters, 1,871 crowns.",
    "Ternhaven, 1871; Ternhaven, 1971.",
    "燕鸥港",
    " SolidGoldMagikarp",
    "a\n    b",
)
GPT1_SENTENCES = (
    "Bram gave him a loaf the size of a dog.",
    "Lin Mei's CAFÉ:\n    31 letters",
    "燕鸥港",
)


def find(name: str, *files: str) -> list[Path]:
    """The files of one tokenizer below MINIGPT_DATA."""
    folder = os.environ.get("MINIGPT_DATA")
    paths = [Path(folder or ".") / name / file for file in files]
    missing = next((path for path in paths if not path.is_file()), None)
    if folder is None or missing is not None:
        raise SystemExit(
            f"expected {', '.join(files)} in a folder {name} below MINIGPT_DATA "
            f"({folder or 'not set'}), got none: put OpenAI's published files there"
        )
    return paths


def pieces(tokenizer: BPETokenizer, ids: list[int]) -> list[str]:
    """Each token as text; bytes that are no whole character as \\xe7."""
    return [
        tokenizer.decode_bytes([i]).decode("utf-8", "backslashreplace") for i in ids
    ]


def whole(token: bytes) -> bool:
    """Whether a token is text by itself."""
    try:
        token.decode()
    except UnicodeDecodeError:
        return False
    return True


def parallel(tokenizer: BPETokenizer) -> dict[str, int]:
    """The same stories in English and Chinese: characters, bytes and tokens."""
    units = ("characters", "bytes", "tokens")
    sums = {f"{lang} {unit}": 0 for lang in ("en", "zh") for unit in units}
    for story in stories.corpus(STORIES, seed=stories.VALIDATION_SEED):
        for lang, text in (("en", story.text), ("zh", story.chinese)):
            sums[f"{lang} characters"] += len(text)
            sums[f"{lang} bytes"] += len(text.encode())
            sums[f"{lang} tokens"] += len(tokenizer.encode(text))
    return sums


def census(tokenizer: BPETokenizer) -> dict[str, Any]:
    """What GPT-2's vocabulary is made of."""
    tokens = sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)
    texts = [token.decode() for token in tokens if whole(token)]
    numbers = {
        f"{low} to {high - 1}": sum(
            len(tokenizer.encode(str(n))) == 1 for n in range(low, high)
        )
        for low, high in ((0, 100), (100, 1000), (1000, 10_000))
    }
    years = [y for y in range(1900, 2100) if len(tokenizer.encode(str(y))) == 1]
    return {
        "tokens": len(tokens),
        "begin with a space": sum(token.startswith(b" ") for token in tokens),
        "not text by themselves": sum(not whole(token) for token in tokens),
        "with a Chinese character": [
            text for text in texts if re.search("[\u3400-\u9fff]", text)
        ],
        "numbers that are one token": numbers,
        "years that are one token": years,
        "longest made of letters": sorted(
            (text for text in texts if re.fullmatch(" ?[a-zA-Z]+", text)), key=len
        )[-5:],
    }


def lengths(tokenizer: BPETokenizer) -> dict[str, float]:
    """Tokens for a word and for a Chinese character of the book's letters."""
    text = load_text("letters")
    plain = [line for line in text.validation.split("\n") if line.isascii()]
    whole_text = text.train + text.validation
    clauses = re.findall("[\u4e00-\u9fff]+", whole_text)

    def tokens(parts: list[str]) -> int:
        return sum(len(tokenizer.encode(part)) for part in parts)

    words = sum(len(line.split()) for line in plain)
    return {
        "tokens per English word, held out": round(tokens(plain) / words, 4),
        "tokens per Chinese character": round(
            tokens(clauses) / sum(map(len, clauses)), 4
        ),
    }


def main() -> int:
    files = find("tokenizer-gpt2", "encoder.json", "vocab.bpe")
    files1 = find("tokenizer-gpt1", "encoder_bpe_40000.json", "vocab_40000.bpe")
    gpt2 = BPETokenizer.from_gpt2_files(*files)
    gpt1 = GPT1Tokenizer.from_files(*files1)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    cuts = {text: gpt2.encode(text) for text in SENTENCES}
    result = {
        "command": "python benchmarks/gpt2_tokens.py",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": "cpu",
        "sha256": {p.name: sha256(p.read_bytes()).hexdigest() for p in files + files1},
        "gpt2": {
            "cuts": {
                text: {"ids": ids, "pieces": pieces(gpt2, ids)}
                for text, ids in cuts.items()
            },
            "vocabulary": census(gpt2),
            "same stories in two languages": {"n": STORIES, **parallel(gpt2)},
            "letters": lengths(gpt2),
        },
        "gpt1": {
            "vocab_size": gpt1.vocab_size,
            "cuts": {
                text: {
                    "ids": gpt1.encode(text),
                    "comes back as": gpt1.decode(gpt1.encode(text)),
                }
                for text in GPT1_SENTENCES
            },
        },
    }
    path = ROOT / "results" / "gpt2_tokens.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
