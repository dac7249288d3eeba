"""The stage figure of Part I: the one-page GPT as boxes, with one chapter's box lit.

`python book/figures/stage.py` writes stage0.svg (nothing lit) to stage6.svg beside this
file. In a chapter: `SVG("../book/figures/stage3.svg")`, with `alt(3)` as its text.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minigpt.bookstyle import GREY, ORANGE, STYLE

# Chapter: left, bottom, width, height, title, what stands in the box.
BOXES: dict[int, tuple[float, float, float, float, str, str]] = {
    1: (4, 80, 40, 17, "Text", "Ada lit the"),
    2: (56, 80, 40, 17, "Tokens", "21   204   7"),
    4: (13, 38, 74, 30, "Decoder", ""),
    3: (18, 42, 34, 15, "Attention", "look back"),
    5: (4, 3, 40, 20, "Training", "true word: lamp\nlean towards it"),
    6: (56, 3, 40, 20, "Generating", "roll the dice,\nwrite it down"),
}


def alt(lit: int) -> str:
    """The figure in words, for whoever cannot see it."""
    flow = (
        "Six numbered boxes. Text (1) becomes tokens (2), which enter the decoder (4); "
        "inside it attention (3) looks back and a second part thinks. Out come the "
        "chances of the next word. Training (5) compares them with the true word and "
        "corrects the decoder; generating (6) draws a word, which joins the tokens."
    )
    return flow + (f" Box {lit}, {BOXES[lit][4].lower()}, is lit." if lit else "")


def _box(ax: Axes, chapter: int, lit: int) -> None:
    left, bottom, width, height, title, body = BOXES[chapter]
    on = lit == chapter
    ink = "black" if on or (lit == 4 and chapter == 3) else GREY
    ax.add_patch(
        FancyBboxPatch(
            (left, bottom), width, height,
            boxstyle="round,pad=0,rounding_size=2.5",
            facecolor=ORANGE if on else "none", edgecolor=ORANGE if on else ink,
            linewidth=1.6, zorder=chapter == 3,
        )
    )  # fmt: skip
    top = bottom + height
    ax.text(left + 2.5, top - 2.5, str(chapter), va="top", color=ink, weight="bold")
    ax.text(left + 7.5, top - 2.5, title, va="top", color=ink, weight="bold")
    middle = left + width / 2
    ax.text(middle, bottom + 3, body, ha="center", va="bottom", color=ink)


def _arrow(ax: Axes, *points: tuple[float, float], ink: str = GREY) -> None:
    """A line through the points with a head on its last stretch."""
    *way, end = points
    ax.plot(*zip(*way, strict=True), color=ink, linewidth=1.4, solid_capstyle="butt")
    head = {"arrowstyle": "-|>", "color": ink, "linewidth": 1.4, "shrinkA": 0}
    ax.annotate("", end, way[-1], arrowprops={**head, "shrinkB": 0})


def stage(lit: int = 0) -> Figure:
    """The page as boxes; `lit` is the chapter at work, 0 for none.

    Raises:
        ValueError: a chapter that has no box.
    """
    if lit and lit not in BOXES:
        raise ValueError(f"expected a chapter from 1 to 6, or 0 for none, got {lit}")
    with plt.rc_context({**STYLE, "font.size": 11.5}):
        figure, ax = plt.subplots(figsize=(4.6, 4.1))
        ax.set(xlim=(0, 100), ylim=(0, 100))
        ax.axis("off")
        figure.subplots_adjust(0, 0, 1, 1)
        for chapter in BOXES:
            _box(ax, chapter, lit)
        ink = "black" if lit == 4 else GREY
        ax.text(62, 60.5, "× layers", color=ink, va="bottom", ha="left")
        ax.text(71.5, 49.5, "MLP\nthink", color=ink, va="center", ha="center")
        think = FancyBboxPatch(
            (61, 42), 21, 15, boxstyle="round,pad=0,rounding_size=2.5",
            facecolor="none", edgecolor=ink, linewidth=1.6,
        )  # fmt: skip
        ax.add_patch(think)
        _arrow(ax, (44, 88.5), (56, 88.5))
        _arrow(ax, (72, 80), (72, 68))
        _arrow(ax, (52, 49.5), (61, 49.5), ink=ink)
        _arrow(ax, (50, 38), (50, 30.5))
        ax.text(50, 30, "chances of the next word", ha="center", va="top")
        _arrow(ax, (24, 26), (24, 23))
        _arrow(ax, (76, 26), (76, 23))
        _arrow(ax, (8, 23), (8, 53), (13, 53))
        _arrow(ax, (92, 23), (92, 80))
    return figure


def main() -> None:
    """Write the seven drawings."""
    for lit in (0, *BOXES):
        path = Path(__file__).with_name(f"stage{lit}.svg")
        figure = stage(lit)
        with plt.rc_context(STYLE):
            figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
