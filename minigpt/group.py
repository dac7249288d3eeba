"""Chapter 9. A group: several processes under `fit`, each with its part of one run.

    torchrun --nproc-per-node 2 -m minigpt.cli train --data … --out run --strategy ddp

Every process runs the same program on the same text. All draw the same batches, and
each computes its own rows of them (ddp, fsdp) or its share of every layer (tp), so the
losses are those of one process. The first one writes `run.json` and `best/`; `last/` is
written by all, each its own shards, and read again by any number of them: it must lie
where all can reach it. (With `--log`, write `-m -- minigpt.cli`: torchrun has flags
that begin so.)

A process that is lost ends the run with one sentence, and the same command goes on from
the last save. AdamW works under every strategy; Muon and Adafactor, which look at whole
matrices, under ddp. A folder is gone on with by those who trust it: torch pickles the
list of its shards.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adafactor, Optimizer

from minigpt.alone import (
    ALONE,
    SHARDED,
    BatchLoss,
    Kind,
    Lost,
    ModelLoss,
    Processes,
    save_whole,
)
from minigpt.checkpoint import blank, random_tensors, restore_random
from minigpt.data import IGNORE, Batch
from minigpt.distributed import Strategy, joined, started
from minigpt.hardware import choose
from minigpt.model import GPT
from minigpt.recipe import TrainConfig
from minigpt.storage import read_json, recovered, replacing_folder
from minigpt.tokenizer import Tokenizer


class Group:
    """This process's view of a group that computes one run together."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.size, self.first = strategy.size, strategy.rank == 0
        self.note = f", {self.size} processes, {strategy.kind}"
        self.module: nn.Module | None = None

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first does what is inside, then the others do, and find it done."""
        if not self.first:
            dist.barrier()
        try:
            yield
        finally:
            # Where it fails for the first it fails for all, each with its reason.
            if self.first:
                dist.barrier()

    def spread(self, model: GPT, config: TrainConfig) -> None:
        """Take this process's part of the model; before its optimiser is made.

        Raises:
            ValueError: float16 on parts of weights, or heads that do not divide.
        """
        kind = self.strategy.kind
        if kind != "ddp" and choose(config.device, config.precision).scaled:
            raise ValueError(
                f"expected precision float32 or bfloat16 with strategy {kind}, got "
                f"float16: its loss scale would differ from part to part, so choose "
                f"another precision, or ddp"
            )
        if config.compile:
            for block in model.blocks:
                block.compile()
        self.module = self.strategy.wrap(model)
        if kind != "tp":
            # Other rows, other dropout; under tp all must drop the same.
            torch.manual_seed(config.seed + self.strategy.rank)

    def adapt(self, optimizers: Sequence[Optimizer]) -> None:
        """Make the optimisers fit for parts of weights.

        Raises:
            ValueError: Muon or Adafactor on parts of matrices.
        """
        kind = self.strategy.kind
        for one in optimizers:
            if kind != "ddp" and isinstance(one, Adafactor):
                raise ValueError(
                    f"expected optimizer adamw with strategy {kind}, got adafactor: it "
                    f"needs whole matrices, so choose ddp or adamw"
                )
            self.strategy.adapt(one)

    @property
    def spread_model(self) -> nn.Module:
        """The loss of the model that was spread, as a module.

        Raises:
            ValueError: none was.
        """
        if self.module is None:
            raise ValueError(
                "expected a model that is spread over the group, got a whole one: call "
                "`spread` before the optimiser is made, as `fit` does"
            )
        return self.module

    def loss_of(self, model: GPT, plain: ModelLoss) -> BatchLoss:
        """The loss of the model that was spread."""
        return self.spread_model

    def share(self, batch: Batch) -> Batch:
        """This process's rows, as many as every other's: some may have no target."""
        return self.strategy.share(filled_up(batch, self.size))

    def expect(self, more: bool) -> None:
        """Whether more parts of this batch follow: gradients may wait for the last."""
        # Under fsdp, waiting would keep the whole gradient here, which is too large.
        if isinstance(self.module, DistributedDataParallel):
            self.module.require_backward_grad_sync = not more

    def scale(self) -> int:
        """Factor on a process's part of a sum over rows, before `backward`."""
        return self.strategy.scale()

    def add(self, number: Tensor) -> Tensor:
        """The sum of each one's number over its rows; under tp all have all rows."""
        if self.strategy.kind == "tp":
            return number.double()
        return self.strategy.reduced(number)

    def clip(self, model: GPT, limit: float) -> Tensor:
        """Clip the whole gradient, of which this process may hold a part."""
        return self.strategy.clip(model, limit)

    def agree(self, stop: bool) -> bool:
        """Whether any of them wants to stop: all must take the same steps."""
        return bool(self.strategy.reduced(torch.tensor(stop)) > 0)

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """A new folder for all that takes the place of `path` once all have written."""
        with ExitStack() as stack:
            here = stack.enter_context(replacing_folder(path)) if self.first else path
            told = [here]
            dist.broadcast_object_list(told)
            yield told[0]
            dist.barrier()
        dist.barrier()

    def save(
        self,
        folder: Path,
        model: GPT,
        tokenizer: Tokenizer | None,
        optimizers: Sequence[Optimizer],
    ) -> dict[str, Tensor]:
        """Write this process's shards; all processes' random states are returned."""
        self.strategy.save(folder / SHARDED, self.spread_model, optimizers)
        states: list[dict[str, Tensor]] = [{} for _ in range(self.size)]
        dist.all_gather_object(states, random_tensors())
        return {
            f"{name}.{rank}": state
            for rank, found in enumerate(states)
            for name, state in found.items()
        }

    def restore(
        self,
        folder: Path,
        model: GPT,
        optimizers: Sequence[Optimizer],
        kept: dict[str, Tensor],
    ) -> None:
        """Read what any number of processes wrote.

        On another number, dropout draws what no other run has drawn.

        Raises:
            ValueError: the run was one of a single process.
        """
        if not (folder / SHARDED).exists():
            raise ValueError(
                f"expected a run of several processes in {folder}, got one of a single "
                f"process: go on without torchrun, or choose another folder"
            )
        self.strategy.load(folder / SHARDED, self.spread_model, optimizers)
        if sum(name.startswith("random.cpu.") for name in kept) == self.size:
            end = f".{self.strategy.rank}"
            mine = {n.removesuffix(end): w for n, w in kept.items() if n.endswith(end)}
            restore_random(mine)

    def export(self, folder: Path, model: GPT, tokenizer: Tokenizer | None) -> None:
        """Write the whole model, which all give and the first one has."""
        weights = self.strategy.whole(self.spread_model)
        if self.first:
            whole = blank(model.config)
            whole.load_state_dict(weights, assign=True)
            save_whole(folder, whole, tokenizer)


def filled_up(batch: Batch, size: int) -> Batch:
    """The batch with rows that count for nothing, until they divide by `size`.

    >>> rows = torch.ones(3, 1, dtype=torch.long)
    >>> filled_up(Batch(rows, rows), 2).targets.tolist()
    [[1], [1], [1], [-100]]
    """
    below = (0, 0, 0, -len(batch.inputs) % size)
    return Batch(F.pad(batch.inputs, below), F.pad(batch.targets, below, value=IGNORE))


@contextmanager
def running(
    kind: Kind | None, *, device: str = "auto", out: Path | None = None
) -> Iterator[Processes]:
    """One process, or the group that `torchrun` started, for a run saved in `out`.

    Whatever ends the run early is raised in one process of the group and leaves the
    others silent, with exit code 1.

    Raises:
        ValueError: torchrun without a strategy, or a strategy without torchrun.
        Lost: another process has ended; the sentence says how to go on.
        SystemExit: in the processes that stay silent.
    """
    if kind is None:
        if started() and os.environ["WORLD_SIZE"] != "1":
            raise ValueError(
                "expected --strategy ddp, fsdp or tp under torchrun, got none: the "
                "processes would each write a run of their own into one folder"
            )
        yield ALONE
        return
    strategy: Strategy | None = None
    try:
        with joined(kind, device) as strategy:
            yield Group(strategy)
    except Exception as error:
        if strategy is not None and not strategy.speaks():
            raise SystemExit(1) from None
        if isinstance(error, Lost):
            raise Lost(f"{error}: {how_to_go_on(out)}") from error
        raise


def how_to_go_on(out: Path | None) -> str:
    """What is left of a run that ended early."""
    saved = None if out is None else recovered(out / "last") / "training.json"
    if saved is None or not saved.is_file():
        return "nothing was saved yet, so the same command starts again"
    steps = len(read_json(saved)["records"])
    return (
        f"{saved.parent} holds the run up to step {steps}, and the same command goes "
        f"on from there, on any number of processes"
    )
