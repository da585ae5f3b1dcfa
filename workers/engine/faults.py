"""Why a loss is not finite: the steps before it are taken once more, and the one that failed is looked at by layers."""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine.chunks import Engine
from workers.engine.feeds import Chunk
from workers.engine.layout import Vectors


@dataclass(frozen=True, slots=True)
class Fault:
    """The first step of a chunk whose loss is not finite, and what was found there."""

    step: int
    """From 0 within the chunk."""
    layer: str
    found: str
    largest: float
    """The largest input or standardized target of that step's rows."""


def diagnose(
    engine: Engine,
    before: Vectors,
    chunk: Chunk,
    losses: NDArray[Any],
    learning_rates: NDArray[Any],
    key: tuple[int, int],
) -> Fault:
    """Find the layer that overflowed first; ``before`` is the state in which the chunk began."""
    step = int(np.argmin(np.isfinite(losses)))
    state = before
    if step:
        again = replace(chunk, steps=step)
        state = engine.train(before, engine.fresh_totals, again, learning_rates[:step], key).state
    there = chunk.mask[step]
    rows, targets = chunk.rows[step][there], chunk.targets[step][there]
    largest = largest_of(rows)
    if targets.dtype.kind == "f":
        largest = max(largest, largest_of(targets))
    for name, weights in engine.network_layout.split(engine.network_of(state)).items():
        if not np.isfinite(weights).all():
            layer = name.split("/")[1]
            return Fault(step, layer, f"the update before it left no finite numbers in {layer}", largest)
    layer, found = _forward(engine.load(engine.network_of(state)), rows, float(losses[step]))
    return Fault(step, layer, found, largest)


def largest_of(values: NDArray[Any]) -> float:
    """Return the largest magnitude, without a copy; 0 for no values."""
    return float(max(values.max(initial=0), -values.min(initial=0)))


def _forward(network: keras.Model, rows: NDArray[Any], loss: float) -> tuple[str, str]:
    """Return the first layer whose answers are not finite, or the last one, and what was found there."""
    values: Any = rows
    largest = largest_of(rows)
    for layer in network.layers:
        normalizes = isinstance(layer, keras.layers.BatchNormalization)
        values = layer(values, training=True) if normalizes else layer(values)
        array = keras.ops.convert_to_numpy(values)
        if not np.isfinite(array).all():
            kind = "NaN" if np.isnan(array).any() else "infinite"
            return layer.name, f"{layer.name} gave {kind} activations (the largest before it was {largest:.3g})"
        largest = largest_of(array)
    return network.layers[-1].name, f"answers up to {largest:.3g} had a loss of {loss}"
