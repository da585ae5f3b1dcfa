"""A registered network as plain arrays, for questions that its ONNX graph cannot answer; needs numpy alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors.numpy import load as load_tensors

from service.domain.models import Inputs, Outputs
from service.domain.self_normalization import SELU_ALPHA, SELU_SCALE
from service.domain.spec import NetworkSpec

BATCH_NORMALIZATION_EPSILON = 1e-3
"""What is added to a variance before its root is taken: Keras' default, which training leaves as it is."""
BLOCK_BYTES = 4 * 2**20
"""So much memory activations that are held at once may take; more is no faster."""

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of pre-activations, which it overwrites, and its derivative, given what the function gave."""

    apply: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def _exponential(scale: float, alpha: float) -> Activation:
    """Return ELU times ``scale``: x where positive, else alpha (e^x - 1)."""

    def apply(values: Array) -> Array:
        below = np.minimum(values, 0)
        np.exp(below, out=below)  # numpy has a fast exp for float32, and no fast expm1
        below -= 1
        below *= scale * alpha
        np.maximum(values, 0, out=values)
        values *= scale
        values += below
        return values

    def slope(given: Array) -> Array:
        slopes = given + given.dtype.type(scale * alpha)
        np.copyto(slopes, given.dtype.type(scale), where=given > 0)  # half the time of numpy.where
        return slopes

    return Activation(apply, slope)


def _sigmoid(values: Array) -> Array:
    values *= 0.5  # by the hyperbolic tangent, which cannot overflow
    np.tanh(values, out=values)
    values += 1
    values *= 0.5
    return values


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(lambda values: np.maximum(values, 0, out=values), lambda given: (given > 0).astype(given.dtype)),
    "elu": _exponential(1.0, 1.0),
    "selu": _exponential(SELU_SCALE, SELU_ALPHA),
    "tanh": Activation(lambda values: np.tanh(values, out=values), lambda given: 1 - given * given),
    "sigmoid": Activation(_sigmoid, lambda given: given * (1 - given)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A Dense layer, the batch normalization after it folded in."""

    kernel: Array
    """(inputs, units)."""
    bias: Array
    """(units,)."""

    def __call__(self, values: Array) -> Array:
        """Return pre-activations (..., units) of values (..., inputs), in one matrix product."""
        flat = values.reshape(-1, values.shape[-1]) @ self.kernel
        flat += self.bias
        return flat.reshape(*values.shape[:-1], -1)


@dataclass(frozen=True, slots=True, eq=False)
class PlainNetwork:
    """What a version answers with: standardization, Dense layers with an activation between, the answer's own form."""

    layers: tuple[Layer, ...]
    """Hidden layers, first to last, then the output layer."""
    spec: NetworkSpec
    inputs: Inputs
    outputs: Outputs

    @property
    def activation(self) -> Activation:
        """The activation of every hidden layer."""
        return ACTIVATIONS[self.spec.activation]

    @property
    def kind(self) -> np.dtype[Any]:
        """The type of its numbers."""
        return self.layers[0].kernel.dtype

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of every layer, the output layer's too."""
        return tuple(layer.bias.size for layer in self.layers)

    def astype(self, kind: DTypeLike) -> "PlainNetwork":
        """Return the network with numbers of another type."""
        layers = tuple(
            Layer(layer.kernel.astype(kind, copy=False), layer.bias.astype(kind, copy=False)) for layer in self.layers
        )
        return replace(self, layers=layers)

    def standardize(self, encoded: NDArray[np.float64]) -> Array:
        """Return encoded rows (rows, columns) as the first layer takes them; the mean of the training rows becomes 0.

        The arithmetic is float64, as in training.
        """
        return np.asarray((encoded - np.array(self.inputs.mean)) / np.array(self.inputs.scale), self.kind)

    def follow(self, values: Array) -> Array:
        """Return what the output layer gives for pre-activations of the first layer, which are overwritten."""
        for layer in self.layers[1:]:
            values = layer(self.activation.apply(values))
        return values

    def run(self, encoded: NDArray[np.float64]) -> NDArray[np.float64]:
        """Answer encoded rows (rows, columns) as the ONNX graph does.

        Returns probabilities (rows, classes), or predictions in the target's units (rows, 1).
        """
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite or NaN, as in the graph
            given = self.follow(self.layers[0](self.standardize(encoded))).astype(np.float64)
            if self.outputs.task == "classification":
                return softmax(given)
            return np.asarray(given * self.outputs.scale + self.outputs.mean)


def read(
    weights: bytes, spec: NetworkSpec, inputs: Inputs, outputs: Outputs, kind: DTypeLike = np.float32
) -> PlainNetwork:
    """Return the network whose tensors are stored in ``weights``, safetensors by their paths in Keras.

    ``kind`` is the type of its numbers.
    """
    return PlainNetwork(from_tensors(load_tensors(weights), spec), spec, inputs, outputs).astype(kind)


def from_tensors(tensors: Mapping[str, NDArray[Any]], spec: NetworkSpec, *, folds: bool = True) -> tuple[Layer, ...]:
    """Return the layers of a network, the output layer last; paths of tensors end with ``layer/name``.

    ``folds`` takes batch normalization into the layer before it, by its moving moments; else it is left out.
    """
    named = {"/".join(path.split("/")[-2:]): tensor for path, tensor in tensors.items()}
    normalized = folds and spec.normalization == "batch"
    hidden = [_hidden_layer(named, number, normalized) for number in range(1, len(spec.widths) + 1)]
    return (*hidden, Layer(named["head/kernel"], named["head/bias"]))


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities along the last axis."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def block_shape(rows: int, repeats: int, fitting: int) -> tuple[int, int]:
    """Return how many rows, and how often each, are taken at once where so many passes in all fit."""
    rows_at_once = min(rows, max(1, fitting // repeats))
    return rows_at_once, min(repeats, max(1, fitting // rows_at_once))


def _hidden_layer(tensors: Mapping[str, NDArray[np.float32]], number: int, normalized: bool) -> Layer:
    kernel, bias = tensors[f"dense_{number}/kernel"], tensors[f"dense_{number}/bias"]
    if not normalized:
        return Layer(kernel, bias)
    gamma, beta, mean, variance = (
        tensors[f"batch_normalization_{number}/{name}"].astype(np.float64)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    factor = gamma / np.sqrt(variance + BATCH_NORMALIZATION_EPSILON)
    return Layer(kernel * factor, (bias - mean) * factor + beta)
