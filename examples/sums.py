"""Three-digit sums, learned from examples: `python examples/sums.py`, one core.

    314+159=3740        the sum 0473, its last digit first

The answer is written from its last digit, as we add on paper: a carry moves leftwards,
so each digit needs the two above it and one carry from just before. Written from the
front (--forward), the first digit hangs on all six at once, which takes more examples
to learn. No sum that is asked at the end was trained on, nor its mirror image b + a.
"""

import argparse
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from minigpt import GPT, CharTokenizer, GPTConfig, TrainConfig, training_steps
from minigpt.data import IGNORE, Batch, make_batches
from minigpt.generate import generate

Pair = tuple[int, int]
TOKENIZER = CharTokenizer("0123456789+=")
RECIPE = TrainConfig(steps=500, batch_size=128)


def draw(n: int, seed: int, without: Iterable[Pair] = ()) -> list[Pair]:
    """n different pairs of numbers from 0 to 999, none in `without` in either order."""
    rng, taken = random.Random(seed), {frozenset(pair) for pair in without}
    most = 1000 * 1001 // 2 - len(taken)
    if n > most:
        raise ValueError(f"expected at most {most:,} pairs, got {n:,}: ask for fewer")
    found: dict[frozenset[int], Pair] = {}
    while len(found) < n:
        pair = rng.randrange(1000), rng.randrange(1000)
        if frozenset(pair) not in taken:
            found[frozenset(pair)] = pair
    return list(found.values())


def written(pairs: Iterable[Pair], *, forward: bool = False) -> torch.Tensor:
    """One row of tokens for each sum; every number has its leading zeros."""
    turn = 1 if forward else -1
    lines = [f"{a:03}+{b:03}=" + f"{a + b:04}"[::turn] for a, b in pairs]
    return torch.tensor([TOKENIZER.encode(line) for line in lines])


def answers_only(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Predict what follows the =; which sum is asked, nobody could."""
    for inputs, targets in batches:
        targets[:, :7] = IGNORE
        yield Batch(inputs, targets)


def train(rows: torch.Tensor, config: TrainConfig) -> GPT:
    """A new model after one run."""
    torch.manual_seed(config.seed)
    model = GPT(GPTConfig(vocab_size=12, context_length=11, n_layer=2))
    batches = make_batches(
        rows, context_length=11, batch_size=config.batch_size, seed=config.seed
    )
    for record in training_steps(model, answers_only(batches), config):
        if record.step % 50 == 0:
            print(f"step {record.step}, loss {record.loss:.4f}", flush=True)
    return model


def exact(model: GPT, rows: torch.Tensor) -> int:
    """How many answers are right in every digit."""
    answers = (
        generate(model, some[:, :8], max_new_tokens=4) for some in rows.split(1000)
    )
    return int((torch.cat(list(answers)) == rows).all(1).sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument(
        "--examples", type=int, default=64_000, help="sums to learn from"
    )
    parser.add_argument("--seed", type=int, default=RECIPE.seed)
    parser.add_argument("--forward", action="store_true", help="first digit first")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    test = draw(10_000, seed=-1)
    try:
        learned = draw(asked.examples, seed=asked.seed, without=test)
    except ValueError as error:
        parser.error(str(error))
    config = replace(RECIPE, steps=asked.steps, seed=asked.seed)
    model = train(written(learned, forward=asked.forward), config)
    n = exact(model, written(test, forward=asked.forward))
    print(f"{n:,} of {len(test):,} sums that it never saw are exact")


if __name__ == "__main__":
    main()
