"""How fast a text grows: minigpt against transformers, and nanoGPT where it is.

    OMP_NUM_THREADS=1 python benchmarks/generation.py --nanogpt PATH
    MINIGPT_DATA=… OMP_NUM_THREADS=1 python benchmarks/generation.py --loss

Greedy, from a prompt of 32 tokens, in one process and in turns. Everyone has the same
weights, float32 unless the name says otherwise, and before a clock is read everyone who
computes in float32 must have written the same tokens. Each plays his best: minigpt with
packed weights and a preallocated cache, transformers with `sdpa` and either of its
caches, nanoGPT as it is: it has no cache. `--loss` measures what packed weights cost:
bits per byte of `minigpt-base` on the three books that it has not read.

Each row of results/generation.json is kept as soon as it is measured, and names the
command that made it. `--shape b`, `--batch 8`, `--rounds 5` ask for less, `--quick`
for the least, which writes nothing.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import torch
from torch import Tensor

from minigpt import load_pretrained, load_text, pack
from minigpt.generate import generate
from minigpt.packed import KINDS
from minigpt.scoring import score_text

RESULT = peers.ROOT / "results" / "generation.json"
PROMPT = 32
NEW = {"a": 32, "b": 224, "c": 48}


@dataclass(frozen=True)
class Writer:
    """Someone who goes on with a prompt, and whether he must be exact."""

    write: Callable[[], Tensor]
    exact: bool = True


def writers(shape: str, batch: int, nanogpt: Path | None) -> dict[str, Writer]:
    """Everyone, with the same weights and the same prompt."""
    model = peers.made(shape).eval()
    # A model as it is first drawn repeats one token; larger weights make it wander.
    for parameter in model.parameters():
        parameter.data *= 2.0
    prompt = torch.randint(model.config.vocab_size, (batch, PROMPT))
    new = NEW[shape]

    def ours(some: Any) -> Callable[[], Tensor]:
        return lambda: generate(some, prompt, max_new_tokens=new)

    theirs: Any = peers.huggingface(model).eval()

    def hugging(cache: str) -> Tensor:
        with torch.inference_mode():
            return theirs.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=new,
                do_sample=False,
                cache_implementation=cache,
                pad_token_id=0,
            )

    found = {
        f"minigpt, {kind}": Writer(ours(pack(model, kind)), kind == "float32")
        for kind in KINDS
    }
    found["minigpt, not packed"] = Writer(ours(model))
    found["transformers, dynamic cache"] = Writer(lambda: hugging("dynamic"))
    found["transformers, static cache"] = Writer(lambda: hugging("static"))
    if nanogpt is not None and batch == 1:
        nano: Any = peers.nanogpt(model, nanogpt, tanh=True).eval()
        found["nanoGPT"] = Writer(lambda: nano.generate(prompt, new, top_k=1))
    return found


def race(shape: str, batch: int, rounds: int, nanogpt: Path | None) -> dict[str, Any]:
    """One row: equality first, then turns."""
    everyone = writers(shape, batch, nanogpt)
    texts = {name: writer.write() for name, writer in everyone.items()}
    wanted = texts["transformers, dynamic cache"]
    for name, text in texts.items():
        if everyone[name].exact and not torch.equal(text, wanted):
            same = (text == wanted).float().mean()
            raise SystemExit(f"{name}: another text, {same:.1%} of its tokens equal")
    distinct = len(set(wanted[0, PROMPT:].tolist()))
    jobs = {name: writer.write for name, writer in everyone.items()}
    seconds = peers.turns(jobs, rounds)
    best = peers.fastest(seconds, "transformers")
    against = [best, *(["nanoGPT"] if "nanoGPT" in everyone else [])]
    return {
        "prompt": PROMPT,
        "new tokens": NEW[shape],
        "batch": batch,
        "parameters": peers.SHAPES[shape].n_parameters,
        "rounds": rounds,
        "distinct tokens written": distinct,
        "writers": peers.compared(seconds, batch * NEW[shape], against),
    }


def cost(characters: int | None) -> dict[str, Any]:
    """Bits per byte of minigpt-base, as it is and packed, on what it never read."""
    model, tokenizer = load_pretrained("minigpt-base")
    if tokenizer is None:
        raise SystemExit("expected minigpt-base to have a tokenizer")
    text = load_text("gutenberg-prose").validation[:characters]
    half = model.config.context_length // 2
    models = {"as it is": model}
    models |= {str(kind): pack(model, kind) for kind in KINDS}
    bits = {}
    for name, some in models.items():
        bits[name] = score_text(some, tokenizer, [text], stride=half).bits_per_byte
        print(name, bits[name], flush=True)
    return {
        "model": "minigpt-base",
        "bytes": len(text.encode()),
        "stride": half,
        "bits per byte": {name: round(value, 5) for name, value in bits.items()},
        "cost": {name: round(bits[name] - bits["as it is"], 5) for name in KINDS},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nanogpt", type=Path, help="folder of nanoGPT's model.py")
    parser.add_argument("--shape", choices=list(peers.SHAPES), help="(default: all)")
    parser.add_argument("--batch", type=int, choices=[1, 8], help="(default: both)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--loss", action="store_true", help="what fewer bits cost")
    parser.add_argument("--quick", action="store_true", help="a, and nothing written")
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    if asked.loss:
        command = "generation.py --loss"
        found = {**peers.about(command), **cost(None)}
        found["command"] = f"MINIGPT_DATA=… {found['command']}"
        peers.keep(RESULT, "loss", found)
        return 0
    pairs = [(s, b) for s in peers.SHAPES for b in (1, 8)]
    for shape, batch in [("a", 1)] if asked.quick else pairs:
        if asked.shape in (None, shape) and asked.batch in (None, batch):
            row = race(shape, batch, asked.rounds, asked.nanogpt)
            nano = " --nanogpt PATH" if asked.nanogpt else ""
            command = f"generation.py --shape {shape} --batch {batch}{nano}"
            threads = torch.get_num_threads()
            name = f"{shape}, batch {batch}, threads {threads}"
            print(name, *row["writers"].items(), sep="\n  ", flush=True)
            if not asked.quick:
                peers.keep(RESULT, name, {**peers.about(command), **row})
    return 0


if __name__ == "__main__":
    sys.exit(main())
