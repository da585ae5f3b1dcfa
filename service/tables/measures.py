"""Measure columns: moments, quantiles, histograms, frequent values. Numbers are sorted once, and all is read off."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.datasets import Cell, Histogram

BINS = 20
MAX_TOP = 20
EXAMPLES = 3
MAX_CELL_LENGTH = 64
"""So many characters of a text are shown as an example or as a frequent value."""
QUANTILES = {"p1": 0.01, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}

_LOOKED_AT_FIRST = 100


@dataclass(frozen=True, slots=True)
class NumberMeasures:
    """What was measured on numbers."""

    unique: int
    mean: float
    std: float
    """Of all the numbers, not estimated for others: the sum is divided by their count."""
    min: float
    max: float
    quantiles: dict[str, float]
    histogram: Histogram
    top: tuple[tuple[Cell, int], ...]
    """Empty where more than 20 different numbers occur."""
    examples: tuple[Cell, ...]


def measure(values: NDArray[Any]) -> NumberMeasures:
    """Measure numbers: int64 or float64 (given cells,), at least one, none NaN."""
    ordered = np.sort(values)
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    top = _counted(ordered, begins) if len(begins) <= MAX_TOP else ()
    return NumberMeasures(
        unique=len(begins),
        mean=float(values.mean()),
        std=float(values.std()) if len(begins) > 1 else 0.0,
        min=ordered[0].item(),
        max=ordered[-1].item(),
        quantiles=_quantiles(ordered),
        histogram=_histogram(ordered),
        top=top,
        examples=tuple(_first_different(values, min(EXAMPLES, len(begins)))),
    )


def histogram(values: NDArray[np.float64], counts: NDArray[np.int64]) -> Histogram:
    """Count values, float64 (different values,), that each occur some times, in 20 equal bins."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    found, edges = np.histogram(values, BINS, (low, high), weights=counts)
    return Histogram(tuple(edges.tolist()), tuple(found.astype(np.int64).tolist()))


def most_frequent(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of the greatest counts, at most 20, greatest first and of equals the first."""
    least = np.partition(counts, -MAX_TOP)[-MAX_TOP] if len(counts) > MAX_TOP else 0
    places = np.flatnonzero(counts >= least)
    return places[np.argsort(-counts[places], kind="stable")[:MAX_TOP]]


def shortened(cell: str) -> str:
    """Return a text as an example shows it."""
    return cell[:MAX_CELL_LENGTH]


def _counted(ordered: NDArray[Any], begins: NDArray[np.int64]) -> tuple[tuple[Cell, int], ...]:
    counts = np.diff(begins, append=len(ordered))
    places = most_frequent(counts)
    return tuple(zip(ordered[begins[places]].tolist(), counts[places].tolist(), strict=True))


def _quantiles(ordered: NDArray[Any]) -> dict[str, float]:
    """Read quantiles off, with straight lines between neighbours, as numpy and pandas do."""
    places = np.array(list(QUANTILES.values())) * (len(ordered) - 1)
    below = np.floor(places).astype(np.int64)
    low, high = ordered[below].astype(np.float64), ordered[np.ceil(places).astype(np.int64)].astype(np.float64)
    return dict(zip(QUANTILES, (low + (high - low) * (places - below)).tolist(), strict=True))


def _histogram(ordered: NDArray[Any]) -> Histogram:
    low, high = ordered[0].item(), ordered[-1].item()
    if isinstance(low, int) and high - low < BINS:
        edges = np.arange(low, high + 2) - 0.5  # a bin for each whole number
    elif low == high:
        edges = np.array([low - 0.5, high + 0.5])
    else:
        edges = np.linspace(low, high, BINS + 1)
    inner = np.searchsorted(ordered, edges[1:-1], side="left")
    counts = np.diff(np.concatenate([[0], inner, [len(ordered)]]))
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))


def _first_different(values: NDArray[Any], count: int) -> list[Any]:
    """Return the first numbers that differ from each other; ``count`` of them there are."""
    found = list(dict.fromkeys(values[:_LOOKED_AT_FIRST].tolist()))[:count]
    while len(found) < count:
        values = values[values != found[-1]] if len(found) == 1 else values[~np.isin(values, found)]
        found.append(values[0].item())
    return found
