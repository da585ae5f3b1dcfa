"""What a layer's weights look like before training: standard normal against LeCun normal."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.plots.figures import PALETTE, TWO_COLUMNS, colour_bar, new_figure, picture
from service.plots.scales import Numbers

UNITS = 100
TRUNCATED_DEVIATION = 0.87962566103423978
"""Of a standard normal variable that is cut off at 2 deviations; Keras widens LeCun normal by as much."""
LIMIT = 4.0
SEED = 0


@picture
def initial_weights() -> Figure:
    """Draw the weights of 100 units with 100 inputs: their distribution above, the matrices below on one scale."""
    random = np.random.default_rng(SEED)
    drawn = {"normal (0, 1): τ ≈ 100": random.standard_normal((UNITS, UNITS)), "LeCun normal: τ ≈ 1": _lecun(random)}
    figure = new_figure(TWO_COLUMNS, 5.0)
    panels = figure.subplots(2, 2, height_ratios=(1, 2))
    for column, (title, weights) in enumerate(drawn.items()):
        _draw_histogram(panels[0, column], weights, title, PALETTE[1 - column])
        image = _draw_matrix(panels[1, column], weights)
    panels[0, 0].set_ylabel("weights")
    panels[1, 0].set_ylabel("input")
    colour_bar(figure, image, panels[1, :], "weight")
    return figure


def _lecun(random: np.random.Generator) -> Numbers:
    """Return weights as Keras' ``lecun_normal`` draws them: variance 1/fan_in, none beyond 2 deviations."""
    weights = random.standard_normal((UNITS, UNITS))
    while (beyond := np.abs(weights) > 2).any():
        weights[beyond] = random.standard_normal(int(beyond.sum()))
    return weights / TRUNCATED_DEVIATION / math.sqrt(UNITS)


def _draw_histogram(axes: Axes, weights: Numbers, title: str, shade: str) -> None:
    axes.hist(weights.ravel(), bins=160, range=(-LIMIT, LIMIT), histtype="stepfilled", color=shade)
    axes.set_xlim(-LIMIT, LIMIT)
    axes.set_xlabel("weight")
    axes.set_title(title, loc="left")


def _draw_matrix(axes: Axes, weights: Numbers) -> Any:
    image = axes.imshow(weights, cmap="RdBu_r", vmin=-LIMIT, vmax=LIMIT, interpolation="none")
    axes.grid(visible=False)
    axes.set_xlabel("unit")
    return image
