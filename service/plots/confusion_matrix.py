"""How often each true class was answered as which."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.domain.comparison_errors import NothingToDraw
from service.domain.diagnostics import HeldOut
from service.plots.figures import INK, LETTER_WIDTH, ONE_COLUMN, TWO_COLUMNS, colour_bar, named, new_figure, picture
from service.plots.scales import Numbers, evenly

MAX_CLASSES = 100
"""More cells than that per side are no picture."""
MAX_COUNTED = 20
"""Up to so many classes a cell has room for its count."""
MAX_NAMED = 34
"""Names that have room along a side."""
MAX_DRAWN = 30
"""More cells per side than that are drawn as an image, for each would take 150 bytes."""
ROOM = 2.2
"""Inches that all names below have, or they stand upright."""


@picture
def confusion_matrix(held_out: HeldOut) -> Figure:
    """Draw the counts, (true classes, answered classes), coloured by their part of the true class.

    Raises:
        NothingToDraw: there is no matrix, or it is too large.
    """
    counts = np.array(held_out.confusion, dtype=np.float64)
    _check(held_out, counts)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    side = float(np.clip(2.1 + 0.27 * len(counts), ONE_COLUMN, TWO_COLUMNS))
    figure = new_figure(side, side * 0.86)
    axes = figure.subplots()
    cells = _draw_cells(axes, shares)
    if len(counts) <= MAX_COUNTED:
        _write_counts(axes, counts, shares)
    _name_classes(axes, held_out.classes)
    axes.set_title(f"{held_out.part} rows: {int(counts.sum()):,}", loc="left")
    colour_bar(figure, cells, [axes], "part of the true class")
    return figure


def _check(held_out: HeldOut, counts: Numbers) -> None:
    if counts.ndim != 2 or not counts.size:
        raise NothingToDraw(
            "there is no confusion matrix",
            "it is stored when a classification that held rows out succeeds; of a regression see residuals",
        )
    if len(held_out.classes) > MAX_CLASSES:
        detail = f"a confusion matrix is drawn for up to {MAX_CLASSES} classes, and there are {len(held_out.classes)}"
        raise NothingToDraw(detail, "the job's metrics say how good it is")


def _draw_cells(axes: Axes, shares: Numbers) -> Any:
    colours: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "vmax": 1}
    if len(shares) > MAX_DRAWN:
        extent = (0, len(shares), len(shares), 0)
        return axes.imshow(shares, interpolation="none", extent=extent, **colours)
    return axes.pcolormesh(shares, edgecolor="white", linewidth=0.3, **colours)


def _write_counts(axes: Axes, counts: Numbers, shares: Numbers) -> None:
    size = float(np.clip(9.5 - 0.22 * len(counts), 5, 8))
    for (row, column), count in np.ndenumerate(counts):
        text = f"{int(count):,}" if count < 100_000 else f"{count:.0e}"
        ink = "white" if shares[row, column] > 0.55 else INK
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=ink)


def _name_classes(axes: Axes, classes: tuple[str, ...]) -> None:
    marked = evenly(len(classes), MAX_NAMED)
    places, names = [place + 0.5 for place in marked], [named(classes[place]) for place in marked]
    has_room = max(map(len, names)) * LETTER_WIDTH < ROOM / len(classes)
    axes.set_xticks(places, names, rotation=0 if has_room else 90)
    axes.set_yticks(places, names)
    axes.set_aspect("equal")
    axes.set_ylim(len(classes), 0)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("answered class")
    axes.set_ylabel("true class")
