"""How far the answers of a regression lie from what was true."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.domain.comparison_errors import NothingToDraw
from service.domain.diagnostics import HeldOut
from service.plots.figures import GREY, INK, PALETTE, TWO_COLUMNS, new_figure, picture
from service.plots.scales import Numbers, numbers

MAX_BINS = 50
MAX_DRAWN = 1000
"""More points than that are drawn as an image."""


@picture
def residuals(held_out: HeldOut) -> Figure:
    """Draw answers against truth, and the distribution of their difference, in the target's units.

    Raises:
        NothingToDraw: there are no such rows.
    """
    truth, predicted = numbers(held_out.truth), numbers(held_out.predicted)
    known = np.isfinite(truth) & np.isfinite(predicted)
    if not known.any():
        raise NothingToDraw(
            "there are no residuals",
            "they are stored when a regression that held rows out succeeds; of a classification see confusion_matrix",
        )
    figure = new_figure(TWO_COLUMNS, 3.2)
    left, right = figure.subplots(1, 2)
    _draw_answers(left, truth[known], predicted[known], held_out.part)
    _draw_residuals(right, predicted[known] - truth[known])
    return figure


def _draw_answers(axes: Axes, truth: Numbers, predicted: Numbers, part: str) -> None:
    low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
    margin = 0.04 * (high - low) or max(1.0, 0.1 * abs(high))
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label="exact")
    points = axes.scatter(truth, predicted, s=7, color=PALETTE[0], alpha=0.45, linewidth=0, label="rows", zorder=2)
    points.set_rasterized(len(truth) > MAX_DRAWN)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="truth (target's units)")
    axes.set_ylabel("answer (target's units)")
    axes.set_title(f"{part} rows: {len(truth):,}", loc="left")


def _draw_residuals(axes: Axes, differences: Numbers) -> None:
    bins = int(np.clip(2 * math.sqrt(len(differences)), 5, MAX_BINS))
    axes.hist(differences, bins, color=PALETTE[5], edgecolor="white", linewidth=0.3)
    axes.axvline(0, color=INK, linewidth=0.8)
    mean, deviation = float(differences.mean()), float(differences.std())
    axes.set_title(f"mean {mean:.3g}, standard deviation {deviation:.3g}", loc="left")
    axes.set_xlabel("answer minus truth (target's units)")
    axes.set_ylabel("rows")
