"""Chapter 5. Processes: what a run asks of those that compute it; here there is one.

A run may be spread over several processes (chapter 9). `fit` says the same to one as to
many: take your rows of this batch, add up the loss, clip the gradient, write down your
part. `Processes` lists what is said, and `Alone` is the answer of a single process.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer

from minigpt.checkpoint import (
    Format,
    load_folder,
    optimizer_tensors,
    random_tensors,
    restore_optimizers,
    restore_random,
    save_pretrained,
)
from minigpt.data import Batch
from minigpt.foreign import huggingface_config
from minigpt.model import GPT
from minigpt.recipe import TrainConfig
from minigpt.storage import replacing_folder
from minigpt.tokenizer import Tokenizer

# How several processes can share a run; chapter 9 says what each way means.
Kind = Literal["ddp", "fsdp", "tp"]
KINDS: tuple[Kind, ...] = ("ddp", "fsdp", "tp")
# The parts of a model that are saved by several processes lie in this folder.
SHARDED = "sharded"

# The loss of a model on inputs and targets, and the same of a model that is known.
ModelLoss = Callable[[GPT, Tensor, Tensor], Tensor]
BatchLoss = Callable[[Tensor, Tensor], Tensor]


class Lost(RuntimeError):
    """Another process of the run has ended, so this one cannot go on."""


@runtime_checkable
class Processes(Protocol):
    """Those that compute a run together, each of which has this view of the others."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks for all."""

    @property
    def note(self) -> str:
        """What to add to the line that says on what a run computes."""

    def in_turn(self) -> AbstractContextManager[None]:
        """The first does what is inside, then the others do, and find it done."""

    def spread(self, model: GPT, config: TrainConfig) -> None:
        """Take this process's part of the model; before its optimiser is made."""

    def adapt(self, optimizers: Sequence[Optimizer]) -> None:
        """Make the optimisers fit for such parts."""

    def loss_of(self, model: GPT, plain: ModelLoss) -> BatchLoss:
        """The loss of the model that was spread; `plain` is that of a whole one."""

    def share(self, batch: Batch) -> Batch:
        """This process's rows of a batch that all drew alike."""

    def expect(self, more: bool) -> None:
        """Whether more parts of this batch follow: gradients may wait for the last."""

    def scale(self) -> int:
        """Factor on a process's part of a sum over rows, before `backward`."""

    def add(self, number: Tensor) -> Tensor:
        """The sum of each one's number over its rows."""

    def clip(self, model: GPT, limit: float) -> Tensor:
        """Clip the whole gradient; its norm before."""

    def agree(self, stop: bool) -> bool:
        """Whether any of them wants to stop."""

    def replacing(self, path: Path) -> AbstractContextManager[Path]:
        """A new folder for all that takes the place of `path` if all succeed."""

    def save(
        self,
        folder: Path,
        model: GPT,
        tokenizer: Tokenizer | None,
        optimizers: Sequence[Optimizer],
    ) -> dict[str, Tensor]:
        """Write weights and more to go on from; what else must be kept."""

    def restore(
        self,
        folder: Path,
        model: GPT,
        optimizers: Sequence[Optimizer],
        kept: dict[str, Tensor],
    ) -> None:
        """Read what `save` wrote, and put back what it returned."""

    def export(self, folder: Path, model: GPT, tokenizer: Tokenizer | None) -> None:
        """Write the whole model, to be used elsewhere."""


class Alone:
    """One process: every row is its own, and its sums are the sums."""

    size = 1
    first = True
    note = ""

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """At once."""
        yield

    def spread(self, model: GPT, config: TrainConfig) -> None:
        """The model stays whole."""

    def adapt(self, optimizers: Sequence[Optimizer]) -> None:
        """Nothing to change."""

    def loss_of(self, model: GPT, plain: ModelLoss) -> BatchLoss:
        """The plain loss of this model."""
        return lambda inputs, targets: plain(model, inputs, targets)

    def share(self, batch: Batch) -> Batch:
        """All of it."""
        return batch

    def expect(self, more: bool) -> None:
        """Gradients add up by themselves."""

    def scale(self) -> int:
        """No mean is taken that would have to be undone."""
        return 1

    def add(self, number: Tensor) -> Tensor:
        """The number itself."""
        return number

    def clip(self, model: GPT, limit: float) -> Tensor:
        """As torch does."""
        return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)

    def agree(self, stop: bool) -> bool:
        """With itself."""
        return stop

    def replacing(self, path: Path) -> AbstractContextManager[Path]:
        """A new folder that takes the place of `path`, whole."""
        return replacing_folder(path)

    def save(
        self,
        folder: Path,
        model: GPT,
        tokenizer: Tokenizer | None,
        optimizers: Sequence[Optimizer],
    ) -> dict[str, Tensor]:
        """A saved model, and beside it the optimiser and the random generators."""
        save_whole(folder, model, tokenizer)
        return optimizer_tensors(tuple(optimizers)) | random_tensors()

    def restore(
        self,
        folder: Path,
        model: GPT,
        optimizers: Sequence[Optimizer],
        kept: dict[str, Tensor],
    ) -> None:
        """Read what `save` wrote, and put back what it returned.

        Raises:
            ValueError: the run was one of several processes.
        """
        if (folder / SHARDED).exists():
            raise ValueError(
                f"expected a run of one process in {folder}, got one that torchrun "
                f"spread over several: go on with torchrun and its --strategy, on any "
                f"number of processes"
            )
        model.load_state_dict(load_folder(folder).model.state_dict())
        restore_optimizers(tuple(optimizers), kept)
        restore_random(kept)

    def export(self, folder: Path, model: GPT, tokenizer: Tokenizer | None) -> None:
        """A saved model."""
        save_whole(folder, model, tokenizer)


ALONE = Alone()


def save_whole(folder: Path, model: GPT, tokenizer: Tokenizer | None) -> None:
    """A model in Hugging Face's layout, or in ours where that cannot hold its shape."""
    form: Format = "huggingface"
    try:
        huggingface_config(model.config)
    except ValueError:
        form = "minigpt"
    save_pretrained(model, tokenizer, folder, format=form)
