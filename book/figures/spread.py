"""Chapter 9's figure: three ways in which two workers share one run.

`python book/figures/spread.py` writes spread.svg beside this file.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minigpt.bookstyle import BLUE, GREY, ORANGE, STYLE

# Title, then for each worker the part of the weights it keeps, as (left, bottom, width,
# height) in a unit square, and the part of the batch that it reads.
WHOLE = (0.0, 0.0, 1.0, 1.0)
WAYS = (
    ("copies", (WHOLE, WHOLE), ((0.5, 0.5), (0.0, 0.5))),
    ("shards", ((0.0, 0.5, 1.0, 0.5), (0.0, 0.0, 1.0, 0.5)), ((0.5, 0.5), (0.0, 0.5))),
    ("slices", ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0)), ((0.0, 1.0), (0.0, 1.0))),
)
SIDE = 26


def _box(ax: Axes, left: float, bottom: float, width: float, height: float) -> None:
    """The outline of something whole."""
    frame = Rectangle((left, bottom), width, height, fill=False, ec=GREY, lw=1.2)
    ax.add_patch(frame)


def _worker(
    ax: Axes,
    left: float,
    kept: tuple[float, float, float, float],
    read: tuple[float, float],
) -> None:
    x, y, width, height = (SIDE * part for part in kept)
    ax.add_patch(Rectangle((left + x, 46 + y), width, height, color=BLUE, lw=0))
    _box(ax, left, 46, SIDE, SIDE)
    bottom, share = 20 * read[0], 20 * read[1]
    ax.add_patch(Rectangle((left, 14 + bottom), SIDE, share, color=ORANGE, lw=0))
    _box(ax, left, 14, SIDE, 20)


def spread() -> Figure:
    """Three panels of two workers: their weights above, their rows below."""
    with plt.rc_context({**STYLE, "font.size": 11}):
        figure, axes = plt.subplots(1, 3, figsize=(5.6, 2.2))
        figure.subplots_adjust(0.13, 0, 1, 0.9, wspace=0.05)
        for ax, (title, kept, read) in zip(axes, WAYS, strict=True):
            ax.set(xlim=(0, 80), ylim=(0, 82), title=title, aspect="equal")
            ax.axis("off")
            for worker in range(2):
                left = 10 + worker * 34
                _worker(ax, left, kept[worker], read[worker])
                middle = left + SIDE / 2
                ax.text(middle, 6, str(worker), ha="center", va="center")
        for y, label in ((59, "keeps"), (24, "reads"), (6, "worker")):
            axes[0].text(4, y, label, ha="right", va="center")
    return figure


def main() -> None:
    """Write the drawing."""
    figure = spread()
    with plt.rc_context(STYLE):
        path = Path(__file__).with_suffix(".svg")
        figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
