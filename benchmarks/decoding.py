"""What decoding does to real prose: loops on one side, made-up words on the other.

    MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/decoding.py

`minigpt-base` goes on from 60 places in three books that it never saw, with each
method, and every text is measured beside what the book itself goes on with:

    surprisal      nats per token, under the model
    repeated       share of runs of four words that came before in the same text
    loops          texts that end on the same tokens three times over
    different      different words among the first hundred
    unknown        share of words that stand in none of the books it was trained on,
                   among words in small letters: names are new in every book

(Holtzman et al., 2020, Table 1, measured perplexity, repetition and diversity so.)
Writes results/decoding.json for Chapter 6. `--model FOLDER` measures another model.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from math import sqrt
from pathlib import Path
from random import Random
from typing import Any

import torch

from minigpt import load_pretrained, load_text
from minigpt.generate import (
    Greedy,
    RepetitionPenalty,
    Sampler,
    Temperature,
    TopK,
    TopP,
    beam_search,
    generate_batch,
    reading,
)
from minigpt.hardware import choose
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
COMMAND = "MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/decoding.py"
TEXT = "gutenberg-prose"
N_PLACES, N_PROMPT, N_NEW, N_BEAM, SEED = 20, 32, 160, 4, 0  # places: in each book
LONGEST_LOOP = 32
PENALTY = 1.2
SAMPLERS: dict[str, Sampler] = {
    "greedy": Greedy(),
    f"greedy, repetition penalty {PENALTY}": RepetitionPenalty(PENALTY) | Greedy(),
    **{f"temperature {t}": Temperature(t) for t in (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2)},
    **{f"top-p {p}": TopP(p) for p in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)},
    "top-k 40": TopK(40),
}


def words_of(text: str) -> list[str]:
    """The words as they are written, without the marks around them."""
    return re.findall(r"[A-Za-z]+(?:['’][A-Za-z]+)*", text)


def unknown(words: list[str], known: set[str]) -> float:
    """Share of the words in small letters that are not known."""
    small = [word for word in words if word.islower()]
    return sum(word not in known for word in small) / max(1, len(small))


def loops(ids: list[int]) -> bool:
    """Whether the text ends on the same tokens three times over."""
    return any(
        ids[-length:] == ids[-2 * length : -length] == ids[-3 * length : -2 * length]
        for length in range(1, LONGEST_LOOP + 1)
    )


def repeated(words: list[str], n: int = 4) -> float:
    """Share of runs of n words that the same text has had before."""
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def interval(values: list[float]) -> dict[str, float]:
    """Mean over texts and its 95 % interval."""
    n = len(values)
    mean = sum(values) / n
    error = sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return {
        "mean": round(mean, 4),
        "low": round(mean - 1.96 * error, 4),
        "high": round(mean + 1.96 * error, 4),
    }


def surprisals(model: GPT, prompts: list[list[int]], new: list[list[int]]) -> Any:
    """Mean surprisal of each continuation, in nats per token."""
    rows = torch.tensor([[*a, *b] for a, b in zip(prompts, new, strict=True)])
    with reading(model):
        log_p = model(rows[:, :-1]).log_softmax(-1)
    own = log_p.gather(-1, rows[:, 1:, None])[:, N_PROMPT - 1 :, 0]
    return (-own.mean(-1)).tolist()


def measured(
    model: GPT,
    tokenizer: Tokenizer,
    known: set[str],
    prompts: list[list[int]],
    new: list[list[int]],
) -> dict[str, Any]:
    """The five figures over all places."""
    # A text may begin and stop in the middle of a word: these two are left out.
    written = [words_of(tokenizer.decode(row))[1:-1] for row in new]
    texts = [[word.lower() for word in words] for words in written]
    return {
        "surprisal": interval(surprisals(model, prompts, new)),
        "repeated": interval([repeated(words) for words in texts]),
        "loops": interval([float(loops(row)) for row in new]),
        "different": interval([float(len(set(words[:100]))) for words in texts]),
        "unknown": interval([unknown(words, known) for words in written]),
    }


def places(tokenizer: Tokenizer, books: list[str]) -> list[list[int]]:
    """Prompts with their true continuations: beginnings of paragraphs, anywhere."""
    random, found = Random(SEED), []
    for book in books:
        starts = [match.end() for match in re.finditer(r"\n\n(?=\S)", book)]
        starts = [at for at in starts if at < len(book) - 2_000]
        for at in sorted(random.sample(starts, N_PLACES)):
            ids = tokenizer.encode(book[at : at + 2_000])
            found.append(ids[: N_PROMPT + N_NEW])
    return found


def commit() -> str:
    """The commit that is measured."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def methods(model: GPT) -> dict[str, Callable[[list[list[int]]], list[list[int]]]]:
    """Every way to go on, as a function of the prompts."""

    def sampled(sampler: Sampler) -> Callable[[list[list[int]]], list[list[int]]]:
        def go_on(prompts: list[list[int]]) -> list[list[int]]:
            generator = torch.Generator().manual_seed(SEED)
            rows = generate_batch(
                model,
                prompts,
                max_new_tokens=N_NEW,
                sampler=sampler,
                generator=generator,
            )
            return [row[N_PROMPT:] for row in rows]

        return go_on

    def beamed(prompts: list[list[int]]) -> list[list[int]]:
        rows = [
            beam_search(
                model, torch.tensor([row]), max_new_tokens=N_NEW, n_beam=N_BEAM
            )[0].tolist()
            for row in prompts
        ]
        return [row[N_PROMPT:] for row in rows]

    ways = {name: sampled(sampler) for name, sampler in SAMPLERS.items()}
    return {**ways, f"beam {N_BEAM}": beamed}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="minigpt-base")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "decoding.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_pretrained(asked.model)
    assert tokenizer is not None
    text = load_text(TEXT)
    known = set(words_of(text.train.lower()))
    rows = places(tokenizer, text.documents(text.validation))
    prompts = [row[:N_PROMPT] for row in rows]
    own = [row[N_PROMPT:] for row in rows]
    found = {"the book itself": measured(model, tokenizer, known, prompts, own)}
    for name, go_on in methods(model).items():
        start = time.process_time()
        new = go_on(prompts)
        found[name] = measured(model, tokenizer, known, prompts, new)
        means = {key: value["mean"] for key, value in found[name].items()}
        print(f"{name:32} {time.process_time() - start:5.1f} s {means}", flush=True)
    result = {
        "command": COMMAND,
        "commit": commit(),
        "date": date.today().isoformat(),
        "device": choose("cpu", "float32").describe(),
        "seeds": [SEED],
        "model": asked.model if asked.model == "minigpt-base" else "a draft",
        "books": [b.strip().split("\n")[0] for b in text.documents(text.validation)],
        "texts": len(rows),
        "tokens of a prompt": N_PROMPT,
        "tokens of a continuation": N_NEW,
        "known words": len(known),
        "methods": found,
    }
    asked.out.write_text(
        json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
