"""How fast the tokenizer trains and encodes, beside `tokenizers` and `tiktoken`.

    MINIGPT_DATA=<folder> OMP_NUM_THREADS=1 python benchmarks/tokenizer.py

Training: 1,024 tokens on tinyshakespeare. Encoding: the same text with GPT-2's
published vocabulary (tokenizer-gpt2 below MINIGPT_DATA), every time with a fresh
tokenizer, so that no word is remembered from the round before. The three take turns,
and the ratios are medians over rounds: what disturbs one round disturbs all three.
Hugging Face gets the text whole and line by line, and its better time counts.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import tiktoken
import tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from minigpt.bpe import GPT2_PATTERN
from minigpt.texts import load_text
from minigpt.tokenizer import BPETokenizer

ROOT = Path(__file__).parents[1]
ROUNDS = 7
V = 1024


def seconds(job: Callable[..., object], *given: object) -> float:
    """How long a job takes, once."""
    start = time.perf_counter()
    job(*given)
    return time.perf_counter() - start


def empty() -> tokenizers.Tokenizer:
    """A Hugging Face tokenizer that cuts as GPT-2's does and has learned nothing."""
    theirs = tokenizers.Tokenizer(BPE())
    theirs.pre_tokenizer = ByteLevel(add_prefix_space=False)
    theirs.decoder = ByteLevelDecoder()
    return theirs


def train_theirs(texts: list[str]) -> None:
    """The same training, in Rust."""
    trainer = BpeTrainer(
        vocab_size=V,
        initial_alphabet=ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    empty().train_from_iterator(texts, trainer)


def training(text: str, lines: list[str]) -> dict[str, list[float]]:
    """Seconds of each round."""
    rounds: dict[str, list[float]] = {"ours": [], "hf": []}
    for _ in range(ROUNDS):
        rounds["ours"].append(seconds(lambda: BPETokenizer.train([text], vocab_size=V)))
        whole = seconds(train_theirs, [text])
        rounds["hf"].append(min(whole, seconds(train_theirs, lines)))
    return rounds


def encoding(text: str, lines: list[str], folder: Path) -> dict[str, list[float]]:
    """Seconds of each round, after a check that all three give the same ids."""
    files = folder / "encoder.json", folder / "vocab.bpe"
    ours = BPETokenizer.from_gpt2_files(*files)
    bpe = BPE.from_file(*map(str, files))
    rounds: dict[str, list[float]] = {"ours": [], "hf": [], "tiktoken": []}
    for _ in range(ROUNDS):
        fresh = BPETokenizer(ours.vocabulary, ours.merges)
        theirs = empty()
        theirs.model = bpe
        openai = tiktoken.Encoding(
            "gpt2",
            pat_str=GPT2_PATTERN.pattern,
            mergeable_ranks=ours.vocabulary,
            special_tokens={},
        )
        rounds["ours"].append(seconds(fresh.encode, text))
        bpe._clear_cache()
        whole = seconds(theirs.encode, text)
        bpe._clear_cache()
        by_line = seconds(theirs.encode_batch, lines)
        rounds["hf"].append(min(whole, by_line))
        rounds["tiktoken"].append(seconds(openai.encode_ordinary, text))
    ids = ours.encode(text)
    if not ids == theirs.encode(text).ids == openai.encode_ordinary(text):
        raise SystemExit("expected equal ids from all three, got different ones")
    return rounds


def summary(rounds: dict[str, list[float]], megabytes: float) -> dict[str, Any]:
    """Medians, and for each round how many times as long ours took."""
    found: dict[str, Any] = {
        f"{name} seconds": round(statistics.median(times), 4)
        for name, times in rounds.items()
    }
    for name, times in rounds.items():
        found[f"{name} MB/s"] = round(megabytes / statistics.median(times), 3)
        ratios = [a / b for a, b in zip(rounds["ours"], times, strict=True)]
        if name != "ours":
            found[f"ours / {name}, median"] = round(statistics.median(ratios), 3)
            found[f"ours / {name}, range"] = [
                round(min(ratios), 3),
                round(max(ratios), 3),
            ]
    return found


def main() -> int:
    data = os.environ.get("MINIGPT_DATA")
    folder = Path(data or ".") / "tokenizer-gpt2"
    if data is None or not (folder / "vocab.bpe").is_file():
        raise SystemExit(
            "expected tokenizer-gpt2 (encoder.json, vocab.bpe) below MINIGPT_DATA, "
            "got none: put OpenAI's published files there"
        )
    # One thread for all three.
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    whole = load_text("tinyshakespeare")
    text = whole.train + whole.validation
    lines = text.splitlines(keepends=True)
    megabytes = len(text.encode()) / 1e6
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/tokenizer.py",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": "cpu, 1 thread",
        "rounds": ROUNDS,
        "versions": {
            "tokenizers": tokenizers.__version__,
            "tiktoken": tiktoken.__version__,
        },
        "text": {"name": "tinyshakespeare", "megabytes": round(megabytes, 3)},
        "training": {
            "vocab_size": V,
            **summary(training(text, lines), megabytes),
        },
        "encoding": {
            "vocabulary": "gpt2",
            **summary(encoding(text, lines, folder), megabytes),
        },
    }
    path = ROOT / "results" / "tokenizer.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
