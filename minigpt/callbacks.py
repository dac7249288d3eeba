"""Chapter 5. Callbacks: what watches a run, one call after each step.

A callback takes the step's record; one that returns True ends the run after a save.
"""

import signal
from collections.abc import Sequence
from typing import NoReturn

from tqdm import tqdm

from minigpt.run import StepRecord


class Progress:
    """Says what was chosen, moves a bar, and writes a line at each validation.

    All of it from the first step on: a run that is refused leaves its one line alone.
    """

    def __init__(self, steps: int, chosen: Sequence[str]) -> None:
        self.steps, self.chosen = steps, chosen
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
            self.bar.write(
                f"step {record.step:6d}  training loss {record.loss:.4f}  "
                f"validation loss {record.validation_loss:.4f}"
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
