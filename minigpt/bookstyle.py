"""What every notebook shares: how it starts, how it shows code, how its figures look.

No chapter teaches this file. `start()` is the first line of every notebook; colours are
Okabe and Ito's, which readers with any colour vision can tell apart.
"""

import inspect
import os
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00",
    "#cc79a7", "#56b4e9", "#f0e442", "#7a7a7a",
)  # fmt: skip

# What letters are written in: a line may be paler than a word that has to be read.
LETTERS = {
    ORANGE: "#b57d00", GREEN: "#009a70", PURPLE: "#bc6f9a", SKY: "#448eb8",
    YELLOW: "#918a28",
}  # fmt: skip

# Mid-grey ink on clear paper reads on a white page and on a dark one.
STYLE: dict[str, Any] = {
    "figure.figsize": (6.4, 3.4),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": GREY,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "font.size": 11,
    "axes.titlesize": 11,
    "lines.linewidth": 2,
    "image.cmap": "cividis",
    "svg.fonttype": "path",
    # The same drawing gives the same bytes.
    "svg.hashsalt": "minigpt",
}


@dataclass(frozen=True)
class Scale:
    """What a notebook computes on: "small" (the committed outputs) or "full"."""

    name: str
    device: torch.device

    def pick(self, small: Any, full: Any) -> Any:
        """The value for this scale."""
        return full if self.name == "full" else small


def start(scale: str | None = None, *, seed: int = 0) -> Scale:
    """Set seed, threads and figure style; choose what this notebook computes on.

    "small" is the CPU, one thread, float32: the outputs that the book prints. "full",
    given here or as MINIGPT_SCALE=full, takes the accelerator found and larger sizes.

    Raises:
        ValueError: another scale than "small" or "full".
    """
    name = scale or os.environ.get("MINIGPT_SCALE", "small")
    if name not in ("small", "full"):
        raise ValueError(f'expected the scale "small" or "full", got {name!r}')
    mpl.rcParams.update(STYLE)
    # tqdm would print a machine's path where the optional ipywidgets are missing.
    warnings.filterwarnings("ignore", message="IProgress not found")
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # a plain Python process draws no inline figures
        pass
    else:
        set_matplotlib_formats("svg", metadata={"Date": None})
    torch.manual_seed(seed)
    np.random.seed(seed)
    device = torch.device("cpu")
    if name == "small":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    elif torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator() or device
    return Scale(name, device)


class Source:
    """Python source that a notebook shows coloured, and plain where it cannot."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __repr__(self) -> str:
        return self.code

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.code}\n```"


def show_source(thing: Callable[..., Any] | type, *, docstring: bool = False) -> Source:
    """The package's own code as it runs, without its docstring unless asked for."""
    code = textwrap.dedent(inspect.getsource(thing)).rstrip()
    if not docstring:
        code = re.sub(r'\n\s*"""[\s\S]*?"""(?=\n)', "", code, count=1)
    return Source(code)


def legible(colour: str) -> str:
    """The shade of a colour in which a word can be read on both pages."""
    return LETTERS.get(colour, colour)


def heat_map(
    values: Any,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    ax: Axes | None = None,
    title: str = "",
    numbers: bool = False,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Axes:
    """Rows are queries (first on top), columns are keys; bright is high."""
    table = np.asarray(values, dtype=float)
    ax = ax or plt.gca()
    ax.imshow(table, vmin=limits[0], vmax=limits[1], cmap="cividis", aspect="auto")
    ax.set_xticks(range(len(columns)), columns, rotation=60, ha="right")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_title(title)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if numbers:
        for (row, column), value in np.ndenumerate(table):
            share = (value - limits[0]) / (limits[1] - limits[0])
            write_in(ax, column, row, f"{value:.2f}", share)
    return ax


def write_in(ax: Axes, column: int, row: int, text: str, share: float) -> None:
    """Text in a heat map's cell that is as bright as `share`, from 0 to 1."""
    ink, spot = ("black", "white") if share > 0.5 else ("white", "black")
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    if abs(share - 0.5) < 0.2:  # grey sets off neither black nor white
        paper = {"boxstyle": "round,pad=0.2", "fc": spot, "alpha": 0.25, "lw": 0}
        style["bbox"] = paper
    ax.text(column, row, text, **style)
