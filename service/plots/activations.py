"""Mean and variance of every layer's activations over the epochs, against where Theorem 1 holds them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.domain.diagnostics import Diagnosis
from service.domain.self_normalization import EXPLODING_VARIANCE, MEAN_DOMAIN, VANISHING_VARIANCE, VARIANCE_DOMAIN
from service.plots.figures import SHADE, TWO_COLUMNS, dash, new_figure, picture
from service.plots.layers import explain_layers, layer_lines, layer_numbers, looked_at
from service.plots.scales import Numbers, decade_axis, epoch_axis

SMALLEST = 1e-12
"""A smaller variance is drawn here, for a logarithmic axis has no place for 0."""
FAR_MEAN = 10.0
"""From here on the means are drawn on a scale that is logarithmic beyond 1."""


@picture
def activations(diagnoses: Sequence[Diagnosis]) -> Figure:
    """Draw the moments of every layer's activations over the epochs.

    Raises:
        NothingToDraw: no epoch has been looked at.
    """
    seen = looked_at(diagnoses)
    epochs = [one.epoch for one in seen]
    means, variances = layer_numbers(seen, "mean"), layer_numbers(seen, "variance")
    figure = new_figure(TWO_COLUMNS, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _draw_means(upper, epochs, means)
    _draw_variances(lower, epochs, np.maximum(variances, SMALLEST))
    epoch_axis(lower, epochs)
    explain_layers(figure, [upper, lower], means.shape[1])
    return figure


def _draw_means(axes: Axes, epochs: Sequence[int], means: Numbers) -> None:
    axes.axhspan(*MEAN_DOMAIN, color=SHADE, linewidth=0, zorder=0.5, label="Theorem 1")
    layer_lines(axes, epochs, means)
    if np.isfinite(means).any() and np.nanmax(np.abs(means)) > FAR_MEAN:
        axes.set_yscale("symlog", linthresh=1)
    axes.set_ylabel("mean of activations")
    axes.set_title("shaded: where Theorem 1 holds the moments", loc="left")


def _draw_variances(axes: Axes, epochs: Sequence[int], variances: Numbers) -> None:
    axes.axhspan(*VARIANCE_DOMAIN, color=SHADE, linewidth=0, zorder=0.5, label="Theorem 1")
    layer_lines(axes, epochs, variances)
    decade_axis(axes, variances, np.array([VANISHING_VARIANCE, EXPLODING_VARIANCE]))
    dash(axes, VANISHING_VARIANCE, f"vanishing below {VANISHING_VARIANCE:g}")
    dash(axes, EXPLODING_VARIANCE, f"exploding above {EXPLODING_VARIANCE:g}")
    axes.set_ylabel("variance of activations")
