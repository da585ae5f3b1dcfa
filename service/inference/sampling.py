"""How sure a network is: its answers while dropout stays on, many times for every row.

Source: Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016; alpha dropout as in Klambauer et al. 2017.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from service.domain.self_normalization import (
    ALPHA_PRIME,
    DROPOUT_LEVELS,
    alpha_dropout_affine,
    dropout_threshold,
)
from service.inference.layers import BLOCK_BYTES, Array, PlainNetwork, block_shape, softmax

UNITS_PER_WORD = 4
"""PCG64 gives 64 bits at once, 16 for each of four units."""

Noise = list[tuple[Array, Array]]
"""For every hidden layer what its activations are multiplied with, and what is added then, (samples, 1, units) each."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """What the samples of every row say together, in the order of the rows."""

    mean: NDArray[np.float64]
    """In the target's units (rows,), or of the probabilities (rows, classes)."""
    standard_deviation: NDArray[np.float64]
    """In the same units and of the same shape."""
    predictive_entropy: NDArray[np.float64] | None = None
    """The entropy of the mean probabilities, -sum p log p, in nats (rows,): all uncertainty about the class."""
    mutual_information: NDArray[np.float64] | None = None
    """The part of it that comes from not knowing the weights, in nats (rows,): the predictive entropy less the mean
    entropy of the samples."""


def sample(
    network: PlainNetwork, encoded: NDArray[np.float64], samples: int, seed: int, block_bytes: int = BLOCK_BYTES
) -> Spread:
    """Answer encoded rows (rows, columns) with networks thinned by dropout, exactly as training thinned them.

    Every sample is one thinned network that answers all rows. So what is found for a row depends on the seed and not
    on the rows beside it, and the noise of a request costs as much as that of one row. The activations of a layer take
    at most ``block_bytes``, or those of one pass; that changes the result by rounding only.
    """
    fitting = block_bytes // (max(network.widths) * network.kind.itemsize)
    rows_at_once, samples_at_once = block_shape(len(encoded), samples, fitting)
    pieces = [encoded[start : start + rows_at_once] for start in range(0, len(encoded), rows_at_once)]
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite or NaN
        parts = [_sample_rows(network, piece, samples, seed, samples_at_once) for piece in pieces]
    return parts[0] if len(parts) == 1 else _joined(parts)


def entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -sum p log p over the last axis, in nats; what has probability 0 adds nothing."""
    logarithms = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return -np.asarray((probabilities * logarithms).sum(axis=-1))


class _Totals:
    """Sums over samples, from which mean, deviation and entropies follow."""

    def __init__(self, first: NDArray[np.float64], are_probabilities: bool) -> None:
        self.count = 0
        self._near = first  # distances from an answer are small, so that their squares keep their digits
        self._sum = np.zeros_like(first)
        self._squares = np.zeros_like(first)
        self._entropy = np.zeros(len(first)) if are_probabilities else None

    def add(self, answers: NDArray[np.float64]) -> None:
        """Take in some samples, (samples, rows, outputs)."""
        self.count += len(answers)
        distance = answers - self._near
        self._sum += distance.sum(axis=0)
        self._squares += np.square(distance, out=distance).sum(axis=0)
        if self._entropy is not None:
            self._entropy += entropy(answers).sum(axis=0)

    def spread(self) -> Spread:
        """Return what they come to; the deviation is that of the samples, not an estimate from them."""
        shift = self._sum / self.count
        mean = self._near + shift
        deviation = np.sqrt(np.maximum(self._squares / self.count - shift**2, 0.0))
        if self._entropy is None:
            return Spread(mean, deviation)
        predictive = entropy(mean)
        # Mathematically never below 0 (Jensen); rounding may be.
        return Spread(mean, deviation, predictive, np.maximum(predictive - self._entropy / self.count, 0.0))


def _sample_rows(network: PlainNetwork, encoded: NDArray[np.float64], samples: int, seed: int, at_once: int) -> Spread:
    """Sample rows, so many samples at once."""
    # No unit is dropped before the first activation, so that it is the same in all samples.
    activations = network.activation.apply(network.layers[0](network.standardize(encoded)))
    outputs = network.outputs
    totals = None
    for noise in _draw(network, samples, seed, at_once):
        answers = _thinned(network, activations, noise).astype(np.float64)
        if outputs.task == "classification":
            answers = softmax(answers)
        totals = totals or _Totals(answers[0], outputs.task == "classification")
        totals.add(answers)
    assert totals is not None
    found = totals.spread()
    if outputs.task == "classification":
        return found
    return Spread(found.mean[:, 0] * outputs.scale + outputs.mean, found.standard_deviation[:, 0] * outputs.scale)


def _thinned(network: PlainNetwork, activations: Array, noise: Noise) -> Array:
    """Return what the output layer gives in every sample, (samples, rows, outputs).

    ``activations`` are the first hidden layer's, (rows, units).
    """
    values = activations
    for layer, (factor, shift) in zip(network.layers[1:], noise, strict=True):
        thinned = values * factor
        thinned += shift
        values = layer(thinned)
        if layer is not network.layers[-1]:
            values = network.activation.apply(values)
    return values


def _draw(network: PlainNetwork, samples: int, seed: int, at_once: int) -> Iterator[Noise]:
    """Draw the noise of all samples, so many at once; every sample takes whole words of one stream.

    Thus the noise of a sample does not depend on how many are drawn together.
    """
    assert network.spec.dropout
    threshold = dropout_threshold(network.spec.dropout)
    rate = threshold / DROPOUT_LEVELS
    if network.spec.kind == "snn":
        (a, b), dropped = alpha_dropout_affine(rate), ALPHA_PRIME
    else:
        a, b, dropped = 1 / (1 - rate), 0.0, 0.0
    edges = np.cumsum((0, *network.widths[:-1])).tolist()
    words = -(-edges[-1] // UNITS_PER_WORD)
    stream = np.random.PCG64(seed)
    for start in range(0, samples, at_once):
        count = min(at_once, samples - start)
        bits = stream.random_raw(count * words).view(np.uint16).reshape(count, 1, -1)
        kept = bits >= threshold
        factor = np.where(kept, network.kind.type(a), network.kind.type(0))
        shift = np.where(kept, network.kind.type(b), network.kind.type(a * dropped + b))
        yield [(factor[..., left:right], shift[..., left:right]) for left, right in pairwise(edges)]


def _joined(parts: list[Spread]) -> Spread:
    """Put rows one after the other again."""
    entropies = [part.predictive_entropy for part in parts if part.predictive_entropy is not None]
    information = [part.mutual_information for part in parts if part.mutual_information is not None]
    return Spread(
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.standard_deviation for part in parts]),
        np.concatenate(entropies) if entropies else None,
        np.concatenate(information) if information else None,
    )
