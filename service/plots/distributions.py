"""How the weights and the activations of one layer are distributed, epoch after epoch, as a row of ridges."""

from collections.abc import Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.domain.comparison_errors import NothingToDraw
from service.domain.diagnostics import Histogram
from service.plots.figures import INK, ONE_COLUMN, new_figure, picture
from service.plots.scales import Numbers, evenly

Seen = Sequence[tuple[int, Histogram]]
"""How one layer was distributed, by epoch."""

MAX_RIDGES = 25
HEIGHT = 4.0
"""Of the highest ridge, in distances between two ridges."""
UNITS = {"weights": "weight", "activations": "activation"}
POWERS = {"weights": 1.0, "activations": 0.5}
"""Densities are drawn to this power: where units saturate, the peak would press everything else flat."""
RARE = 1e-3
"""Bins at both ends that hold less than this part in every epoch are not shown."""


@picture
def weights(seen: Seen, layer: int) -> Figure:
    """Draw how a layer's weights, from layer 1 on, were distributed after some epochs.

    Raises:
        NothingToDraw: no epoch of this layer has been looked at.
    """
    return _ridges(seen, layer, "weights")


@picture
def activation_histograms(seen: Seen, layer: int) -> Figure:
    """Draw how a layer's activations, from layer 1 on, were distributed after some epochs.

    Raises:
        NothingToDraw: no epoch of this layer has been looked at.
    """
    return _ridges(seen, layer, "activations")


def _ridges(seen: Seen, layer: int, kind: Literal["weights", "activations"]) -> Figure:
    """Draw the first epoch at the back, above, and every later one before it."""
    known = [(epoch, one) for epoch, one in seen if sum(one.counts)]
    if not known:
        raise NothingToDraw(f"no {kind} of layer {layer} are stored", "they are, from the first epoch on")
    chosen = [known[place] for place in evenly(len(known), MAX_RIDGES)]
    densities = [_density(histogram) ** POWERS[kind] for _, histogram in chosen]
    figure = new_figure(ONE_COLUMN, 1.4 + 0.11 * len(chosen))
    axes = figure.subplots()
    colours = matplotlib.colormaps["viridis"](np.linspace(0.15, 0.85, len(chosen)))
    unit = HEIGHT / max(float(density.max()) for density in densities)
    for place, ((_, histogram), density) in enumerate(zip(chosen, densities, strict=True)):
        _draw_ridge(axes, _centres(histogram), len(chosen) - 1 - place, density * unit, colours[place])
    _label(axes, [epoch for epoch, _ in chosen])
    _cut(axes, [histogram for _, histogram in chosen], UNITS[kind])
    axes.set_title(f"{kind} of layer {layer}" + ("" if POWERS[kind] == 1 else ", √density"), loc="left")
    return figure


def _draw_ridge(axes: Axes, centres: Numbers, base: int, heights: Numbers, shade: Numbers) -> None:
    axes.fill_between(centres, base, base + heights, facecolor=shade, edgecolor="none", zorder=100 - base)
    axes.plot(centres, base + heights, color="white", linewidth=0.7, zorder=100 - base)


def _label(axes: Axes, epochs: Sequence[int]) -> None:
    """Name the epochs at the left."""
    bases = np.arange(len(epochs))[::-1]
    marked = evenly(len(epochs), 13)
    axes.set_yticks([int(bases[place]) for place in marked], [str(epochs[place]) for place in marked])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.3, len(epochs) - 1 + HEIGHT * 1.05)
    axes.set_ylabel("epoch", y=bases.mean() / (len(epochs) - 1 + HEIGHT), color=INK)


def _cut(axes: Axes, histograms: Sequence[Histogram], unit: str) -> None:
    """Show only where there is something."""
    low, high, is_cut = _extent(histograms)
    axes.set_xlim(low, high)
    axes.set_xlabel(f"{unit}; the outermost bins hold all beyond" if is_cut else unit)


def _extent(histograms: Sequence[Histogram]) -> tuple[float, float, bool]:
    """Return from where to where there are values, and whether some lie beyond the outermost bins."""
    used = [(one, np.flatnonzero(np.array(one.counts) >= max(1.0, RARE * sum(one.counts)))) for one in histograms]
    low = min(float(_centres(one)[max(bins[0] - 1, 0)]) for one, bins in used if bins.size)
    high = max(float(_centres(one)[min(bins[-1] + 1, len(one.counts) - 1)]) for one, bins in used if bins.size)
    is_cut = any(bins.size and (bins[0] == 0 or bins[-1] == len(one.counts) - 1) for one, bins in used)
    return (low, high, is_cut) if low < high else (low - 0.5, high + 0.5, is_cut)


def _density(histogram: Histogram) -> Numbers:
    """Return the part of the values per unit of width, bin by bin."""
    counts = np.array(histogram.counts, dtype=np.float64)
    width = (histogram.high - histogram.low) / len(counts) or 1.0
    density: Numbers = counts / counts.sum() / width
    return density


def _centres(histogram: Histogram) -> Numbers:
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    centres: Numbers = (edges[:-1] + edges[1:]) / 2
    return centres
