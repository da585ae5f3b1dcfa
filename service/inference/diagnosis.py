"""Look at the hidden layers of a network on some rows: moments, weights, gradients; in NumPy, trained or not.

The same code looks at a network before, while and after it trains, so that its numbers can be compared. Dropout is off,
and the loss is the plain one: cross-entropy, or the squared error of the standardized target.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.diagnostics import Diagnosis, Histogram, Histograms, LayerDiagnosis
from service.domain.self_normalization import ALPHA_PRIME, initial_tau
from service.domain.signal import moments_of
from service.domain.spec import NetworkSpec
from service.inference.layers import ACTIVATIONS, BATCH_NORMALIZATION_EPSILON, Layer, softmax

MOST_ROWS = 512
FEWEST_ROWS = 16
ACTIVATION_BYTES = 64 * 2**20
"""What the activations of all hidden layers may take, held for the way back."""
FLOPS = 4e9
"""Well below a second: nobody can interrupt a look."""
WEIGHT_BINS = 48
WEIGHT_REACH = 6.0
"""Bins reach so many standard deviations of the initial weights to either side."""
ACTIVATION_BINS = 48
ACTIVATION_REACH = {
    "selu": (-2.0, 10.0),
    "elu": (-2.0, 10.0),
    "relu": (0.0, 12.0),
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
}
HISTOGRAM_CELLS = 16_384
"""A histogram counts so many weights or activations, evenly chosen: more would show nothing else."""
SATURATED = 0.99
SATURATED_ROWS = 0.95
DIGITS = 6
TRUNCATED_DEVIATION = 0.87962566103423978
"""Of a normal variable cut at two deviations."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """Rows on which a network is looked at, always the same."""

    rows: Array
    """float32 (rows, inputs), as the first layer takes them."""
    targets: Array
    """Class indices, or standardized numbers, (rows,)."""
    is_classification: bool


@dataclass(frozen=True, slots=True)
class _Gradients:
    """Norms of the gradients of the mean loss."""

    by_sums: float
    """By the pre-activations of a layer."""
    by_kernel: float


def probe_rows(available: int, inputs: int, widths: Sequence[int], outputs: int) -> int:
    """Return on how many rows a network of this size is looked at."""
    sizes = (inputs, *widths, outputs)
    parameters = sum(one * other for one, other in pairwise(sizes))
    fitting = min(ACTIVATION_BYTES // (4 * sum(sizes)), int(FLOPS / (6 * parameters)))
    return min(available, MOST_ROWS, max(FEWEST_ROWS, fitting))


def fresh_layers(network: NetworkSpec, inputs: int, outputs: int, seed: int) -> tuple[Layer, ...]:
    """Draw the layers of an untrained network, the output layer last; Keras' distributions, not its very numbers."""
    rng = np.random.default_rng(seed)
    widths = (inputs, *network.widths)
    hidden = [
        Layer(_draw(rng, network, fan_in, units), np.zeros(units, np.float32)) for fan_in, units in pairwise(widths)
    ]
    return (*hidden, drawn_head(widths[-1], outputs, seed))


def drawn_head(fan_in: int, outputs: int, seed: int = 0) -> Layer:
    """Draw an output layer, LeCun normal: the head of a regression starts at 0, through which no gradient comes."""
    kernel = np.random.default_rng([seed, 1]).standard_normal((fan_in, outputs), np.float32) / np.float32(
        math.sqrt(fan_in)
    )
    return Layer(kernel, np.zeros(outputs, np.float32))


def _draw(rng: np.random.Generator, network: NetworkSpec, fan_in: int, units: int) -> Array:
    deviation = math.sqrt(initial_tau(network.initializer, fan_in, units) / fan_in)
    if network.initializer == "glorot_uniform":
        return rng.uniform(-math.sqrt(3), math.sqrt(3), (fan_in, units)).astype(np.float32) * np.float32(deviation)
    drawn = rng.standard_normal((fan_in, units), np.float32)
    if network.initializer != "normal":  # Keras' variance scaling cuts at two deviations and widens what is left
        while (far := np.abs(drawn) > 2).any():
            drawn[far] = rng.standard_normal(int(far.sum()), np.float32)
        drawn /= np.float32(TRUNCATED_DEVIATION)
    return drawn * np.float32(deviation)


def look(
    network: NetworkSpec,
    layers: Sequence[Layer],
    probe: Probe,
    epoch: int = 0,
    steps: Sequence[float | None] = (),
) -> Diagnosis:
    """Look at every hidden layer; ``layers`` ends with the output layer, ``steps`` are norms of the last steps.

    A network with batch normalization that has not trained yet is given with its layers as they are, and is normalized
    by the moments of the probe, as in training.
    """
    normalizes = epoch == 0 and network.normalization == "batch"
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is not finite is None in the end
        layers, given = _forward(network, layers, probe.rows, normalizes=normalizes)
        gradients = _backward(network, layers, given, probe)
        predicted = _predicted(network, layers, probe.rows)
        last = gradients[-1].by_sums
        found = tuple(
            _described(number, network.activation, layer, values)
            | {
                "predicted_mean": _finite(moments[0]),
                "predicted_variance": _finite(moments[1]),
                "gradient_norm": _finite(gradient.by_kernel),
                "gradient_ratio": _finite(gradient.by_sums / last) if last > 0 else None,
            }
            for number, (layer, values, gradient, moments) in enumerate(
                zip(layers[:-1], given[1:], gradients, predicted, strict=True), start=1
            )
        )
        histograms = _histograms(network, layers, given)
    ratios = [
        _step_ratio(step, one["weight_norm"]) for step, one in zip(steps or [None] * len(found), found, strict=True)
    ]
    seen = tuple(LayerDiagnosis(**one, update_ratio=ratio) for one, ratio in zip(found, ratios, strict=True))
    return Diagnosis(epoch, seen, histograms)


def _described(number: int, activation: str, layer: Layer, values: Array) -> dict[str, Any]:
    """Return what a layer's weights and its activations (rows, units) are, as fields of ``LayerDiagnosis``."""
    squares = np.einsum("ij,ij->j", layer.kernel, layer.kernel)
    mean = float(values.mean())
    return {
        "layer": number,
        "units": layer.bias.size,
        "mean": _finite(mean),
        "variance": _finite(float(np.square(values - np.float32(mean)).mean())),
        "tau": _finite(float(squares.mean())),
        "tau_max": _finite(float(squares.max())),
        "omega": _finite(float(layer.kernel.sum(axis=0).mean())),
        "bias": _finite(float(np.square(layer.bias).mean())),
        "weight_norm": _finite(math.sqrt(float(squares.sum()))),
        "dead": _finite(_dead(activation, values)),
    }


def _step_ratio(step: float | None, norm: float | None) -> float | None:
    return _finite(step / norm) if step is not None and norm else None


def _forward(
    network: NetworkSpec, layers: Sequence[Layer], rows: Array, *, normalizes: bool
) -> tuple[list[Layer], list[Array]]:
    """Return the layers, normalized where asked, and what goes into each of them, the first one's rows included."""
    apply = ACTIVATIONS[network.activation].apply
    used, given = [], [rows]
    for layer in layers[:-1]:
        pre_activations = layer(given[-1])
        if normalizes:
            mean, variance = pre_activations.mean(axis=0), pre_activations.var(axis=0)
            factor = 1 / np.sqrt(variance + np.float32(BATCH_NORMALIZATION_EPSILON))
            layer = Layer(layer.kernel * factor, (layer.bias - mean) * factor)
            pre_activations = layer(given[-1])
        used.append(layer)
        given.append(apply(pre_activations))
    return [*used, layers[-1]], given


def _backward(network: NetworkSpec, layers: Sequence[Layer], given: Sequence[Array], probe: Probe) -> list[_Gradients]:
    """Return how large the gradients of every hidden layer are."""
    head = layers[-1]
    if not head.kernel.any():
        head = drawn_head(*head.kernel.shape)
    back = _loss_gradient(head(given[-1]), probe) @ head.kernel.T
    slope = ACTIVATIONS[network.activation].slope
    norms = []
    for number in range(len(layers) - 2, -1, -1):
        back = back * slope(given[number + 1])
        norms.append(_Gradients(_norm(back), _norm(given[number].T @ back)))
        if number:
            back = back @ layers[number].kernel.T
    return norms[::-1]


def _loss_gradient(answers: Array, probe: Probe) -> Array:
    """Return the gradient of the mean loss by what the output layer gives, (rows, outputs)."""
    if not probe.is_classification:
        return np.asarray(2 * (answers - probe.targets[:, None]) / len(answers), np.float32)
    chances = softmax(answers.astype(np.float64))
    chances[np.arange(len(answers)), probe.targets] -= 1
    return np.asarray(chances / len(answers), np.float32)


def _predicted(network: NetworkSpec, layers: Sequence[Layer], rows: Array) -> list[tuple[float, float]]:
    """Iterate the moment map from the rows through the layers' own weights and biases.

    The mean of a unit's pre-activation is mu omega + bias, its variance nu tau; units of a layer are taken together.
    """
    mean, variance = float(rows.mean(dtype=np.float64)), float(rows.var(dtype=np.float64))
    found = []
    for layer in layers[:-1]:
        centers = mean * layer.kernel.sum(axis=0, dtype=np.float64) + layer.bias
        tau = float(np.square(layer.kernel).sum(axis=0).mean())
        spread = variance * tau + float(centers.var())
        center = float(centers.mean())
        if not (math.isfinite(center) and math.isfinite(spread)):
            found.append((math.nan, math.nan))
            continue
        moments = moments_of(network.activation, center, spread)
        mean, variance = moments.mean, moments.variance
        found.append((mean, variance))
    return found


def _dead(activation: str, values: Array) -> float:
    """Return the part of the units that no row of (rows, units) moves."""
    if activation == "relu":
        return float((values <= 0).all(axis=0).mean())
    if activation in ("selu", "elu"):
        floor = ALPHA_PRIME if activation == "selu" else -1.0
        return float((values < SATURATED * floor).all(axis=0).mean())
    low = -1.0 if activation == "tanh" else 0.0
    middle, half = (1.0 + low) / 2, (1.0 - low) / 2
    is_saturated = np.abs(values - middle) > SATURATED * half
    return float((is_saturated.mean(axis=0) >= SATURATED_ROWS).mean())


def _histograms(network: NetworkSpec, layers: Sequence[Layer], given: Sequence[Array]) -> Histograms:
    low, high = ACTIVATION_REACH[network.activation]
    weights = []
    for layer in layers[:-1]:
        fan_in, units = layer.kernel.shape
        reach = WEIGHT_REACH * math.sqrt(initial_tau(network.initializer, fan_in, units) / fan_in)
        weights.append(_histogram(layer.kernel, -reach, reach, WEIGHT_BINS))
    return Histograms(tuple(weights), tuple(_histogram(values, low, high, ACTIVATION_BINS) for values in given[1:]))


def _histogram(values: Array, low: float, high: float, bins: int) -> Histogram:
    step = -(-values.size // HISTOGRAM_CELLS)
    # Rows are as long as the layer is wide: a step that divides the width would look at some units only.
    while math.gcd(step, values.shape[-1]) > 1:
        step += 1
    places = (values.reshape(-1)[::step] - np.float32(low)) * np.float32(bins / (high - low))
    if not math.isfinite(places.sum()):
        np.nan_to_num(places, copy=False)
    np.clip(places, 0, bins - 1, out=places)
    counts = np.bincount(places.astype(np.intp), minlength=bins)
    return Histogram(_rounded(low), _rounded(high), tuple(counts.tolist()))


def _norm(values: Array) -> float:
    flat = values.reshape(-1)
    return math.sqrt(float(flat @ flat))


def _finite(value: float) -> float | None:
    return _rounded(value) if math.isfinite(value) else None


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
