"""Why gradients vanish and what SELU does about it: activation functions, their derivatives, the moment map."""

import math
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from service.domain.self_normalization import (
    EXPLODING_VARIANCE,
    SELU_ALPHA,
    SELU_SCALE,
    THEOREM_1,
    fixed_point_variance,
    map_moments,
)
from service.plots.figures import (
    GREY,
    INK,
    ONE_COLUMN,
    PALETTE,
    SHADE,
    TWO_COLUMNS,
    legend_below,
    new_figure,
    picture,
)
from service.plots.scales import Numbers, decade, decade_axis

Function = Callable[[Numbers], Numbers]
REACH = 6.0
TAUS = (0.8, 1.0, 1.25, 1.5, 2.0)
LARGEST_TAU = 2.0
"""With a larger one the variance grows without end, or nearly so."""


def sigmoid(x: Numbers) -> Numbers:
    """Return the logistic function."""
    return 1 / (1 + np.exp(-x))


def sigmoid_slope(x: Numbers) -> Numbers:
    """Return its derivative: 1/4 at most."""
    return sigmoid(x) * (1 - sigmoid(x))


def elu(x: Numbers, scale: float = 1.0, alpha: float = 1.0) -> Numbers:
    """Return ELU; with the constants of SELU it is SELU."""
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_slope(x: Numbers, scale: float = 1.0, alpha: float = 1.0) -> Numbers:
    """Return the derivative of ``elu``."""
    return scale * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0)))


@picture
def logistic() -> Figure:
    """Draw the logistic function, whose derivative of at most 1/4 makes gradients vanish."""
    figure = new_figure(ONE_COLUMN, 2.6)
    axes = figure.subplots()
    _draw_function(axes, sigmoid, sigmoid_slope, "logistic")
    legend_below(figure, _function_legend())
    return figure


@picture
def elu_and_selu() -> Figure:
    """Draw ELU beside SELU, whose slope above 1 for positive inputs lets a small variance grow."""
    figure = new_figure(TWO_COLUMNS, 2.7)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_function(left, elu, elu_slope, "ELU, α = 1")  # noqa: RUF001  # the Greek letter is meant
    title = f"SELU, λ = {SELU_SCALE:.4f}, α = {SELU_ALPHA:.4f}"  # noqa: RUF001
    _draw_function(
        right, lambda x: elu(x, SELU_SCALE, SELU_ALPHA), lambda x: elu_slope(x, SELU_SCALE, SELU_ALPHA), title
    )
    for axes in (left, right):
        axes.set_xlim(-4, 4)
        axes.set_ylim(-2, 3)
    legend_below(figure, _function_legend())
    return figure


@picture
def moment_map() -> Figure:
    """Draw what a SELU layer makes of the variance of its inputs, by tau, and where its fixed points lie."""
    figure = new_figure(TWO_COLUMNS, 3.0)
    left, right = figure.subplots(1, 2)
    _draw_map(left)
    _draw_fixed_points(right)
    return figure


def _draw_function(axes: Axes, function: Function, slope: Function, title: str) -> None:
    # Two points at 0, for the derivative of SELU jumps there.
    x = np.concatenate([np.linspace(-REACH, 0, 121), np.linspace(1e-9, REACH, 121)])
    axes.axhline(0, color=INK, linewidth=0.5)
    axes.axvline(0, color=INK, linewidth=0.5)
    axes.plot(x, function(x), color=PALETTE[0])
    axes.plot(x, slope(x), color=PALETTE[1], linestyle=(0, (4, 2)))
    axes.set_xlim(-REACH, REACH)
    axes.set_xlabel("pre-activation z")
    axes.set_title(title, loc="left")


def _function_legend() -> list[Line2D]:
    return [
        Line2D([], [], color=PALETTE[0], label="function"),
        Line2D([], [], color=PALETTE[1], linestyle=(0, (4, 2)), label="derivative"),
    ]


def _draw_map(axes: Axes) -> None:
    variances = np.geomspace(0.01, 100, 81)
    axes.axhline(1, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)))
    for tau, shade in zip(TAUS, PALETTE, strict=False):
        factors = [map_moments(0.0, float(variance), 0.0, tau)[1] / variance for variance in variances]
        axes.plot(variances, factors, color=shade, label=f"τ = {tau:g}")
    axes.set_xscale("log")
    axes.set_xlim(0.01, 100)
    axes.set_ylim(0, 4)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: decade(value)))
    axes.set_xlabel("variance of a layer's inputs")
    axes.set_ylabel("factor by which the layer changes it")
    axes.legend(loc="upper right")


def _draw_fixed_points(axes: Axes) -> None:
    taus = np.linspace(0.7, LARGEST_TAU, 66)
    fixed = [fixed_point_variance(float(tau)) for tau in taus]
    axes.axvspan(*THEOREM_1.tau, color=SHADE, linewidth=0, zorder=0.5)
    axes.plot(taus, [math.nan if one is None else one for one in fixed], color=PALETTE[0])
    axes.plot([1], [1], marker="o", color=PALETTE[0], linestyle="")
    axes.axhline(EXPLODING_VARIANCE, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)))
    decade_axis(axes, np.array([0.1, 100.0]))
    axes.set_xlabel("τ, mean of a unit's sum of squared weights")
    axes.set_ylabel("variance that layers converge to")
    axes.set_title("shaded: τ of Theorem 1", loc="left")
