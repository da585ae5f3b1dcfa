"""Which arms of a comparison differ over many blocks: Demsar's diagram of average ranks (JMLR 7, 2006)."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.domain.comparison_errors import NothingToDraw
from service.plots.figures import GREY, INK, TWO_COLUMNS, named, new_figure, picture

AXIS, ROW, BAR = 0.0, 0.55, 0.22
"""Heights, counted downwards: of the axis, between two names, between two bars."""


@picture
def critical_difference(ranks: Mapping[str, float], difference: float, blocks: int) -> Figure:
    """Draw average ranks, the best at the right, with a bar over arms that differ by less than ``difference``.

    Raises:
        NothingToDraw: fewer than two arms have a rank.
    """
    ordered = sorted((rank, name) for name, rank in ranks.items() if math.isfinite(rank))
    if len(ordered) < 2:
        raise NothingToDraw("fewer than two arms have a rank", "an arm has one when its jobs have succeeded")
    groups = alike([rank for rank, _ in ordered], difference)
    first_row = AXIS + 0.35 + BAR * (len(groups) + 1)
    rows = math.ceil(len(ordered) / 2)
    bottom = first_row + ROW * (rows - 1) + 0.3
    figure = new_figure(TWO_COLUMNS, 0.55 + 0.42 * (bottom + 1.1))
    axes = figure.subplots()
    _draw_axis(axes, len(ranks), bottom)
    _draw_difference(axes, len(ranks), difference, blocks)
    _draw_arms(axes, ordered, first_row, len(ranks))
    for number, (start, stop) in enumerate(groups):
        height = AXIS + 0.35 + BAR * number
        ends = (ordered[start][0] - 0.03, ordered[stop][0] + 0.03)
        axes.plot(ends, (height, height), color=INK, linewidth=3, solid_capstyle="butt", label="alike")
    return figure


def alike(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Return the largest runs of ascending ranks whose ends differ by less than ``difference``, as first and last."""
    runs: list[tuple[int, int]] = []
    for start, rank in enumerate(ranks):
        stop = max(
            place for place, other in enumerate(ranks) if place >= start and other - rank < max(difference, 1e-12)
        )
        if stop > start and (not runs or stop > runs[-1][1]):
            runs.append((start, stop))
    return runs


def _draw_axis(axes: Axes, arms: int, bottom: float) -> None:
    axes.set_xlim(arms + 0.95 + 0.1 * arms, 0.05 - 0.1 * arms)
    axes.set_ylim(bottom, -1.1)
    axes.set_axis_off()
    axes.plot((1, arms), (AXIS, AXIS), color=INK, linewidth=0.8)
    step = math.ceil(arms / 20)
    for rank in range(1, arms + 1, step):
        axes.plot((rank, rank), (AXIS - 0.12, AXIS), color=INK, linewidth=0.8)
        axes.text(rank, AXIS - 0.18, str(rank), ha="center", va="bottom")


def _draw_difference(axes: Axes, arms: int, difference: float, blocks: int) -> None:
    """Draw the critical difference to scale, above the worst end of the axis."""
    length = min(difference, arms - 1)
    height = AXIS - 0.8
    axes.plot((arms, arms - length), (height, height), color=GREY, linewidth=1.2, marker="|", markersize=6)
    text = f"critical difference {difference:.2f}, {blocks:,} blocks; average ranks, best at the right"
    axes.text(arms - length - 0.03 * arms, height, text, ha="left", va="center", color=INK)


def _draw_arms(axes: Axes, ordered: Sequence[tuple[float, str]], first_row: float, arms: int) -> None:
    """Name the better half at the right and the other at the left, the extremes nearest to the axis."""
    half = len(ordered) // 2
    for place, (rank, name) in enumerate(ordered):
        is_right = place < half
        row = first_row + ROW * (place if is_right else len(ordered) - 1 - place)
        end = 0.9 if is_right else arms + 0.1
        axes.plot((rank, rank, end), (AXIS, row, row), color=INK, linewidth=0.6, label=f"rank {rank:g}")
        side, away = ("left", -0.02) if is_right else ("right", 0.02)
        axes.text(end + away * arms, row, f"{named(name)}  {rank:.2f}", ha=side, va="center")
