"""Axes and the numbers along them: epochs, decades, and what to keep of more points than a picture can show."""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

MAX_POINTS = 800
"""Of a line, more than the pixels that it crosses."""
FAR_EXPONENT = 150
FARTHEST = 10.0**FAR_EXPONENT
"""Farther values are drawn here: their squares still are numbers."""
MAX_DECADES = 7
"""Named along a logarithmic axis."""
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def numbers(values: Iterable[object]) -> Numbers:
    """Return measured values as numbers; NaN for what is none, or not finite; what is absurdly far is nearer."""
    return finite(np.array([float(one) if isinstance(one, int | float) else math.nan for one in values]))


def finite(values: Numbers) -> Numbers:
    """Return numbers with NaN for what is not finite; what is absurdly far is nearer."""
    return np.clip(np.where(np.isfinite(values), values, np.nan), -FARTHEST, FARTHEST)


def evenly(count: int, most: int) -> list[int]:
    """Return at most ``most`` (2 or more) places of ``count``, evenly spread, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))}) if count else []


def outline(values: Numbers, most: int = MAX_POINTS) -> NDArray[np.int64]:
    """Return which points of a line to draw: of every stretch its lowest and its highest, so that no peak is lost."""
    if len(values) <= most:
        return np.arange(len(values))
    known = np.isfinite(values)
    low, high = np.where(known, values, np.inf), np.where(known, values, -np.inf)
    edges = np.linspace(0, len(values), most // 2).astype(int)
    kept = {0, len(values) - 1}
    for start, stop in itertools.pairwise(edges):
        kept |= {start + int(low[start:stop].argmin()), start + int(high[start:stop].argmax())}
    return np.array(sorted(kept))


def epoch_axis(axes: Axes, epochs: Sequence[int]) -> None:
    """Let the horizontal axis count epochs."""
    first, last = min(epochs), max(epochs)
    margin = 0.5 if first == last else 0.01 * (last - first)
    axes.set_xlim(first - margin, last + margin)
    whole_numbers(axes.xaxis)
    axes.set_xlabel("epoch")


def whole_numbers(axis: object) -> None:
    """Mark whole numbers only."""
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))  # type: ignore[attr-defined]  # an untyped library


def decade_axis(axes: Axes, *values: Numbers) -> None:
    """Make the vertical axis logarithmic, over whole decades around every positive value."""
    positive = np.concatenate([one[np.isfinite(one) & (one > 0)].ravel() for one in values])
    exponents = np.log10(positive) if positive.size else np.zeros(1)
    low, high = max(math.floor(exponents.min()), -FAR_EXPONENT), math.ceil(exponents.max())
    # The limits first: without them the scale would be fitted to all values, and overflow far from 1.
    axes.set_ylim(10.0**low, 10.0 ** max(high, low + 1))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=MAX_DECADES))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: decade(value)))


def decade(value: float) -> str:
    """Write a power of ten; the far ones with a raised exponent, in plain letters that every font has."""
    if value <= 0:
        return ""
    exponent = round(math.log10(value))
    return f"{value:g}" if -3 <= exponent <= 3 else f"10{str(exponent).translate(RAISED)}"
