"""Chapter 9. Many devices: one run, several processes, the same losses.

    ddp    every process holds the whole model and reads its own rows of each batch;
           gradients are averaged (Li et al. 2020)
    fsdp   the same, but each process keeps only its share of weights, gradients and
           optimiser state, and gathers one block at a time (Rajbhandari et al. 2020,
           ZeRO stage 3; torch's `fully_shard`)
    tp     every process reads all rows and computes its share of the heads and of the
           MLP's channels (Shoeybi et al. 2019, section 3)

All three are torch's own. What is ours is the arithmetic around them: which rows a
process reads, what a mean over all rows is, the norm of a gradient that lies in pieces,
and checkpoints that another number of processes can read. `torchrun` starts the
processes; `joined` is what each of them calls first.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from minigpt.alone import KINDS, Kind, Lost
from minigpt.data import Batch
from minigpt.hardware import choose
from minigpt.model import GPT, Block
from minigpt.train import next_token_loss

QKV = ".attention.qkv."
# Split by rows, then by columns: between the two no process needs another's numbers.
SPLITS: dict[str, Callable[[], ParallelStyle]] = {
    "attention.qkv": ColwiseParallel,
    "attention.out": RowwiseParallel,
    "mlp.up": ColwiseParallel,
    "mlp.down": RowwiseParallel,
}


class Loss(nn.Module):
    """The loss as a module: torch's wrappers act where a module is called."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, inputs: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of the next token, in nats."""
        return next_token_loss(self.model, inputs, targets)


def by_process(rows: Tensor, size: int) -> Tensor:
    """Rows of [q; k; v], regrouped so that each process's q, k, v lie together.

    >>> by_process(torch.tensor([1, 2, 11, 12, 21, 22]), 2).tolist()
    [1, 11, 21, 2, 12, 22]
    """
    return rows.unflatten(0, (3, size, -1)).transpose(0, 1).flatten(0, 2)


def by_role(rows: Tensor, size: int) -> Tensor:
    """What `by_process` regrouped, as [q; k; v] again."""
    return rows.unflatten(0, (size, 3, -1)).transpose(0, 1).flatten(0, 2)


class Strategy:
    """How one run is spread over the processes of a group.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(
        self, kind: Kind, mesh: DeviceMesh, store: dist.Store | None = None
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"expected a strategy {', '.join(KINDS)}, got {kind!r}")
        self.kind, self.mesh, self.store = kind, mesh, store
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def wrap(self, model: GPT) -> nn.Module:
        """The model's loss, spread over the processes; the model is changed in place.

        Raises:
            ValueError: heads or MLP channels that do not divide by the processes.
        """
        whole = Loss(model)
        if self.kind == "ddp":
            return DistributedDataParallel(whole)
        if self.kind == "fsdp":
            for block in model.blocks:
                fully_shard(block, mesh=self.mesh)
            fully_shard(whole, mesh=self.mesh)
        if self.kind == "tp":
            self._split_heads(model)
        return whole

    def _split_heads(self, model: GPT) -> None:
        config = model.config
        for name, count in (("heads", config.n_head), ("channels", config.mlp_width)):
            if count % self.size:
                raise ValueError(
                    f"expected {name} that divide by {self.size} processes, got "
                    f"{count}: choose another number of processes, or fsdp"
                )
        for block in cast(Iterable[Block], model.blocks):
            attention = block.attention
            attention.n_head //= self.size
            with torch.no_grad():
                for rows in attention.qkv.parameters():
                    # Every process starts from the first one's weights.
                    dist.broadcast(rows, 0)
                    rows.copy_(by_process(rows, self.size))
            plan = {name: style() for name, style in SPLITS.items()}
            parallelize_module(block, self.mesh, plan)

    def adapt(self, optimizer: Optimizer) -> None:
        """Make an optimiser fit for weights that lie in pieces.

        Raises:
            ValueError: Muon on pieces of matrices.
        """
        for group in optimizer.param_groups:
            if self.kind != "ddp" and "momentum" in group:
                raise ValueError(
                    f"expected optimizer adamw with strategy {self.kind}, got muon: it "
                    f"needs whole matrices, so choose ddp or adamw"
                )
            # One fused kernel cannot take split and whole weights together.
            if self.kind == "tp":
                group["fused"] = group["foreach"] = False

    def share(self, batch: Batch) -> Batch:
        """This process's rows of a batch that all processes drew alike.

        Raises:
            ValueError: fewer rows than processes.
        """
        if self.kind == "tp":
            return batch
        if len(batch.inputs) % self.size:
            raise ValueError(
                f"expected a batch that divides by {self.size} processes, got "
                f"{len(batch.inputs)} rows: choose a multiple of {self.size}"
            )
        return Batch(*(part[self.rank :: self.size] for part in batch))

    def speaks(self) -> bool:
        """Whether no other process has said yet why the run ends: once is enough."""
        try:
            return self.store is None or self.store.add("said", 1) == 1
        except RuntimeError:
            return True  # torchrun, which keeps the count, is gone itself

    def scale(self) -> int:
        """Factor on a process's part of a sum over rows, before `backward`.

        The wrappers take the mean of the processes' gradients, where the sum is meant.
        """
        return 1 if self.kind == "tp" else self.size

    def add(self, number: float) -> float:
        """A sum over the processes that read different rows."""
        if self.kind == "tp":
            return number
        return self._reduced(torch.tensor(number, dtype=torch.float64))

    def _reduced(self, number: Tensor) -> float:
        return float(self.reduced(number))

    def reduced(self, number: Tensor) -> Tensor:
        """The sum of all processes' numbers, in double precision."""
        there = number.to(self.mesh.device_type, torch.float64, copy=True)
        dist.all_reduce(there)
        return there

    @torch.no_grad()
    def clip(self, module: nn.Module, limit: float) -> Tensor:
        """Clip the whole gradient, of which this process may hold a piece; its norm."""
        pieces: list[Tensor] = []
        wholes: list[Tensor] = []
        for p in module.parameters():
            if p.grad is not None:
                sharded = isinstance(p, DTensor) and p.placements[0].is_shard()
                (pieces if sharded else wholes).append(local(p.grad))
        squares = sum_of_squares(wholes).to(self.mesh.device_type)
        if pieces:
            squares = squares + self.reduced(sum_of_squares(pieces))
        norm = squares.sqrt()
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in (*pieces, *wholes):
            gradient.mul_(factor)
        return norm

    def save(
        self, folder: Path, module: nn.Module, optimizers: Sequence[Optimizer]
    ) -> None:
        """Write weights and optimiser state; each process its own share.

        Raises:
            OSError: a disk is full or read-only, this process's or another's.
        """
        state = self._state(module, optimizers)
        if self.kind == "tp":
            state = turned(state, self.size)
        try:
            dcp.save(state, checkpoint_id=folder)
        except dcp.api.CheckpointException as error:
            raise OSError(
                f"expected to write {folder}, got {first_line(error)}: the checkpoint "
                f"that was there before is unchanged"
            ) from error

    def load(
        self, folder: Path, module: nn.Module, optimizers: Sequence[Optimizer]
    ) -> None:
        """Read what any number of processes wrote, under any strategy.

        Raises:
            ValueError: the folder holds no such checkpoint, or one of another model.
        """
        state = self._state(module, optimizers)
        if self.kind == "tp":
            state = turned(state, self.size)
        try:
            dcp.load(state, checkpoint_id=folder)
        except (dcp.api.CheckpointException, OSError) as error:
            raise ValueError(
                f"expected a sharded checkpoint of this model in {folder}, got "
                f"{first_line(error)}: name the folder of this run"
            ) from None
        if self.kind == "tp":
            state = split(state, self.mesh)
        # Rates come from the schedule, kernels from this strategy: not from the file.
        groups = [g for one in optimizers for g in one.param_groups]
        kept = [{k: v for k, v in g.items() if k != "params"} for g in groups]
        set_state_dict(
            module,
            list(optimizers),
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
        groups = [g for one in optimizers for g in one.param_groups]
        for group, options in zip(groups, kept, strict=True):
            group.update(options)

    def _state(
        self, module: nn.Module, optimizers: Sequence[Optimizer]
    ) -> dict[str, Any]:
        model, means = get_state_dict(module, list(optimizers))
        return {"model": model, "optimizer": means}

    def whole(self, module: nn.Module) -> dict[str, Tensor]:
        """All weights under the model's own names, on the CPU of the first process."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: dict[str, Any] = get_model_state_dict(module, options=options)
        if self.kind == "tp":
            turn = partial(by_role, size=self.size)
            state = {n: turn(w) if QKV in n else w for n, w in state.items()}
        return {name.removeprefix("model."): w for name, w in state.items()}


def turned(state: dict[str, Any], size: int, name: str = "") -> dict[str, Any]:
    """A state whose fused projections are whole, their rows [q; k; v] again."""
    found: dict[str, Any] = {}
    for key, value in state.items():
        path = f"{name}.{key}"
        if isinstance(value, dict):
            found[key] = turned(value, size, path)
        elif QKV in path and isinstance(value, DTensor):
            found[key] = by_role(value.full_tensor(), size)
        else:
            found[key] = value
    return found


def split(state: dict[str, Any], mesh: DeviceMesh, name: str = "") -> dict[str, Any]:
    """`turned`, undone: each process has its heads' rows of the projections."""
    found: dict[str, Any] = {}
    for key, value in state.items():
        path = f"{name}.{key}"
        if isinstance(value, dict):
            found[key] = split(value, mesh, path)
        elif QKV in path and isinstance(value, Tensor) and value.ndim:
            rows = by_process(value, mesh.size())
            found[key] = distribute_tensor(rows, mesh, [Shard(0)])
        else:
            found[key] = value
    return found


def local(tensor: Tensor) -> Tensor:
    """The piece of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def sum_of_squares(tensors: Sequence[Tensor]) -> Tensor:
    """The sum over all numbers, in double precision."""
    squares = [t.double().square().sum() for t in tensors]
    return sum(squares, torch.zeros((), dtype=torch.float64))


def first_line(error: BaseException) -> str:
    """What an error says, in one line; of a checkpoint's, what one process says."""
    if isinstance(error, dcp.api.CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def started() -> bool:
    """Whether `torchrun` started this process as one of a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def joined(kind: Kind, device: str = "auto") -> Iterator[Strategy]:
    """Join the group that `torchrun` started, and leave it at the end.

    NCCL connects CUDA devices, one a process; gloo connects CPUs.

    Raises:
        ValueError: no group to join, or an unknown kind.
        Lost: another process ended before the block did.
    """
    if not started():
        raise ValueError(
            "expected to be started by torchrun, got a single process: run "
            "`torchrun --nproc-per-node 2 -m minigpt.cli train …`"
        )
    cuda = choose(device).device.type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    store, rank, size = next(iter(dist.rendezvous("env://")))
    backend = "nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        with _heard(size):
            mesh = init_device_mesh("cuda" if cuda else "cpu", (size,))
            yield Strategy(kind, mesh, store)
    except Lost:
        raise  # nobody is left to take leave of: it could wait for ever
    except BaseException:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


@contextmanager
def _heard(size: int) -> Iterator[None]:
    """Turn both signs of a lost process, torchrun's and the network's, into `Lost`."""

    def lost(reason: str) -> Lost:
        return Lost(f"expected {size} processes to the end, lost one ({reason})")

    def told(number: int, frame: object) -> None:
        raise lost("torchrun is ending all of them")

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    except BaseException as error:
        # Once we know, torchrun need not tell us again while we say so.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            # After file and line, before what else might be the cause.
            reason = first_line(error).split("] ", 1)[-1].split(". ")[0]
            raise lost(reason) from error
        raise
    signal.signal(signal.SIGTERM, before)
