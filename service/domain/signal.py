"""How a signal fares in an untrained network, told from its spec alone: moments forward, gradients back, how deep.

A hidden layer of an untrained network has independent weights of mean 0, so over its rows and units a pre-activation is
taken as normal with mean 0 and variance tau (nu + mu^2), where mu and nu are the moments of what the layer takes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from service.domain.self_normalization import (
    EXPLODING_GRADIENT_RATIO,
    MEAN_DOMAIN,
    VANISHING_GRADIENT_RATIO,
    VARIANCE_DOMAIN,
    Moments,
    exponential_moments,
    initial_tau,
    living_variances,
)
from service.domain.spec import MAX_LAYERS, Activation, MlpSpec, NetworkSpec

SignalStatus = Literal["held", "stable", "vanishing", "exploding"]
"""In the box of Theorem 1 in every layer; outside of it, yet alive; dead."""

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(99)
GRID = np.linspace(-20.0, 20.0, 2001)
"""Beyond it, tanh is 1 or -1 to the last digit."""
TINY = 1e-300


@dataclass(frozen=True, slots=True)
class LayerSignal:
    """What is predicted of one hidden layer, from 1."""

    layer: int
    tau: float
    mean: float
    variance: float
    gain: float
    """By how much the gradient grows from this layer's pre-activations to those of the layer before; 1 of the first."""

    @property
    def is_in_domain(self) -> bool:
        """Whether the moments lie in the box of Theorem 1."""
        return is_in(self.mean, MEAN_DOMAIN) and is_in(self.variance, VARIANCE_DOMAIN)


@dataclass(frozen=True, slots=True)
class Signal:
    """What is predicted of a network."""

    status: SignalStatus
    layers: tuple[LayerSignal, ...]
    layer: int | None
    """The hidden layer in which the signal dies; None where it lives."""
    gradient_ratio: float
    """Of the gradients by the pre-activations of the first and of the last hidden layer."""
    horizon: int | None
    """Over how many hidden layers such as the last one it would live; None where it does for 256."""
    detail: str


def is_in(value: float, bounds: tuple[float, float]) -> bool:
    """Say whether a number lies in a closed range."""
    return bounds[0] <= value <= bounds[1]


def moments_of(activation: Activation, mean: float, variance: float) -> Moments:
    """Return mean, variance and mean squared slope of an activation of a normal variable.

    In closed form for SELU, ELU and ReLU, by quadrature for the sigmoid and the hyperbolic tangent.
    """
    variance = max(variance, TINY)
    match activation:
        case "selu":
            return exponential_moments(mean, variance)
        case "elu":
            return exponential_moments(mean, variance, scale=1.0, alpha=1.0)
        case "relu":
            return _relu_moments(mean, variance)
        case _:
            return _smooth_moments(activation, mean, variance)


def _relu_moments(mean: float, variance: float) -> Moments:
    deviation = math.sqrt(variance)
    density = math.exp(-mean * mean / (2 * variance)) / math.sqrt(2 * math.pi)
    above = math.erfc(-mean / (deviation * math.sqrt(2))) / 2
    first = mean * above + deviation * density
    second = (mean * mean + variance) * above + mean * deviation * density
    return Moments(first, second - first * first, above)


def _smooth_moments(activation: Activation, mean: float, variance: float) -> Moments:
    if activation == "tanh":
        first, square, slope = _tanh_expectations(mean, variance)
        return Moments(first, max(square - first * first, 0.0), slope)
    first, square, slope = _tanh_expectations(mean / 2, variance / 4)  # sigmoid(z) = (1 + tanh(z / 2)) / 2
    return Moments((1 + first) / 2, max(square - first * first, 0.0) / 4, slope / 16)


def _tanh_expectations(mean: float, variance: float) -> tuple[float, float, float]:
    """Return E[t], E[t^2] and E[(1 - t^2)^2] of t = tanh(z), z normal.

    By Gauss-Hermite quadrature where z varies little. Where it varies much, its nodes are too far apart to see what
    happens near 0: there the difference between tanh and the sign is summed up on a fine grid.
    """
    deviation = math.sqrt(variance)
    if deviation <= 1:
        values = np.tanh(mean + deviation * NODES)
        share = WEIGHTS / math.sqrt(2 * math.pi)
        outside, square_outside = 0.0, 0.0
    else:
        values = np.tanh(GRID)
        share = (
            np.exp(-np.square((GRID - mean) / deviation) / 2)
            * (GRID[1] - GRID[0])
            / (deviation * math.sqrt(2 * math.pi))
        )
        outside = math.erf(mean / (deviation * math.sqrt(2))) - float(share @ np.sign(GRID))
        square_outside = 1 - float(share.sum())
    rest = 1 - values * values
    return float(share @ values) + outside, float(share @ values**2) + square_outside, float(share @ rest**2)


def propagate(network: NetworkSpec, inputs: int, input_mean: float = 0.0, input_variance: float = 1.0) -> Signal:
    """Predict the signal in an untrained network whose first layer takes so many numbers with these moments."""
    layers = tuple(_forward(network, (inputs, *network.widths), input_mean, input_variance))
    ratio = math.prod(layer.gain for layer in layers)
    status, layer, detail = _judged(network.activation, layers)
    return Signal(status, layers, layer, ratio, _horizon(network, inputs, input_mean, input_variance), detail)


def _forward(network: NetworkSpec, widths: tuple[int, ...], mean: float, variance: float) -> Iterator[LayerSignal]:
    is_normalized = isinstance(network, MlpSpec) and network.normalization == "batch"
    slope: float | None = None
    for number, (fan_in, units) in enumerate(pairwise(widths), start=1):
        tau = initial_tau(network.initializer, fan_in, units)
        spread = tau * (variance + mean * mean)
        moments = moments_of(network.activation, 0.0, 1.0 if is_normalized else spread)
        # Batch normalization divides by the spread, forward and back.
        gain = 1.0 if slope is None else tau * slope / (max(spread, TINY) if is_normalized else 1.0)
        mean, variance, slope = moments.mean, moments.variance, moments.slope
        yield LayerSignal(number, tau, mean, variance, math.sqrt(gain))


def _judged(activation: Activation, layers: tuple[LayerSignal, ...]) -> tuple[SignalStatus, int | None, str]:
    """Name the layer in which the signal dies, forward first, and say so."""
    depth = len(layers)
    low, high = living_variances(activation, layers[0].variance)
    for layer in layers:
        if not low <= layer.variance <= high:
            status: SignalStatus = "vanishing" if layer.variance < low else "exploding"
            where = f"variance leaves [{low:.2g}, {high:.3g}] at layer {layer.layer} of {depth}"
            return status, layer.layer, f"{where}: {layer.variance:.3g} is predicted"
    ratio = 1.0
    for layer in reversed(layers[1:]):
        ratio *= layer.gain
        if not VANISHING_GRADIENT_RATIO <= ratio <= EXPLODING_GRADIENT_RATIO:
            shrinks = ratio < VANISHING_GRADIENT_RATIO
            how = f"the gradient {'shrinks' if shrinks else 'grows'} to {ratio:.1e} of that of the last hidden layer"
            return (
                "vanishing" if shrinks else "exploding",
                layer.layer - 1,
                f"{how} at layer {layer.layer - 1} of {depth}",
            )
    last = layers[-1]
    moments = f"mean {last.mean:.2f} and variance {last.variance:.2f} are predicted after {depth} hidden layers"
    if all(layer.is_in_domain for layer in layers):
        return "held", None, f"{moments}, and every layer lies in the box of Theorem 1"
    return "stable", None, f"{moments}: the signal lives, but no box of the theorems holds it"


def _horizon(network: NetworkSpec, inputs: int, mean: float, variance: float) -> int | None:
    """Return the greatest depth, up to 256 layers as wide as the last one, at which nothing dies; None for all of them.

    Hidden layers of other widths come first, as they are.
    """
    widths = (inputs, *network.widths, *(network.widths[-1],) * MAX_LAYERS)[: MAX_LAYERS + 1]
    ratio, bounds = 1.0, (0.0, math.inf)
    for layer in _forward(network, widths, mean, variance):
        ratio *= layer.gain
        bounds = living_variances(network.activation, layer.variance) if layer.layer == 1 else bounds
        if not (is_in(layer.variance, bounds) and VANISHING_GRADIENT_RATIO <= ratio <= EXPLODING_GRADIENT_RATIO):
            return layer.layer - 1
    return None
