"""The numbers of every layer over the epochs, and lines that tell layers apart by their colour."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from service.domain.comparison_errors import NothingToDraw
from service.domain.diagnostics import Diagnosis
from service.plots.figures import colour_bar
from service.plots.scales import Numbers, evenly, numbers

MAX_LINES = 24
"""More layers than that are shown by some of them, with a shade from the lowest to the highest of all."""
MAX_EPOCHS = 200
FEW_EPOCHS = 12
"""So few have a dot each."""


def looked_at(diagnoses: Sequence[Diagnosis]) -> list[Diagnosis]:
    """Return the diagnoses to draw, thinned out evenly where there are very many.

    Raises:
        NothingToDraw: there is none.
    """
    seen = [one for one in diagnoses if one.layers]
    if not seen:
        raise NothingToDraw("no epoch of the network has been looked at", "its layers are, from the first epoch on")
    return [seen[place] for place in evenly(len(seen), MAX_EPOCHS)]


def layer_numbers(diagnoses: Sequence[Diagnosis], name: str) -> Numbers:
    """Return a number of every layer, (epochs, layers), NaN where it is not known."""
    layers = max(len(one.layers) for one in diagnoses)
    table = np.full((len(diagnoses), layers), np.nan)
    for row, one in zip(table, diagnoses, strict=True):
        row[: len(one.layers)] = numbers(getattr(layer, name) for layer in one.layers)
    return table


def layer_lines(axes: Axes, epochs: Sequence[int], values: Numbers) -> None:
    """Draw a line per layer, (epochs, layers), from the first, which is dark, to the last, which is light."""
    layers = values.shape[1]
    chosen = evenly(layers, MAX_LINES)
    if len(chosen) < layers:
        known = np.isfinite(values).any(axis=1)
        low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
        low[known], high[known] = np.nanmin(values[known], axis=1), np.nanmax(values[known], axis=1)
        axes.fill_between(epochs, low, high, color="#00000014", linewidth=0, label="all layers")
    colours = layer_colours(layers)
    mark = "o" if len(epochs) <= FEW_EPOCHS else None
    for place in chosen:
        line = Line2D(epochs, values[:, place], color=colours(place), linewidth=0.9, marker=mark, markersize=2)
        line.set_label(f"layer {place + 1}")
        axes.add_line(line)
    axes.autoscale_view()


def layer_colours(layers: int) -> Any:
    """Return a colour map with one colour per layer; the palest end, which is lost on white, is left out."""
    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.92, layers)))


def explain_layers(figure: Figure, panels: Sequence[Axes], layers: int) -> None:
    """Put a bar beside the panels that says which colour is which layer."""
    if layers == 1:
        return
    bounds = np.arange(layers + 1) + 0.5
    mappable = ScalarMappable(BoundaryNorm(bounds, layers), layer_colours(layers))
    label = f"layer ({MAX_LINES} of {layers} drawn; shade: all)" if layers > MAX_LINES else "layer"
    bar = colour_bar(figure, mappable, panels, label, aspect=40)
    ticks = _ticks(layers)
    bar.set_ticks(ticks, labels=[str(tick) for tick in ticks])
    bar.ax.tick_params(length=0)
    bar.ax.invert_yaxis()


def _ticks(layers: int) -> list[int]:
    """Return the layers to name: the first, the last, and round numbers between them."""
    if layers <= 12:
        return list(range(1, layers + 1))
    step = next(step for step in (5, 10, 25, 50, 100, layers) if layers / step <= 8)
    return [1, *range(step, layers - step // 2, step), layers]
