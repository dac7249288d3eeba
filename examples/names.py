"""New names in the manner of old ones: `python examples/names.py`, one core, a minute.

    python examples/names.py --names yours.txt --out run/

A list of names, one a line, is all it learns from; without a file, 807 places on the
coast around Ternhaven, invented for this book. Each name is a row that starts and ends
with a line break, predicted character by character. A tenth of the list is held out,
and the run ends when the loss on it stops falling: before it knows the list by heart.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from minigpt import GPT, CharTokenizer, GPTConfig, Temperature, TrainConfig, fit
from minigpt.data import pad_rows
from minigpt.generate import generate_batch
from minigpt.pretrained import load_pretrained
from minigpt.texts import ASSETS, read_text
from minigpt.tokenizer import Tokenizer

END = "\n"


def different(lines: Iterable[str]) -> list[str]:
    """Each name once, or one that is learned could be held out as well."""
    return list(dict.fromkeys(filter(None, map(str.strip, lines))))


def learn(
    names: list[str], out: Path, *, steps: int = 1000, seed: int = 0
) -> tuple[GPT, CharTokenizer]:
    """The best small GPT of a run on nine tenths of the names, and its tokenizer."""
    tokenizer = CharTokenizer.train(END.join(names) + END)
    rows = pad_rows([tokenizer.encode(END + name + END) for name in names])
    rows = rows[torch.randperm(len(rows), generator=torch.manual_seed(seed))]
    held = max(1, len(rows) // 10)
    shape = GPTConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=rows.shape[1],
        n_layer=2,
        d_model=64,
        dropout=0.1,
    )
    config = TrainConfig(steps=steps, eval_every=25, patience=8, seed=seed)
    model, train, val = GPT(shape), rows[held:], rows[:held]
    fit(model, train, val, config, out=out, tokenizer=tokenizer)
    return load_pretrained(out / "best").model, tokenizer


def invent(
    model: GPT, tokenizer: Tokenizer, n: int, *, heat: float = 0.8, seed: int = 0
) -> list[str]:
    """Draw n names."""
    (end,) = tokenizer.encode(END)
    rows = generate_batch(
        model,
        [[end]] * n,
        max_new_tokens=model.config.context_length - 1,
        sampler=Temperature(heat),
        stop=[end],
        generator=torch.Generator().manual_seed(seed),
    )
    return [tokenizer.decode(row).strip() for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--names", type=Path, default=ASSETS / "names.txt")
    parser.add_argument("--out", type=Path, help="folder to keep the model in")
    parser.add_argument("--steps", type=int, default=1000, help="at most")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    known = different(read_text(asked.names).splitlines())
    with TemporaryDirectory() as folder:
        out = asked.out or Path(folder)
        found = learn(known, out, steps=asked.steps, seed=asked.seed)
    drawn = invent(*found, 500, heat=asked.temperature, seed=asked.seed)
    new = [name for name in drawn if name not in known]
    print(*list(dict.fromkeys(new))[:20], sep="\n")
    print(f"\n{len(new)} of {len(drawn)} names are none of the {len(known)} it knew")


if __name__ == "__main__":
    main()
