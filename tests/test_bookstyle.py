"""What stands in a figure can be read, on the light page and on the dark one."""

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from minigpt.bookstyle import BLUE, COLOURS, STYLE, heat_map, legible
from tools import check_notebooks, execute

CSS = (Path(__file__).parents[1] / "book/_static/book.css").read_text("utf-8")


def page(scheme: str) -> tuple[np.ndarray, float]:
    """A page's paper, and the brightness that its style sheet gives to drawings."""
    paper = re.search(
        rf'data-theme="{scheme}"\] \{{\s*--pst-color-background: (#\w+)', CSS
    )
    light = re.search(
        rf'data-theme="{scheme}"\] \.bd-article figure:not[^{{]*\{{\s*'
        r"filter: brightness\(([\d.]+)\)",
        CSS,
    )
    assert paper is not None
    assert light is not None
    return np.array(to_rgb(paper[1])), float(light[1])


def contrast(ink: np.ndarray, paper: np.ndarray) -> float:
    """As the Web Content Accessibility Guidelines define it, from 1 to 21."""

    def luminance(colour: np.ndarray) -> float:
        colour = np.clip(colour, 0, 1)
        straight = ((colour + 0.055) / 1.055) ** 2.4
        linear = np.where(colour <= 0.04045, colour / 12.92, straight)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(ink), luminance(paper)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_coloured_word_can_be_read_on_both_pages(scheme: str) -> None:
    paper, brightness = page(scheme)
    for colour in COLOURS:
        ink = np.array(to_rgb(legible(colour))) * brightness
        assert contrast(ink, paper) >= 4.5, colour
    assert legible(BLUE) == BLUE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_number_can_be_read_in_a_cell_of_any_brightness(scheme: str) -> None:
    mpl.use("agg")
    _, brightness = page(scheme)
    values = np.linspace(0, 4, 101)[:, None]
    names = [""] * 101
    ax = heat_map(values, rows=names, columns=[""], numbers=True, limits=(0.0, 4.0))
    texts = ax.texts
    mpl.pyplot.close(ax.figure)
    assert [text.get_text() for text in texts[::50]] == ["0.00", "2.00", "4.00"]
    for value, text in zip(values[:, 0], texts, strict=True):
        cell = np.array(mpl.colormaps["cividis"](value / 4)[:3])
        if (spot := text.get_bbox_patch()) is not None:
            *over, alpha = spot.get_facecolor()
            cell = (1 - alpha) * cell + alpha * np.array(over)
        ink = np.array(to_rgb(text.get_color()))
        assert contrast(brightness * ink, brightness * cell) >= 4.5, value


@pytest.mark.parametrize(
    ("inches", "points", "words"),
    [
        (6.4, 11, ""),
        (6.4, 9, "letters of 7.2 pixels"),
        (3, 5, "6.7"),
        (3, 7, ""),
    ],
)
def test_letters_that_a_phone_shows_too_small_are_red(
    tmp_path: Path, inches: float, points: float, words: str
) -> None:
    with mpl.rc_context({**STYLE, "font.size": points}):
        figure = Figure((inches, 2))
        figure.text(0.5, 0.5, "a word")
        figure.savefig(tmp_path / "a.svg")
    drawing = execute.slim((tmp_path / "a.svg").read_text("utf-8"))
    cell = {"cell_type": "code", "outputs": [{"data": {"image/svg+xml": drawing}}]}
    found = "\n".join(check_notebooks.letter_complaints({"cells": [cell]}))
    assert words in found
    assert bool(words) == bool(found)
