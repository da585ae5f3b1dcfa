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
    EXPLODING_VARIANCE,
    MEAN_DOMAIN,
    VANISHING_GRADIENT_RATIO,
    VANISHING_VARIANCE,
    VARIANCE_DOMAIN,
    Moments,
    exponential_moments,
    initial_tau,
)
from service.domain.spec import MAX_LAYERS, Activation, MlpSpec, NetworkSpec

SignalStatus = Literal["held", "stable", "vanishing", "exploding"]
"""In the box of Theorem 1 in every layer; outside of it, yet alive; dead."""

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(99)
TINY = 1e-300


@dataclass(frozen=True, slots=True)
class LayerSignal:
    """What is predicted of one hidden layer, from 1."""

    layer: int
    tau: float
    mean: float
    variance: float
    gain: float
    """The root of the squared gradient's growth through this layer, going back."""

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

    In closed form for SELU, ELU and ReLU, by Gauss-Hermite quadrature for the sigmoid and the hyperbolic tangent.
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
    z = mean + math.sqrt(variance) * NODES
    share = WEIGHTS / math.sqrt(2 * math.pi)
    if activation == "tanh":
        values = np.tanh(z)
        slopes = 1 - values * values
    else:
        values = 0.5 * (np.tanh(z / 2) + 1)
        slopes = values * (1 - values)
    first = float(share @ values)
    return Moments(first, float(share @ (values - first) ** 2), float(share @ slopes**2))


def propagate(network: NetworkSpec, inputs: int, input_mean: float = 0.0, input_variance: float = 1.0) -> Signal:
    """Predict the signal in an untrained network whose first layer takes so many numbers with these moments."""
    layers = tuple(_forward(network, (inputs, *network.widths), input_mean, input_variance))
    ratio = math.prod(layer.gain for layer in layers[1:])
    status, layer, detail = _judged(layers)
    return Signal(status, layers, layer, ratio, _horizon(network, inputs, input_mean, input_variance), detail)


def _forward(network: NetworkSpec, widths: tuple[int, ...], mean: float, variance: float) -> Iterator[LayerSignal]:
    is_normalized = isinstance(network, MlpSpec) and network.normalization == "batch"
    for number, (fan_in, units) in enumerate(pairwise(widths), start=1):
        tau = initial_tau(network.initializer, fan_in, units)
        spread = tau * (variance + mean * mean)
        moments = moments_of(network.activation, 0.0, 1.0 if is_normalized else spread)
        # Batch normalization divides by the spread, forward and back.
        gain = tau * moments.slope / (max(spread, TINY) if is_normalized else 1.0)
        mean, variance = moments.mean, moments.variance
        yield LayerSignal(number, tau, mean, variance, math.sqrt(gain))


def _judged(layers: tuple[LayerSignal, ...]) -> tuple[SignalStatus, int | None, str]:
    """Name the layer in which the signal dies, forward first, and say so."""
    depth = len(layers)
    for layer in layers:
        if not VANISHING_VARIANCE <= layer.variance <= EXPLODING_VARIANCE:
            status: SignalStatus = "vanishing" if layer.variance < VANISHING_VARIANCE else "exploding"
            where = (
                f"variance leaves [{VANISHING_VARIANCE:g}, {EXPLODING_VARIANCE:g}] at layer {layer.layer} of {depth}"
            )
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
    ratio = 1.0
    for layer in _forward(network, widths, mean, variance):
        ratio *= layer.gain if layer.layer > 1 else 1.0
        is_alive = VANISHING_VARIANCE <= layer.variance <= EXPLODING_VARIANCE
        if not (is_alive and VANISHING_GRADIENT_RATIO <= ratio <= EXPLODING_GRADIENT_RATIO):
            return layer.layer - 1
    return None
