"""Chapter 5. Training: predict the next token, measure the miss, move every weight.

    loss = − mean over positions of log p(next token | tokens before)

`training_steps` is the loop, one record a step, for a reader who wants to own it;
`fit` is a few lines over it that also evaluate, save and resume. Killed at any moment,
a run that `fit` resumes on a CPU ends with the same bits as one that was never killed.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from minigpt.alone import ALONE, BatchLoss, ModelLoss, Processes
from minigpt.data import IGNORE, Batch, check_predictable, shift
from minigpt.hardware import Hardware, gpu_memory
from minigpt.model import GPT
from minigpt.optim import Together
from minigpt.plan import logits_at_once
from minigpt.recipe import DEFAULTS, TrainConfig, make_optimizer, parts
from minigpt.run import Callback, Run, StepRecord
from minigpt.tokenizer import Tokenizer


class Diverged(RuntimeError):
    """The loss or its gradient is no longer a number; no weight was moved by it."""


def next_token_loss(
    model: GPT,
    inputs: Int[Tensor, "B T"],
    targets: Int[Tensor, "B T"],
    *,
    ignore_index: int = IGNORE,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the next token, in nats, over the targets that count."""
    hidden = model.hidden(inputs)
    return unembedded_loss(model, hidden, targets, ignore_index=ignore_index)


def unembedded_loss(
    model: GPT,
    hidden: Float[Tensor, "B T C"],
    targets: Int[Tensor, "B T"],
    *,
    ignore_index: int = IGNORE,
) -> Float[Tensor, ""]:
    """The same from what the decoder has made of the inputs.

    Where all logits at once would be large, they are made, used and dropped in chunks,
    and made again for the gradient.
    """
    flat = hidden.flatten(0, 1)  # (B·T, C)
    goals = targets.flatten()

    def summed(rows: Tensor, wanted: Tensor) -> Tensor:
        logits = model.unembed(rows[None])[0].float()
        return F.cross_entropy(
            logits, wanted, ignore_index=ignore_index, reduction="sum"
        )

    size = max(1, _most_logits(flat.device) // model.config.vocab_size)
    if len(goals) <= size:
        total = summed(flat, goals)
    else:
        total = flat.new_zeros((), dtype=torch.float32)
        for rows, wanted in zip(flat.split(size), goals.split(size), strict=True):
            total = total + checkpoint(summed, rows, wanted, use_reentrant=False)
    return total / (goals != ignore_index).sum().clamp(min=1)


def _most_logits(device: torch.device) -> int:
    """How many numbers of the logits a device makes at once."""
    return logits_at_once(gpu_memory(device))


def _compiled(loss: ModelLoss) -> ModelLoss:
    """One graph, in which the memory of the device is a number and no question."""
    # Marked here and not where it is defined: that would import the compiler for all.
    torch.compiler.assume_constant_result(_most_logits)
    return torch.compile(loss)


def training_steps(
    model: GPT,
    batches: Iterable[Batch],
    config: TrainConfig = DEFAULTS,
    *,
    optimizer: Optimizer | Together | None = None,
    scaler: torch.amp.GradScaler | None = None,
    first_step: int = 0,
    processes: Processes = ALONE,
) -> Iterator[StepRecord]:
    """The loop: draw a batch, measure, move, and report, until `config.steps` are done.

    It ends sooner where the batches do. The schedule multiplies the rate that each
    group of the optimiser came with, also where one is handed in. The device is waited
    for once a step, when loss and norm are read.

    Raises:
        Diverged: the loss or the gradient is not finite; the weights are as before. It
            says both, the step (counted from 1), and what to lower.
        ValueError: a batch without one target that counts.
    """
    hardware = config.hardware()
    hardware.place(model)
    if config.recompute:
        model.recompute = True
    optimizer = make_optimizer(model, config) if optimizer is None else optimizer
    scaler = hardware.scaler() if scaler is None else scaler
    plain = _compiled(next_token_loss) if hardware.compile else next_token_loss
    loss_of = processes.loss_of(model, plain)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    # The range comes first, so that no batch is drawn for a step that is not taken.
    for step, batch in zip(range(first_step, config.steps), batches, strict=False):
        start = time.perf_counter()
        model.train()
        factor = config.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = factor * group["initial_lr"]
        optimizer.zero_grad()
        mean, count = _backward(loss_of, batch, config, hardware, scaler, processes)
        for part in parts(optimizer):
            scaler.unscale_(part)
        measured = torch.stack((mean, processes.clip(model, config.clip)))
        moving = parts(optimizer)
        # A step that looks by itself knows no tensors spread over processes.
        looks = processes is ALONE and all(map(_looks, moving))
        loss, norm = _move(moving, scaler, measured, step + 1, config.clip, looks)
        yield StepRecord(
            step=step + 1,
            loss=loss,
            rate=factor,
            gradient_norm=norm,
            tokens=count,
            seconds=time.perf_counter() - start,
        )


def _backward(
    loss_of: BatchLoss,
    batch: Batch,
    config: TrainConfig,
    hardware: Hardware,
    scaler: torch.amp.GradScaler,
    processes: Processes,
) -> tuple[Tensor, int]:
    """Add up the gradients of the batch's mean loss; the loss and its target count."""
    # Counted where the batch was cut, so that nobody waits for the device.
    count = int((batch.targets != IGNORE).sum())
    if not count:
        raise ValueError(
            f"expected at least one target in a batch, got {batch.targets.numel()} "
            f"that are all {IGNORE} (ignored): leave such batches out"
        )
    share = processes.share(batch)
    inputs, targets = (part.to(hardware.device) for part in share)
    size = config.micro_batch_size or len(inputs)
    total = torch.zeros((), device=hardware.device)
    for start in range(0, len(inputs), size):
        some, wanted = inputs[start : start + size], targets[start : start + size]
        processes.expect(more=start + size < len(inputs))
        with hardware.autocast():
            mean = loss_of(some, wanted)
        # Each part's mean counts by its share of the targets: with padding, the mean
        # of the means would be another number than the big batch gives.
        loss = mean * ((wanted != IGNORE).sum() / count)
        scaler.scale(loss * processes.scale()).backward()
        total += loss.detach()
    return processes.add(total), count


def _move(
    moving: Sequence[Optimizer],
    scaler: torch.amp.GradScaler,
    measured: Float[Tensor, "2"],
    step: int,
    clip: float,
    looks: bool,
) -> tuple[float, float]:
    """Step, if loss and gradient norm are numbers; both of them."""
    # The one moment of a step at which we wait for the device. No weight may move
    # before both are known, unless the optimiser itself looks at them, on the device.
    guarded = looks and not scaler.is_enabled()
    if guarded:
        _step_if_finite(moving, measured)
    loss, norm = measured.tolist()
    # With a scaler an infinite gradient is no accident: it skips the step itself.
    if not math.isfinite(loss) or not (scaler.is_enabled() or math.isfinite(norm)):
        raise Diverged(
            f"expected a finite loss and gradient, got {loss} and {norm} at step "
            f"{step}: lower the learning rate, lengthen the warm-up, or clip the "
            f"gradient at less than {clip:g}"
        )
    if not guarded:
        # All or none: by itself the scaler asks each optimiser for its own slopes only.
        for part in moving if math.isfinite(norm) else ():
            scaler.step(part)
        scaler.update()
    return loss, norm


def _looks(optimizer: Optimizer) -> bool:
    """Whether an optimiser can leave the weights alone by a number on the device.

    torch's fused kernels can: it is how a loss scaler skips a step without waiting.
    """
    return getattr(optimizer, "_step_supports_amp_scaling", False)


def _step_if_finite(optimizers: Sequence[Optimizer], measured: Tensor) -> None:
    """A step that moves nothing where a number is infinite or none."""
    found = (~measured.isfinite().all()).to(torch.float32)
    for optimizer in optimizers:
        optimizer.found_inf = found  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]


@torch.no_grad()
def whole_split_loss(
    model: GPT,
    tokens: Integer[Tensor, "..."],
    *,
    batch_size: int = 64,
    hardware: Hardware | None = None,
    processes: Processes = ALONE,
) -> float:
    """Nats per token over a whole split, every token but the first predicted once.

    Running text is cut into windows of context_length that do not overlap, and each
    window starts without a memory of the one before. Stories are predicted whole.

    Raises:
        ValueError: fewer than two tokens.
    """
    check_predictable(tokens)
    if hardware is None:
        device = next(model.parameters()).device
        hardware = Hardware(device=device, dtype=torch.float32)
    was_training = model.training
    model.eval()
    loss_of = processes.loss_of(model, next_token_loss)
    total, count = 0.0, 0
    try:
        for rows in _windows(tokens, model.config.context_length, batch_size):
            batch = processes.share(shift(rows))
            n = int((batch.targets != IGNORE).sum())
            with hardware.autocast():
                loss = loss_of(*(part.to(hardware.device) for part in batch))
            total += loss.item() * n
            count += n
    finally:
        model.train(was_training)
    sums = torch.tensor([total, count], dtype=torch.float64)
    total, count = processes.add(sums).tolist()
    return total / count


def _windows(
    tokens: Integer[Tensor, "..."], context_length: int, batch_size: int
) -> Iterator[Integer[Tensor, "B L"]]:
    if tokens.ndim == 2:
        yield from tokens.split(batch_size)
        return
    whole = (len(tokens) - 1) // context_length * context_length
    if whole:
        rows = tokens[: whole + 1].unfold(0, context_length + 1, context_length)
        yield from rows.split(batch_size)
    if whole < len(tokens) - 1:
        yield tokens[whole:][None]


def fit(
    model: GPT,
    train: Integer[Tensor, "..."],
    val: Integer[Tensor, "..."],
    config: TrainConfig = DEFAULTS,
    *,
    out: Path | None = None,
    resume: bool = True,
    callbacks: Sequence[Callback] = (),
    tokenizer: Tokenizer | None = None,
    processes: Processes = ALONE,
) -> list[StepRecord]:
    """Train, validate, save, and go on where an earlier call was stopped.

    `train` and `val` are tokens, (N,) of running text or (N, L) of padded stories. A
    callback that returns True ends the run after a last save. The tokenizer is saved
    beside the model, so that the folder can be generated from. `processes` may be many
    (`group.Group`), each of which calls this function with the same arguments.

    Raises:
        Diverged: the loss is not finite; what was saved before stays.
        ValueError: the folder holds another run.
    """
    run = Run(model, train, val, config, tokenizer, out, processes)
    run.resume(allowed=resume)
    if run.stale:
        return run.records
    steps = training_steps(
        model,
        run.batches,
        config,
        optimizer=run.optimizer,
        scaler=run.scaler,
        first_step=len(run.records),
        processes=processes,
    )
    for record in steps:
        due = run.due(record.step)
        if due:
            loss = whole_split_loss(
                model, val, hardware=run.hardware, processes=processes
            )
            record = replace(record, validation_loss=loss)
        run.records.append(record)
        asked = any([callback(record) for callback in callbacks])
        stop = processes.agree(asked) or run.stale
        if due or stop:
            run.save()
        if stop:
            break
    return run.records
