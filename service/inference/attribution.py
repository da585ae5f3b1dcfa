"""Why a network answers as it does: what every feature of a row contributes, by integrated gradients.

Source: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017. The gradient of the answer is
averaged on the straight line from the mean of the training rows to the row, and multiplied with the way between them;
what all features contribute adds up to the answer at the row less the answer at the mean ("completeness").
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from service.domain.models import Inputs
from service.inference.layers import BLOCK_BYTES, Array, PlainNetwork, block_shape, softmax

PANEL_STEPS = 64
"""Steps of one Gauss-Legendre rule; more steps are several such panels, one after the other."""
PANELS = (1, 4, 16)
"""How many panels are tried, until completeness holds."""
MOST_STEPS = PANEL_STEPS * PANELS[-1]
TOLERANCE = 0.005
"""Completeness holds where the gap is at most this, as a probability or in standard deviations of the target; for
answers that move by more than one deviation, this share of the move. ReLU and SELU have a kink at 0, so that the gap
falls only as 1 / steps: measured, 64 steps leave 0.002 to 0.05, 1,024 steps 0.0002 to 0.01."""


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """What the features of every row contribute, in the order of the rows.

    Numbers are in the target's units, or, for a classification, probabilities of the class ``chosen``. (Not logits:
    those are known only up to a number that is common to all classes, which could depend on the features.)
    """

    contributions: NDArray[np.float64]
    """(rows, features)."""
    answers: NDArray[np.float64]
    """The answer at the row, (rows,)."""
    baseline: NDArray[np.float64]
    """The answer at the mean of the training rows, (rows,)."""
    gap: NDArray[np.float64]
    """What the contributions add up to, less ``answers - baseline``, (rows,): the error of the integration."""
    chosen: NDArray[np.intp]
    """The index of the class whose probability is explained, (rows,); 0 for a regression."""


def integrated_gradients(
    network: PlainNetwork,
    encoded: NDArray[np.float64],
    chosen: NDArray[np.intp] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Attribution:
    """Explain the answers to encoded rows (rows, columns): one contribution per raw feature.

    ``chosen`` are the indices of the classes whose probabilities are explained, (rows,); None: the most probable ones.
    A network that was trained without standardization is compared with encoded columns that are all 0. Activations
    take at most ``block_bytes``, or those of one step; that changes the result by rounding only.
    """
    fitting = block_bytes // (sum(network.widths) * network.kind.itemsize)
    first, outputs = network.layers[0], network.outputs
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite or NaN
        rows = network.standardize(encoded)
        # The first layer is linear: on the line its pre-activations are bias + t way, for t from 0 to 1.
        way = rows @ first.kernel
        given = network.follow(way + first.bias)
        if chosen is None:
            chosen = given.argmax(axis=1)
        answers, _ = _answer(network, given, chosen)
        baseline, _ = _answer(network, network.follow(np.tile(first.bias, (len(rows), 1))), chosen)
        mean_gradients = _complete_gradients(network, way, chosen, answers - baseline, fitting)
        contributions = (rows * (mean_gradients @ first.kernel.T)).astype(np.float64)
        return Attribution(
            by_feature(contributions, network.inputs) * outputs.scale,
            answers * outputs.scale + outputs.mean,
            baseline * outputs.scale + outputs.mean,
            (contributions.sum(axis=1) - (answers - baseline)) * outputs.scale,
            chosen,
        )


def gradients(network: PlainNetwork, values: Array, chosen: NDArray[np.intp]) -> Array:
    """Return the answer's gradient at pre-activations of the first layer (..., units), which are overwritten.

    The answer is the probability of the class ``chosen``, (...), or the standardized prediction.
    """
    activations = []
    for layer in network.layers[1:]:
        activations.append(network.activation.apply(values))
        values = layer(activations[-1])
    _, gradient = _answer(network, values, chosen)
    for layer, given in zip(reversed(network.layers[1:]), reversed(activations), strict=True):
        gradient = (gradient.reshape(-1, gradient.shape[-1]) @ layer.kernel.T).reshape(given.shape)
        gradient *= network.activation.slope(given)
    return gradient


def by_feature(contributions: NDArray[np.float64], inputs: Inputs) -> NDArray[np.float64]:
    """Add up what the encoded columns (rows, columns) of every raw feature contribute: (rows, features)."""
    widths = np.array([len(encoder.columns) for encoder in inputs.encoders])
    starts = np.cumsum(widths) - widths
    summed = np.zeros((len(contributions), len(widths)))
    used = widths > 0
    summed[:, used] = np.add.reduceat(contributions, starts[used], axis=1)
    return summed


def _complete_gradients(
    network: PlainNetwork, way: Array, chosen: NDArray[np.intp], moves: NDArray[np.float64], fitting: int
) -> Array:
    """Return mean gradients (rows, units) with so many steps that their sum along the way is the answer's move."""
    found = np.empty_like(way)
    due = np.arange(len(way))
    allowed = TOLERANCE * np.maximum(1.0, np.abs(moves))
    for panels in PANELS:
        found[due] = _mean_gradients(network, way[due], chosen[due], panels, fitting)
        gaps = (found[due] * way[due]).sum(axis=1, dtype=np.float64) - moves[due]
        due = due[np.abs(gaps) > allowed[due]]  # not those whose answer is no number: more steps would not help
        if not len(due):
            break
    return found


def _mean_gradients(network: PlainNetwork, way: Array, chosen: NDArray[np.intp], panels: int, fitting: int) -> Array:
    """Average the gradients of the answer with respect to the first pre-activations on the line, (rows, units)."""
    places, weights = (values.astype(network.kind) for values in _steps(panels))
    rows_at_once, steps_at_once = block_shape(len(way), len(places), fitting)
    found = np.zeros_like(way)
    for row in range(0, len(way), rows_at_once):
        part = slice(row, row + rows_at_once)
        for step in range(0, len(places), steps_at_once):
            some = slice(step, step + steps_at_once)
            line = way[part, None] * places[some, None] + network.layers[0].bias
            found[part] += weights[some] @ gradients(network, line, np.broadcast_to(chosen[part, None], line.shape[:2]))
    return found


def _answer(network: PlainNetwork, given: Array, chosen: NDArray[np.intp]) -> tuple[NDArray[np.float64], Array]:
    """Return what is explained, (...), and its gradient, (..., outputs), of what the output layer gave."""
    if network.outputs.task == "regression":
        return given[..., 0].astype(np.float64), np.ones_like(given)
    probabilities = softmax(given.astype(np.float64))
    explained = np.take_along_axis(probabilities, chosen[..., None], axis=-1)
    gradient = -explained * probabilities
    np.put_along_axis(gradient, chosen[..., None], explained * (1 - explained), axis=-1)
    return explained[..., 0], gradient.astype(network.kind)


@cache
def _steps(panels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return places between 0 and 1 and their weights: Gauss-Legendre in every one of equal panels."""
    places, weights = np.polynomial.legendre.leggauss(PANEL_STEPS)
    return (
        ((np.arange(panels)[:, None] + (places + 1) / 2) / panels).ravel(),
        np.tile(weights / 2 / panels, panels),
    )
