"""How good each arm is by its number of hidden layers, and from which depth on theory gives it up."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from service.domain.comparison_errors import NothingToDraw
from service.plots.figures import (
    GREY,
    TWO_COLUMNS,
    colour,
    legend_below,
    marker,
    metric_label,
    named,
    new_figure,
    picture,
)
from service.plots.scales import Numbers, numbers

Scores = Mapping[int, Sequence[float | None]]

LEFT = 0.8
"""Of the least depth: where a horizon of 0 is drawn."""


@picture
def depth_sweep(scores: Mapping[str, Scores], horizons: Mapping[str, int | None], metric: str) -> Figure:
    """Draw every seed as a dot and the mean as a line, over the depth; a cross where a seed has no score.

    ``scores`` has per arm and depth a score a seed, ``horizons`` the depth up to which an arm is predicted to learn.

    Raises:
        NothingToDraw: no seed of any arm has a score.
    """
    tables = {arm: {depth: numbers(of_depth[depth]) for depth in sorted(of_depth)} for arm, of_depth in scores.items()}
    if not any(np.isfinite(values).any() for table in tables.values() for values in table.values()):
        raise NothingToDraw("no arm has a score", "the first comes when the first of its jobs has succeeded")
    figure = new_figure(TWO_COLUMNS * 0.75, 3.0)
    axes = figure.subplots()
    handles = [_draw_arm(axes, number, arm, table) for number, (arm, table) in enumerate(tables.items())]
    depths = sorted({depth for table in tables.values() for depth in table})
    handles += _draw_horizons(axes, {number: horizons.get(arm) for number, arm in enumerate(tables)}, depths)
    if any(np.isnan(values).any() for table in tables.values() for values in table.values()):
        handles.append(Line2D([], [], color=GREY, linestyle="", marker="x", label="no score: failed or diverged"))
    _label(axes, depths, metric)
    legend_below(figure, handles)
    return figure


def _draw_arm(axes: Axes, number: int, arm: str, table: Mapping[int, Numbers]) -> Line2D:
    shade, mark = colour(number), marker(number)
    depths = [depth for depth, values in table.items() if np.isfinite(values).any()]
    means = [float(np.nanmean(table[depth])) for depth in depths]
    for depth, values in table.items():
        known = values[np.isfinite(values)]
        axes.plot([depth] * len(known), known, color=shade, linestyle="", marker=mark, markersize=3, alpha=0.6)
        if len(known) < len(values):
            bottom = axes.get_xaxis_transform()
            axes.plot([depth], [0.02 + 0.03 * number], color=shade, marker="x", linestyle="", transform=bottom)
    line: Line2D = axes.plot(depths, means, color=shade, label=named(arm))[0]
    return Line2D([], [], color=line.get_color(), marker=mark, markersize=3, label=line.get_label())


def _draw_horizons(axes: Axes, horizons: Mapping[int, int | None], depths: list[int]) -> list[Line2D]:
    """Draw the horizons by number of the arm, left of all else where one is 0, which a logarithmic axis has not."""
    known = {number: horizon for number, horizon in horizons.items() if horizon is not None}
    left = min(depths + [horizon for horizon in known.values() if horizon]) * LEFT
    style: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (4, 3))}
    for number, horizon in known.items():
        axes.axvline(horizon or left, color=colour(number), zorder=1, **style)
    at_the_left = "" if all(known.values()) else "; at the left: 0"
    return [Line2D([], [], color=GREY, label=f"predicted horizon{at_the_left}", **style)] if known else []


def _label(axes: Axes, depths: Sequence[int], metric: str) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(depths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda depth, _place: f"{depth:g}"))
    axes.set_xlabel("hidden layers")
    axes.set_ylabel(f"{metric_label(metric)}, mean of seeds")
