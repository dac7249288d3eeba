"""What samplers do to stories, measured against their exactly known probabilities.

    OMP_NUM_THREADS=1 python benchmarks/sampling.py

`minigpt-stories` tells 2,000 stories with each sampler: how many are possible at all?
It also reads 1,000 true ones, new to it: what would the sampler have made of each word?
For a story with true probability p and sampled with probability q,

    share of possible samples = mean of q / p over true stories   (all of q's stories)
    overlap                   = mean of min(1, q / p)

Then: what was copied from the 64,000 stories that the model was trained on? Writes
results/sampling.json for Chapter 6.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from math import exp, inf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minigpt import load_pretrained, stories
from minigpt.generate import (
    Greedy,
    Sampler,
    Temperature,
    TopK,
    TopP,
    generate_batch,
    reading,
)
from minigpt.hardware import choose
from minigpt.tokenizer import WordTokenizer

ROOT = Path(__file__).parents[1]
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/sampling.py"
N_TRUE, N_SAMPLES, N_TRAIN = 1_000, 2_000, 64_000
FIRST_TRUE = stories.VALIDATION_SEED + 20_000  # neither watched nor tested before
SAMPLERS: dict[str, dict[str, Sampler]] = {
    "temperature": {
        str(t): Temperature(t) for t in (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5)
    },
    "top-p": {str(p): TopP(p) for p in (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)},
    "top-k": {str(k): TopK(k) for k in (5, 10, 20, 40)},
    "greedy": {"": Greedy()},
}
COMPARED = (("temperature", "1.0"), ("temperature", "0.7"), ("top-p", "0.9"))
NO_TOKENS = torch.zeros(1, 1, dtype=torch.long)

tokenizer = WordTokenizer()
model = load_pretrained("minigpt-stories").model
END = tokenizer.encode(stories.END)[0]


def wilson(count: int, n: int) -> list[float]:
    """A 95 % interval for a share."""
    share, z = count / n, 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def told(sampler: Sampler, n: int, seed: int) -> list[str]:
    """Stories as the model tells them; one that does not end is left as it is."""
    generator = torch.Generator().manual_seed(seed)
    texts = []
    for _ in range(0, n, 100):
        rows = generate_batch(
            model,
            [[END]] * 100,
            max_new_tokens=model.config.context_length - 1,
            sampler=sampler,
            stop=[END],
            generator=generator,
        )
        texts += [tokenizer.decode(row[1:]) for row in rows]
    return texts


def read(tale: stories.Story) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and exact chances before each word of a story, and the words' ids."""
    ids = [*tokenizer.encode(tale.text), END]
    p = torch.zeros(len(ids), tokenizer.vocab_size, dtype=torch.float64)
    for row, offer in zip(p, stories.offers(tale.words), strict=False):
        for word, chance in offer.items():
            row[tokenizer.encode(word)[0]] = chance
    with reading(model):
        logits = model(torch.tensor([[END, *ids[:-1]]]))[0].double()
    return logits.clone(), p, torch.tensor(ids)


class Tally:
    """What a sampler would have made of true stories, one story after another."""

    def __init__(self) -> None:
        self.words = 0
        self.slip = self.paid = self.paid_for_slips = 0.0
        self.gains: list[float] = []  # ln q − ln p of each story

    def add(self, logits: Tensor, p: Tensor, ids: Tensor) -> None:
        """One story; p log p is taken as 0 where p is 0."""
        log_q = logits.log_softmax(-1)
        possible = (log_q.exp() * (p > 0)).sum(-1)
        own, true = (x.gather(1, ids[:, None]).sum() for x in (log_q, p.log()))
        self.words += len(ids)
        self.slip += (1 - possible).sum().item()
        self.paid_for_slips -= possible.log().sum().item()
        each = torch.where(p > 0, p * (p.log() - log_q), 0.0)
        self.paid += each.sum().item()
        self.gains.append((own - true).item())


def measured(tally: Tally, texts: list[str]) -> dict[str, Any]:
    """The figures of one sampler; None where a nat count is infinite."""
    count = sum(map(stories.is_possible, texts))
    ratios = [exp(gain) for gain in tally.gains]
    share = count / len(texts)
    lost = sum(gain == -inf for gain in tally.gains)
    surprise = [sum(stories.surprisal(t)) for t in texts if stories.is_possible(t)]
    finite, finite_slips = tally.paid < inf, tally.paid_for_slips < inf
    error = np.std(ratios) / sqrt(len(ratios))
    return {
        "possible": round(share, 4),
        "possible, interval": wilson(count, len(texts)),
        "possible, from true stories": round(float(np.mean(ratios)), 4),
        "standard error of that": round(float(error), 4),
        "impossible words, per word": round(tally.slip / tally.words, 5),
        "regret": round(tally.paid / tally.words, 5) if finite else None,
        "regret for impossible words": round(tally.paid_for_slips / tally.words, 5)
        if finite_slips
        else None,
        "true stories lost": round(lost / len(ratios), 4),
        "true stories lost, interval": wilson(lost, len(ratios)),
        "overlap of what is possible": round(
            sum(min(1.0, ratio / share) for ratio in ratios) / len(ratios), 4
        )
        if count
        else None,
        "different stories": len(set(texts)),
        "nats of a possible sample": round(float(np.mean(surprise)), 2)
        if count
        else None,
    }


def hashes(rows: Sequence[Sequence[int]], names: np.ndarray) -> Iterator[np.ndarray]:
    """For n = 1, 2, …: a hash of every run of n words, 0 where none fits its story."""
    flat = np.concatenate([names[list(row)] for row in rows])
    left = np.concatenate([np.arange(len(row), 0, -1) for row in rows])
    base, power = np.uint64(6364136223846793005), np.uint64(1)
    found = np.zeros_like(flat)
    for n in range(1, max(map(len, rows)) + 1):
        found[: len(flat) - n + 1] += flat[n - 1 :] * power
        power = np.multiply(power, base)  # wraps around, as a hash may
        yield np.where(left >= n, found, np.uint64(0))


def longest_runs(samples: dict[str, list[str]]) -> dict[str, Any]:
    """The longest run of words that each text shares with any training story."""
    names = np.random.default_rng(0).integers(
        1, 2**63, tokenizer.vocab_size, dtype=np.uint64
    )
    training = [tale.text for tale in stories.corpus(N_TRAIN)]
    sizes = [len(texts) for texts in samples.values()]
    rows = [tokenizer.encode(text) for texts in samples.values() for text in texts]
    owner = np.concatenate([np.full(len(row), i) for i, row in enumerate(rows)])
    longest = np.zeros(len(rows), dtype=int)
    ours, theirs = (
        hashes(some, names) for some in (rows, list(map(tokenizer.encode, training)))
    )
    for n, (mine, known) in enumerate(zip(ours, theirs, strict=False), 1):
        shared = np.isin(mine, known) & (mine != 0)
        if not shared.any():
            break
        longest[np.unique(owner[shared])] = n
    known_whole = set(training)
    result = {}
    for (name, texts), runs in zip(
        samples.items(), np.split(longest, np.cumsum(sizes)[:-1]), strict=True
    ):
        copies = sum(text in known_whole for text in texts)
        result[name] = {
            "texts": len(texts),
            "whole training stories": copies,
            "interval": wilson(copies, len(texts)),
            "longest shared run, median": float(np.median(runs)),
            "longest shared run, 9 of 10 up to": float(np.quantile(runs, 0.9)),
            "longest shared run, most": int(runs.max()),
        }
    return result


def commit() -> str:
    """The commit that is measured."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    torch.set_num_threads(1)
    true = list(stories.corpus(N_TRUE, seed=FIRST_TRUE))
    kinds = [(kind, name) for kind, some in SAMPLERS.items() for name in some]
    tallies = {which: Tally() for which in kinds}
    for tale in true:
        logits, p, ids = read(tale)
        for kind, name in kinds:
            tallies[kind, name].add(SAMPLERS[kind][name](logits, NO_TOKENS), p, ids)
    found: dict[str, dict[str, Any]] = {kind: {} for kind in SAMPLERS}
    samples = {"true stories, new": [tale.text for tale in true]}
    for seed, (kind, name) in enumerate(kinds):
        n = 100 if kind == "greedy" else N_SAMPLES
        texts = told(SAMPLERS[kind][name], n, seed)
        found[kind][name] = measured(tallies[kind, name], texts)
        print(kind, name, found[kind][name], flush=True)
        if (kind, name) in COMPARED:
            samples[f"{kind} {name}"] = texts
    # The measure itself is tried on stories that are copies.
    samples["training stories"] = [tale.text for tale in stories.corpus(100)]
    floor = [sum(stories.surprisal(tale.text)) for tale in true]
    words = sum(len(tale.words) for tale in true)
    result: dict[str, Any] = {
        "command": COMMAND,
        "commit": commit(),
        "date": date.today().isoformat(),
        "device": choose("cpu", "float32").describe(),
        "seeds": list(range(len(kinds))),
        "samples of each sampler": N_SAMPLES,
        "true stories": N_TRUE,
        "words of a true story": round(words / N_TRUE, 1),
        "nats of a true story": round(sum(floor) / N_TRUE, 2),
        "samplers": found,
        "training stories": N_TRAIN,
        "copied": longest_runs(samples),
    }
    assert result["copied"]["training stories"]["whole training stories"] == 100
    path = ROOT / "results" / "sampling.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
