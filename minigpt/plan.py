"""Chapter 9. Planning: what a run needs, in bytes and in days, before it is started.

Three counts, each of which a test compares with a real run:

    states       weights, gradients and the optimiser's means, 16 bytes a weight with
                 AdamW in float32
    activations  what the backward pass needs of each token: in a block 16 vectors of C
                 numbers, and a few scalars (norms and softmax)
    arithmetic   6 FLOPs a weight and token, 2 forwards and 4 backwards (Kaplan et al.
                 2020, table 1), and 6 · n_layer · T · C for the attention's products,
                 of which the causal half is counted

Time is arithmetic over what the devices reach; no run reaches its peak. The share that
it does reach, model FLOPs utilisation or MFU (Chowdhery et al. 2022, table 3), was 0.21
for GPT-3 and 0.46 for PaLM. Letters: B sequences, T positions, C channels, V words.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from minigpt.hardware import PEAKS, Hardware, device_name, free_memory, gpu_memory
from minigpt.model import GPTConfig

Optimizer = Literal["adamw", "muon", "adafactor"]
Strategy = Literal["ddp", "fsdp"]

# Memory in bytes, and the name in the table of peaks.
GPUS: dict[str, tuple[float, str]] = {
    "t4": (16e9, "T4"),
    "v100": (32e9, "V100"),
    "l4": (24e9, "L4"),
    "l40s": (48e9, "L40S"),
    "a100": (80e9, "A100"),
    "h100": (80e9, "H100"),
    "h200": (141e9, "H200"),
}
# What the device keeps for itself, its kernels and gaps between tensors.
USABLE = 0.92
# Logits are made and dropped in pieces of this many numbers (`next_token_loss`).
MOST_LOGITS = 2**25
UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device while a model trains.

    Attributes:
        weights: float32, and the half-precision copies that the products read.
        gradients: float32.
        optimizer: its running means, float32.
        activations: kept for the backward pass.
        logits: scores of the words, and their gradient.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float

    @property
    def states(self) -> float:
        """What does not depend on the batch."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        """All of it."""
        return self.states + self.activations + self.logits


def size(n_bytes: float) -> str:
    """Bytes in a unit that reads well.

    >>> size(1.866e9)
    '1.87 GB'
    """
    for unit, name in UNITS:
        if n_bytes >= unit:
            return f"{n_bytes / unit:.3g} {name}"
    return f"{n_bytes:.0f} bytes"


def logits_at_once(memory: float | None) -> int:
    """How many numbers of the logits are made before they are dropped.

    Pieces save memory and cost time: the backward pass makes each again. A GPU of so
    many bytes gives a fifth of them: a number takes up to 12 (itself, its float32 copy,
    and the gradients of both).
    """
    return MOST_LOGITS if memory is None else max(MOST_LOGITS, int(memory) // 64)


def matrix_parameters(config: GPTConfig) -> int:
    """Weights of the matrices inside the blocks: all that Muon moves."""
    c = config.d_model
    return config.n_layer * (4 * c * c + 2 * c * config.mlp_width)


def optimizer_bytes(config: GPTConfig, optimizer: Optimizer) -> float:
    """Bytes of the optimiser's means.

    AdamW keeps two numbers a weight, Muon one for the matrices of the blocks. Adafactor
    keeps a row and a column for each matrix instead of its second mean, and no first.
    """
    hidden = matrix_parameters(config)
    if optimizer == "adamw":
        return 8.0 * config.n_parameters
    if optimizer == "muon":
        return 8.0 * (config.n_parameters - hidden) + 4.0 * hidden
    c, m = config.d_model, config.mlp_width
    rows_and_columns = config.n_layer * ((3 * c + c) + (c + c) + 2 * (c + m))
    tables = config.vocab_size + config.context_length + 2 * c
    vectors = config.n_layer * (9 * c + m) + 2 * c
    return 4.0 * (rows_and_columns + tables + vectors)


def activation_bytes(
    config: GPTConfig, *, batch_size: int, half: bool, recompute: bool = False
) -> float:
    """Bytes kept for the backward pass, with attention that never stores its weights.

    In a block the input of each norm and of each product is kept: 16 vectors of C
    numbers (norms 2, their outputs 2, queries, keys and values 3, heads 1, the MLP 8).
    In half precision the residual stream, which the norms read, stays in float32: 36
    bytes a channel instead of 64. Two norms keep mean and deviation, the softmax one
    number a head. `recompute` keeps only the input of each block, and one block at a
    time in full (Chen et al. 2016).
    """
    tokens = batch_size * config.context_length
    scale = (8 + config.mlp_width / config.d_model * 2) / 16
    vectors = (8 + 28 * scale if half else 64 * scale) * config.d_model
    block = vectors + 16 + 4 * config.n_head
    kept = 4 * config.d_model
    layers = kept * config.n_layer + block if recompute else block * config.n_layer
    return tokens * (layers + 8 * config.d_model)


def training_memory(
    config: GPTConfig,
    *,
    batch_size: int,
    half: bool = True,
    optimizer: Optimizer = "adamw",
    recompute: bool = False,
    shards: int = 1,
    most_logits: int = MOST_LOGITS,
) -> Memory:
    """Bytes on one of `shards` devices that split the states and not the batch."""
    n = config.n_parameters
    # A block's half-precision copies live while autocast runs; sharded, one block's do.
    copies = 2.0 * matrix_parameters(config) * (half if shards == 1 else 0)
    if shards > 1:
        copies = 4.0 * (matrix_parameters(config) / config.n_layer) * (1 + half / 2)
    tokens = batch_size * config.context_length
    logits = min(tokens * config.vocab_size, max(most_logits, config.vocab_size))
    return Memory(
        weights=4.0 * n / shards + copies,
        gradients=4.0 * n / shards,
        optimizer=optimizer_bytes(config, optimizer) / shards,
        activations=activation_bytes(
            config, batch_size=batch_size, half=half, recompute=recompute
        ),
        logits=3 * 4.0 * logits,
    )


def require_training_memory(
    config: GPTConfig,
    *,
    batch_size: int,
    hardware: Hardware,
    optimizer: Optimizer = "adamw",
    recompute: bool = False,
    held: int = 0,
) -> None:
    """Refuse a run that would end in a device without memory, before it starts.

    `held` is what of the model is on the device already.

    Raises:
        MemoryError: it would need more than is free; it says what would fit.
    """

    def needed(windows: int, optimizer: Optimizer, recompute: bool) -> float:
        memory = training_memory(
            config,
            batch_size=windows,
            half=hardware.dtype != torch.float32,
            optimizer=optimizer,
            recompute=recompute,
            most_logits=logits_at_once(gpu_memory(hardware.device)),
        )
        return memory.total - held

    free = free_memory(hardware.device)
    need = needed(batch_size, optimizer, recompute)
    if free is None or need <= free:
        return
    sizes = [2**i for i in range((batch_size - 1).bit_length())]
    # What costs nothing comes first: smaller parts; then arithmetic; then accuracy.
    ways: list[tuple[int, Optimizer, bool]] = [
        *((windows, optimizer, recompute) for windows in reversed(sizes)),
        (1, optimizer, True),
        (1, "adafactor", True),
    ]
    fits = next((way for way in ways if needed(*way) <= free), None)
    raise MemoryError(
        f"expected {size(need)} of free memory on {device_name(hardware.device)} to "
        f"train this model, got {size(float(free))}: "
        f"try {_way(fits, optimizer, recompute)}"
    )


def _way(
    fits: tuple[int, Optimizer, bool] | None, optimizer: Optimizer, recompute: bool
) -> str:
    """What to change for a run to fit, in the words of its flags."""
    if fits is None:
        return "a smaller model, or several devices with strategy fsdp"
    said = f"micro_batch_size {fits[0]}"
    said += " with recompute" if fits[2] and not recompute else ""
    return said + (f" and optimizer {fits[1]}" if fits[1] != optimizer else "")


def cache_bytes(
    config: GPTConfig, *, batch_size: int, capacity: int, width: int = 4
) -> int:
    """Bytes of the keys and values of so many positions, `width` bytes a number."""
    return 2 * config.n_layer * batch_size * capacity * config.d_model * width


def flops_per_token(config: GPTConfig, *, attention: bool = True) -> float:
    """FLOPs of one training token, forwards and backwards.

    A product of a vector with a matrix costs 2 FLOPs a weight; backwards there are two
    such products. Looking up a position costs none.
    """
    used = config.n_parameters - config.context_length * config.d_model
    scores = 6.0 * config.n_layer * config.context_length * config.d_model
    return 6.0 * used + (scores if attention else 0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will need.

    Attributes:
        config: the model.
        memory: bytes on each device.
        available: bytes that a device has for them.
        flops: of the whole run.
        tokens: read in the whole run.
        seconds: of the whole run.
        devices: number of them.
        sharded: whether they share the states, or each has all of them.
    """

    config: GPTConfig
    memory: Memory
    available: float
    flops: float
    tokens: float
    seconds: float
    devices: int
    sharded: bool

    @property
    def fits(self) -> bool:
        """Whether each device has the memory."""
        return self.memory.total <= self.available

    def __str__(self) -> str:
        m, hours = self.memory, self.seconds / 3600
        length = f"{hours / 24:,.1f} days" if hours > 48 else f"{hours:,.2f} hours"
        verdict = "fits" if self.fits else f"does not fit: {advice(self)}"
        lines = (
            f"model      {self.config.n_parameters:,} parameters",
            f"memory     {size(m.total)} on each of {self.devices:,} devices that have",
            f"           {size(self.available)}: {verdict}",
            f"           weights {size(m.weights)}, gradients {size(m.gradients)},",
            f"           optimiser {size(m.optimizer)}, activations",
            f"           {size(m.activations)}, logits {size(m.logits)}",
            f"arithmetic {self.flops:.3g} FLOPs for {self.tokens:.3g} tokens",
            f"time       {length}, {self.devices * hours:,.0f} device-hours",
        )
        return "\n".join(lines)


def advice(plan: Plan) -> str:
    """What to try where a plan does not fit."""
    if plan.memory.states > plan.available:
        # A power of two: nodes come in eights, and batches halve evenly.
        times = math.ceil(math.log2(plan.memory.states / plan.available))
        devices = (plan.devices if plan.sharded else 1) * 2**times
        return f"try strategy fsdp on {max(plan.devices, devices):,} devices"
    return "try a smaller micro-batch, or recompute activations"


def plan(
    config: GPTConfig,
    *,
    gpu: str = "h100",
    gpus: int = 1,
    tokens: float | None = None,
    micro_batch_size: int = 1,
    strategy: Strategy = "fsdp",
    optimizer: Optimizer = "adamw",
    recompute: bool = False,
    mfu: float = 0.4,
) -> Plan:
    """Memory on each device and time of a run.

    Twenty tokens a parameter are read unless told otherwise (Hoffmann et al. 2022).
    Half precision is bfloat16, or float16 on a T4 or V100.

    Raises:
        ValueError: an unknown device, no device, or an MFU outside (0, 1].
    """
    if gpu not in GPUS:
        raise ValueError(f"expected a gpu {', '.join(GPUS)}, got {gpu!r}")
    if gpus < 1:
        raise ValueError(f"expected at least 1 gpu, got {gpus}")
    if not 0 < mfu <= 1:
        raise ValueError(
            f"expected an mfu in (0, 1], the share of the peak that is reached, got "
            f"{mfu}"
        )
    memory, part = GPUS[gpu]
    peak = next(half for name, half, _ in PEAKS if name == part)
    read = 20.0 * config.n_parameters if tokens is None else tokens
    flops = flops_per_token(config) * read
    return Plan(
        config=config,
        memory=training_memory(
            config,
            batch_size=micro_batch_size,
            optimizer=optimizer,
            recompute=recompute,
            shards=gpus if strategy == "fsdp" else 1,
            most_logits=logits_at_once(memory),
        ),
        available=USABLE * memory,
        flops=flops,
        tokens=read,
        seconds=flops / (gpus * peak * mfu),
        devices=gpus,
        sharded=strategy == "fsdp",
    )
