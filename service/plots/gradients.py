"""How large the gradients of every layer are over the epochs, and how they change from the last layer to the first."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.domain.diagnostics import Diagnosis
from service.domain.self_normalization import EXPLODING_GRADIENT_RATIO, VANISHING_GRADIENT_RATIO
from service.plots.figures import PALETTE, TWO_COLUMNS, dash, new_figure, picture
from service.plots.layers import explain_layers, layer_lines, layer_numbers, looked_at
from service.plots.scales import Numbers, decade_axis, epoch_axis, whole_numbers

SMALLEST = 1e-30
"""A smaller norm is drawn here, for a logarithmic axis has no place for 0."""
FEW_LAYERS = 40
"""So few have a dot each."""


@picture
def gradients(diagnoses: Sequence[Diagnosis]) -> Figure:
    """Draw the norms of the gradients over the epochs, and their ratios by layer in three of them.

    Raises:
        NothingToDraw: no epoch has been looked at.
    """
    seen = looked_at(diagnoses)
    epochs = [one.epoch for one in seen]
    norms = np.maximum(layer_numbers(seen, "gradient_norm"), SMALLEST)
    ratios = np.maximum(layer_numbers(seen, "gradient_ratio"), SMALLEST)
    figure = new_figure(TWO_COLUMNS, 3.0)
    left, right = figure.subplots(1, 2)
    _draw_norms(left, epochs, norms)
    explain_layers(figure, [left], norms.shape[1])
    _draw_ratios(right, epochs, ratios)
    return figure


def _draw_norms(axes: Axes, epochs: Sequence[int], norms: Numbers) -> None:
    layer_lines(axes, epochs, norms)
    decade_axis(axes, norms)
    epoch_axis(axes, epochs)
    axes.set_ylabel("norm of ∂L/∂W")


def _draw_ratios(axes: Axes, epochs: Sequence[int], ratios: Numbers) -> None:
    bounds = np.array([VANISHING_GRADIENT_RATIO, EXPLODING_GRADIENT_RATIO])
    layers = np.arange(1, ratios.shape[1] + 1)
    known = np.flatnonzero(np.isfinite(ratios).any(axis=1))
    chosen = dict.fromkeys(int(known[place]) for place in (0, len(known) // 2, -1)) if known.size else {}
    mark = "o" if len(layers) <= FEW_LAYERS else None
    for row, shade in zip(chosen, PALETTE, strict=False):
        axes.plot(layers, ratios[row], color=shade, marker=mark, markersize=2, label=f"epoch {epochs[row]}")
    decade_axis(axes, ratios[list(chosen)], bounds * np.array([0.1, 10]))
    dash(axes, VANISHING_GRADIENT_RATIO, "vanishing")
    dash(axes, EXPLODING_GRADIENT_RATIO, "exploding")
    whole_numbers(axes.xaxis)
    axes.set_xlim(0.5, len(layers) + 0.5)
    axes.set_xlabel("layer")
    axes.set_ylabel("norm of ∂L/∂z against last layer's")
    if chosen:
        axes.legend(loc="lower left", ncols=3, bbox_to_anchor=(0, 1), borderaxespad=0, handlelength=1.4)
