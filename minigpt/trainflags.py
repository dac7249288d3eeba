"""Chapter 0. The flags of `minigpt train`: what to read, and every field of a run."""

import argparse
from pathlib import Path

from minigpt.alone import KINDS as STRATEGIES
from minigpt.callbacks import TensorBoard, WeightsAndBiases
from minigpt.corpus import KINDS
from minigpt.flags import add_fields
from minigpt.model import GPTConfig
from minigpt.recipe import TrainConfig
from minigpt.texts import names

LOGS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
# A model this small learns from a text this short in minutes.
SMALL = {"context_length": 128}


def add_train(train: argparse.ArgumentParser) -> None:
    """The flags of `minigpt train`."""
    train.add_argument(
        "--data", required=True, help=f"a .txt, .jsonl or .csv, or {', '.join(names())}"
    )
    train.add_argument(
        "--out", type=Path, required=True, help="folder for the run; resumed if there"
    )
    train.add_argument(
        "--tokenizer",
        choices=KINDS,
        default="auto",
        help="characters, the words of stories, or byte pairs (default: auto)",
    )
    train.add_argument(
        "--vocab-size", type=int, default=4096, help="tokens of bpe (default: 4096)"
    )
    train.add_argument(
        "--preset", choices=GPTConfig.presets(), help="a published shape to start from"
    )
    train.add_argument(
        "--log",
        nargs="+",
        choices=LOGS,
        default=[],
        help="write every step for one of these too (extra log)",
    )
    train.add_argument(
        "--strategy",
        choices=STRATEGIES,
        help="under torchrun: each process has a copy of the model (ddp), shards of "
        "all weights (fsdp), or its share of every layer (tp)",
    )
    train.add_argument("--reference", help="a shipped model whose curve to show beside")
    model = train.add_argument_group("model")
    add_fields(model, GPTConfig, without=("vocab_size",), changed=SMALL)
    add_fields(train.add_argument_group("run"), TrainConfig)
