"""Chapter 5. Callbacks: what watches a run, one call after each step.

A callback takes the step's record; one that returns True ends the run after a save.
"""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from tqdm import tqdm

from minigpt.run import StepRecord


class Progress:
    """Says what was chosen, moves a bar, and writes a line at each validation.

    All of it from the first step on: a run that is refused leaves its one line alone.
    `reference` is the curve of another run, validation loss by step; where both have
    been measured, its loss stands beside.
    """

    def __init__(
        self,
        steps: int,
        chosen: Sequence[str],
        *,
        reference: Mapping[int, float] | None = None,
    ) -> None:
        self.steps, self.chosen, self.reference = steps, chosen, reference or {}
        self.bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, record: StepRecord) -> None:
        if self.bar is None:
            tqdm.write("\n".join(self.chosen))
            # The steps of an earlier sitting are done already.
            done = record.step - 1
            self.bar = tqdm(
                total=self.steps, initial=done, unit="step", dynamic_ncols=True
            )
        self.bar.update()
        self.bar.set_postfix_str(f"loss {record.loss:.3f}", refresh=False)
        if record.validation_loss is not None:
            known = self.reference.get(record.step)
            beside = "" if known is None else f"  reference {known:.4f}"
            self.bar.write(
                f"step {record.step:6d}  training loss {record.loss:.4f}  "
                f"validation loss {record.validation_loss:.4f}{beside}"
            )


class Reading:
    """A bar over what has been read; nothing where it is read at once."""

    def __init__(self) -> None:
        self.bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int) -> None:
        if self.bar is None:
            self.bar = tqdm(total=total, unit="", unit_scale=True, dynamic_ncols=True)
        if total != self.bar.total:  # another part of the same task
            self.bar.reset(total)
        self.bar.update(done - self.bar.n)


class Interrupt:
    """The first Ctrl-C ends the run after this step and a save; the second at once."""

    asked = False

    def __enter__(self) -> "Interrupt":
        self.before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def _hear(self, number: int, frame: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __call__(self, record: StepRecord) -> bool:
        return self.asked


def scalars(record: StepRecord) -> dict[str, float]:
    """What a step's record holds, under the names that dashboards show."""
    found = {
        "loss/training": record.loss,
        "gradient norm": record.gradient_norm,
        "rate": record.rate,
        "tokens per second": record.tokens / max(record.seconds, 1e-9),
    }
    if record.validation_loss is not None:
        found["loss/validation"] = record.validation_loss
    return found


class TensorBoard:
    """Writes every step for TensorBoard: `tensorboard --logdir FOLDER` draws it.

    Raises:
        ImportError: the package tensorboard is not there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(_missing("tensorboard")) from error
        self.writer = SummaryWriter(str(folder))

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def __call__(self, record: StepRecord) -> None:
        for name, value in scalars(record).items():
            self.writer.add_scalar(name, value, record.step)


class WeightsAndBiases:
    """Writes every step for Weights & Biases, into a folder unless told otherwise.

    Offline nothing leaves the machine; `wandb sync FOLDER/wandb/offline-run-…` sends it
    later. With mode="online" it is sent at once.

    Raises:
        ImportError: the package wandb is not there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        project: str = "minigpt",
        mode: Literal["offline", "online"] = "offline",
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError(_missing("wandb")) from error
        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=project,
            dir=str(folder),
            mode=mode,
            settings=wandb.Settings(silent=True),
        )

    def __enter__(self) -> "WeightsAndBiases":
        return self

    def __exit__(self, *_: object) -> None:
        self.run.finish()

    def __call__(self, record: StepRecord) -> None:
        self.run.log(scalars(record), step=record.step)


def _missing(package: str) -> str:
    """One sentence for a logger that is not installed."""
    return (
        f"expected the package {package} to write this run's curves for it, found "
        f"none: install minigpt-book[log], or leave --log out"
    )
