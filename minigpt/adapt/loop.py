"""Chapter 10. The loop: what moves, how fast, for how long, and what is kept.

Lower layers hold what most tasks share, so each moves less than the one above it
(layer-wise rates; Howard and Ruder, 2018, §3.2), and the lowest may stand still. Texts
of like length are read together. After each epoch the validation part decides which
weights are kept, and when to stop.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW

from minigpt.adapt.batches import collate, like_lengths, shuffled_batches
from minigpt.adapt.heads import Adapted, task_loss
from minigpt.adapt.inputs import Item, Side
from minigpt.adapt.metrics import METRICS, rows_of
from minigpt.decoding import reading
from minigpt.hardware import Hardware
from minigpt.labelled import Examples, Task
from minigpt.model import GPT
from minigpt.optim import parameter_groups, rate
from minigpt.train import Diverged


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """All that a fine-tuning depends on besides the decoder and the task.

    The rate suits decoders of some million weights; GPT-1 took 6.25e-5 (Radford et
    al., 2018, §4.1).

    Attributes:
        epochs: times that each training example is seen, at most.
        batch_size: examples in a step.
        learning_rate: the head's peak rate.
        layer_decay: the rate of each layer as a share of that of the layer above.
        freeze: how many of the lowest blocks stand still, and the embeddings with
            them; none where 0.
        warmup: share of the steps until the peak; then the rate falls along a line.
        weight_decay: AdamW's, on matrices.
        clip: largest norm of the gradient.
        dropout: on what the head reads.
        lm_weight: λ, the weight of predicting the rows' own next tokens.
        balanced: rare classes count as much as common ones.
        patience: epochs without a better validation after which it stops; None: never.
        cut: the side on which texts longer than the context lose tokens.
        both_orders: read a pair in both orders, as for a similarity.
        start: put a start token before each row.
        room: tokens kept free for what is to be written.
        seed: of the new weights, of dropout and of the order of the examples.
        device: auto, cuda, mps or cpu.
        precision: auto, float32, bfloat16 or float16.

    Raises:
        ValueError: a value outside its range.
    """

    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 1e-3
    layer_decay: float = 0.9
    freeze: int = 0
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    dropout: float = 0.1
    lm_weight: float = 0.0
    balanced: bool = False
    patience: int | None = 2
    cut: Side = "right"
    both_orders: bool = False
    start: bool = True
    room: int = 32
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for names, allowed, rule in (
            ("epochs batch_size patience", lambda x: x >= 1, "at least 1"),
            ("learning_rate clip", lambda x: x > 0, "above 0"),
            ("freeze weight_decay lm_weight", lambda x: x >= 0, "at least 0"),
            ("layer_decay", lambda x: 0 < x <= 1, "in (0, 1]"),
            ("warmup dropout", lambda x: 0 <= x < 1, "in [0, 1)"),
        ):
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not allowed(value):
                    raise ValueError(f"{name} must be {rule}, got {value}")


DEFAULTS = FinetuneConfig()


class EpochRecord(NamedTuple):
    """One pass over the training part, and what validation said after it."""

    epoch: int
    loss: float  # mean of the training batches
    metric: str
    validation: float
    best: bool  # so far
    seconds: float


Callback = Callable[[EpochRecord], object]


# What moves, and how fast.
def layers(model: GPT) -> list[list[nn.Module]]:
    """The decoder's modules from the lowest layer to the highest."""
    top = [model.final_norm] if model.head is None else [model.final_norm, model.head]
    stack: list[list[nn.Module]] = [[model.token_embedding, model.position_embedding]]
    return [*stack, *([block] for block in model.blocks), list(top)]


def freeze(model: GPT, n_blocks: int) -> None:
    """Let the embeddings and the lowest blocks stand still; 0 lets everything move.

    The three new tokens stay as they were drawn then.

    Raises:
        ValueError: more blocks than there are.
    """
    if not 0 <= n_blocks <= model.config.n_layer:
        raise ValueError(
            f"expected at most {model.config.n_layer} blocks to freeze, got {n_blocks}"
        )
    for depth, modules in enumerate(layers(model)):
        for module in modules:
            module.requires_grad_(n_blocks == 0 or depth > n_blocks)


def rate_groups(
    adapted: Adapted, *, learning_rate: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimiser: each layer's rate is a share of that above it."""
    stack = layers(adapted.model)
    if adapted.head is not None:
        stack[-1].append(adapted.head)
    groups = []
    for below, modules in enumerate(reversed(stack)):
        weights = [p for module in modules for p in module.parameters()]
        for group in parameter_groups(weights, weight_decay=weight_decay):
            groups.append({**group, "lr": learning_rate * layer_decay**below})
    return groups


def balance(task: Task) -> Float[Tensor, " L"]:
    """Weights by which all classes count alike, with a mean of 1 over the examples.

    Raises:
        ValueError: the task has no classes to balance.
    """
    if task.kind not in ("classes", "tags"):
        raise ValueError(
            f"expected classes or tags to balance, got {task.kind!r}: leave it off"
        )
    labels = (e.label if isinstance(e.label, tuple) else (e.label,) for e in task.train)
    counts = Counter(one for some in labels for one in some)
    n, total = len(task.labels), counts.total()
    # A tag that is in no training text is never a target: its weight is never used.
    return torch.tensor([total / (n * max(1, counts[i])) for i in range(n)])


# The loop.
def epochs(
    adapted: Adapted,
    task: Task,
    parts: dict[str, list[Item]],
    config: FinetuneConfig,
    hardware: Hardware,
    generator: torch.Generator,
) -> Iterator[EpochRecord]:
    """Train, one record an epoch; at the end the best epoch's weights are back.

    Raises:
        Diverged: the loss or what is said of validation is no longer a number.
    """
    optimizer = AdamW(
        rate_groups(
            adapted,
            learning_rate=config.learning_rate,
            layer_decay=config.layer_decay,
            weight_decay=config.weight_decay,
        ),
        fused=True,
    )
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
    weights = balance(task).to(hardware.device) if config.balanced else None
    # One for all epochs: what it has learnt of the scale took steps that moved nothing.
    scaler = hardware.scaler()
    best, kept, waited = -math.inf, {}, 0
    for epoch in range(1, config.epochs + 1):
        start = time.perf_counter()
        step = _Step(adapted, optimizer, config, hardware, weights, scaler)
        loss = step.epoch(epoch - 1, parts["train"], generator)
        try:
            metric, value = validate(adapted, task.validation, parts["validation"])
        except FloatingPointError as error:
            raise Diverged(
                f"expected finite scores after epoch {epoch}, got {error}: lower the "
                f"learning rate"
            ) from None
        better = value > best
        if better:
            best, waited = value, 0
            moved = {n for n, p in adapted.named_parameters() if p.requires_grad}
            state = adapted.state_dict()
            kept = {n: w.clone() for n, w in state.items() if n in moved}
        else:
            waited += 1
        seconds = time.perf_counter() - start
        yield EpochRecord(epoch, loss, metric, value, better, seconds)
        if config.patience is not None and waited >= config.patience:
            break
    adapted.load_state_dict(kept, strict=False)


class _Step(NamedTuple):
    """What a step needs; a step moves every weight that is not frozen."""

    adapted: Adapted
    optimizer: AdamW
    config: FinetuneConfig
    hardware: Hardware
    class_weights: Tensor | None
    scaler: torch.amp.GradScaler

    def epoch(
        self, done: int, items: Sequence[Item], generator: torch.Generator
    ) -> float:
        """All batches once; the mean of their losses."""
        self.adapted.train()
        batches = shuffled_batches(items, self.config.batch_size, generator=generator)
        steps = len(batches) * self.config.epochs
        total = 0.0
        for i, group in enumerate(batches, start=done * len(batches)):
            warmup = int(self.config.warmup * steps)
            factor = rate(i, steps, shape="linear", warmup=warmup)
            for one in self.optimizer.param_groups:
                one["lr"] = factor * one["peak"]
            total += self._one([items[at] for at in group], i + 1)
        return total / len(batches)

    def _one(self, items: Sequence[Item], step: int) -> float:
        scaler = self.scaler
        batch = collate(items, self.adapted.layout).to(self.hardware.device)
        self.optimizer.zero_grad()
        with self.hardware.autocast():
            loss = task_loss(
                self.adapted,
                batch,
                lm_weight=self.config.lm_weight,
                class_weights=self.class_weights,
            )
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(
                f"expected a finite loss, got {value} at step {step}: lower the "
                f"learning rate"
            )
        scaler.scale(loss).backward()
        scaler.unscale_(self.optimizer)
        moved = [p for p in self.adapted.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_(moved, self.config.clip)
        scaler.step(self.optimizer)
        scaler.update()
        return value


def validate(
    adapted: Adapted, examples: Examples, items: Sequence[Item]
) -> tuple[str, float]:
    """The figure that decides, by name: more is better.

    It is the first metric of the kind; for what is written the loss, with its sign
    turned, which asks for no writing.

    Raises:
        FloatingPointError: the model says what is no number.
    """
    kind = adapted.layout.kind
    if kind == "text":
        return "minus loss", -_finite(_loss(adapted, items))
    name, metric = next(iter(METRICS[kind].items()))
    found = adapted.predict(examples)
    for one in found:
        # The largest of scores that are no numbers would be the first label.
        _finite(*one.scores, *([one.label] if kind == "number" else []))
    said = [one.label for one in found]
    value = metric(rows_of(kind, examples, said, len(adapted.layout.labels)))
    return name, value if math.isfinite(value) else -1.0


def _finite(*figures: Any) -> float:
    """The first of some figures, all of which are numbers."""
    for figure in figures:
        if not math.isfinite(figure):
            raise FloatingPointError(figure)
    return figures[0] if figures else 0.0


def _loss(adapted: Adapted, items: Sequence[Item], *, batch_size: int = 64) -> float:
    device = adapted.model.token_embedding.weight.device
    total, count = 0.0, 0
    with reading(adapted):
        for group in like_lengths(items, batch_size):
            batch = collate([items[i] for i in group], adapted.layout).to(device)
            n = sum(batch.sizes)
            total += task_loss(adapted, batch).item() * n
            count += n
    return total / count
