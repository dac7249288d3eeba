"""The others in a race: the same weights in other hands, turns, medians, ratios.

`train_step.py` and `generation.py` import this; alone it does nothing. A peer that does
not come with the book is pointed at: `--nanogpt PATH` is the folder of nanoGPT's
`model.py`. Everyone gets the weights of one `minigpt` model.
"""

import contextlib
import importlib.util
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minigpt import GPT, GPTConfig, save_pretrained
from minigpt.foreign import foreign_names
from minigpt.hardware import cpu_has_bfloat16

ROOT = Path(__file__).parents[1]
PREFIX = "transformer."


def shape(n: int, width: int, context_length: int) -> GPTConfig:
    """n layers of n heads over 65 characters."""
    return GPTConfig(
        vocab_size=65,
        context_length=context_length,
        n_layer=n,
        n_head=n,
        d_model=width,
    )


# nanoGPT's two recipes for characters (for a CPU, for a GPU), and GPT-2's smallest.
SHAPES = {
    "a": shape(4, 128, 64),
    "b": shape(6, 384, 256),
    "c": GPTConfig.preset("gpt2", context_length=256, dropout=0.0),
}


def made(name: str) -> GPT:
    """A model of one shape, the same every time."""
    torch.manual_seed(0)
    return GPT(SHAPES[name])


def huggingface(model: GPT) -> nn.Module:
    """The same weights as `transformers`' own class."""
    from transformers import GPT2LMHeadModel

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no tokenizer
        save_pretrained(model, None, folder)
        theirs = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="sdpa")
    # A model of random weights may say any token at any time: it must not stop there.
    theirs.generation_config.eos_token_id = None
    return theirs


def nanogpt(model: GPT, folder: Path, *, tanh: bool) -> nn.Module:
    """The same weights as nanoGPT's class, whose GELU is exact unless `tanh`."""
    spec = importlib.util.spec_from_file_location("nanogpt", folder / "model.py")
    if spec is None or spec.loader is None or not (folder / "model.py").exists():
        raise SystemExit(f"expected nanoGPT's model.py in {folder}, found none")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt"] = module
    spec.loader.exec_module(module)
    c = model.config
    with contextlib.redirect_stdout(io.StringIO()):
        theirs: nn.Module = module.GPT(
            module.GPTConfig(
                block_size=c.context_length,
                vocab_size=c.vocab_size,
                n_layer=c.n_layer,
                n_head=c.n_head,
                n_embd=c.d_model,
                dropout=0.0,
                bias=c.bias,
            )
        )
    state = model.state_dict()
    renamed = {
        f"{PREFIX}{name.removeprefix(PREFIX)}": state[ours]
        for ours, (name, _) in foreign_names(c).items()
    }
    missing = theirs.load_state_dict(renamed, strict=False)
    assert set(missing.missing_keys) <= {"lm_head.weight"}
    assert not missing.unexpected_keys
    for layer in theirs.modules():
        if tanh and isinstance(getattr(layer, "gelu", None), nn.GELU):
            layer.gelu = nn.GELU(approximate="tanh")
    return theirs


def turns(
    jobs: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each job in each round; all take turns, after one round of warm-up."""
    for job in jobs.values():
        job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def interval(values: Sequence[float]) -> list[float]:
    """Order statistics that hold the median with 95 % or more, whatever the values.

    With fewer than six values even the smallest and the largest hold it with less.
    """
    ranked, n = sorted(values), len(values)
    k = 0
    while n >= 6 and 2 * sum(math.comb(n, i) for i in range(k + 2)) / 2**n <= 0.05:
        k += 1
    return [round(ranked[k], 3), round(ranked[n - 1 - k], 3)]


def compared(
    seconds: Mapping[str, Sequence[float]], tokens: int, against: Sequence[str]
) -> dict[str, Any]:
    """Median rate of each, and how many times as fast as others, round by round."""
    rows: dict[str, Any] = {}
    for name, mine in seconds.items():
        middle = statistics.median(mine)
        rows[name] = {
            "tokens per second": round(tokens / middle, 1),
            "milliseconds": round(1000 * middle, 3),
        }
        for other in against:
            factors = [b / a for a, b in zip(mine, seconds[other], strict=True)]
            rows[name] |= {
                f"over {other}": round(statistics.median(factors), 3),
                f"over {other}, interval": interval(factors),
            }
    return rows


def fastest(seconds: Mapping[str, Sequence[float]], start: str) -> str:
    """Whose median is the smallest, of those whose name starts so."""
    names = [name for name in seconds if name.startswith(start)]
    return min(names, key=lambda name: statistics.median(seconds[name]))


def about(command: str) -> dict[str, Any]:
    """How, on what code, when and where."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    threads = torch.get_num_threads()
    return {
        "command": f"OMP_NUM_THREADS={threads} python benchmarks/{command}",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": f"cpu, native bfloat16: {'yes' if cpu_has_bfloat16() else 'no'}",
        "threads": threads,
        "compile": "off",
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def keep(path: Path, name: str, row: dict[str, Any]) -> None:
    """Put one row into a result and leave the others as they are."""
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    rows = {**before.get("rows", {}), name: row}
    text = json.dumps({**before, "rows": rows}, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", "utf-8")
