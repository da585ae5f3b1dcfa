"""Measure how far a network's answers to rows that it was not trained on can be believed."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""As in Guo et al. 2017, section 5."""
SMALLEST_PROBABILITY = 1e-12
"""A probability of 0 for what was true would make the log loss infinite; the metric ``loss`` takes the same."""
SHARES = (0.5, 0.8, 0.9, 0.95)

Calibration = dict[str, Any]


def of_classes(
    truth: NDArray[np.int64], probabilities: NDArray[np.floating], weights: NDArray[Any] | None = None
) -> Calibration:
    """Hold probabilities against what came true.

    ``truth`` holds class indices (rows,), ``probabilities`` is (rows, classes), ``weights`` says how much each row
    counts. The confidence of a row is its greatest probability. The expected calibration error is the mean distance
    between confidence and accuracy over 15 bins of equal width (Guo et al. 2017, equation 3); the Brier score is the
    squared distance to the truth, summed over all classes, so it lies in 0..2 (Brier 1950).
    """
    probabilities = probabilities.astype(np.float64)
    counts = np.ones(len(truth)) if weights is None else weights.astype(np.float64)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    bins = np.digitize(confidence, np.arange(1, BINS) / BINS, right=True)
    table = [_bin(number, bins == number, confidence, correct, counts) for number in range(BINS)]
    gaps = [abs(row["confidence"] - row["accuracy"]) * counts[bins == row["bin"]].sum() for row in table if row["rows"]]
    chosen = probabilities[np.arange(len(truth)), truth]
    # (p - 1)^2 for the true class in place of p^2
    distances = (probabilities**2).sum(axis=1) - 2.0 * chosen + 1.0
    losses = -np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0))
    return _finite(
        {
            "rows": len(truth),
            "expected_calibration_error": sum(gaps) / counts.sum(),
            "brier": np.average(distances, weights=counts),
            "log_loss": np.average(losses, weights=counts),
            "bins": table,
        }
    )


def of_numbers(
    truth: NDArray[np.float64], predicted: NDArray[np.float64], scale: float, weights: NDArray[Any] | None = None
) -> Calibration:
    """Describe the residuals, truth minus prediction, (rows,) each in the target's units.

    ``within_one_std`` and ``within_two_std`` say which share of the rows lies so close to its prediction, 0.68 and 0.95
    where residuals are normal without bias; ``absolute_residual`` how far off at most a share of the rows is. ``scale``
    is the target's standard deviation, ``weights`` says how much each row counts.
    """
    counts = np.ones(len(truth)) if weights is None else weights.astype(np.float64)
    residuals = (truth - predicted) / scale  # so that squares do not overflow
    mean = float(np.average(residuals, weights=counts))
    deviation = math.sqrt(np.average((residuals - mean) ** 2, weights=counts))
    sizes = np.abs(residuals)
    one, two = (np.average(sizes <= number * deviation, weights=counts) for number in (1, 2))
    most = np.quantile(sizes, SHARES, weights=counts, method="inverted_cdf") * scale
    return _finite(
        {
            "rows": len(truth),
            "mean_residual": mean * scale,
            "residual_std": deviation * scale,
            "within_one_std": one,
            "within_two_std": two,
            "absolute_residual": [
                {"share": share, "at_most": value} for share, value in zip(SHARES, most.tolist(), strict=True)
            ],
        }
    )


def _bin(
    number: int,
    inside: NDArray[np.bool_],
    confidence: NDArray[np.float64],
    correct: NDArray[np.bool_],
    counts: NDArray[np.float64],
) -> dict[str, Any]:
    """Return a row of the reliability table; the bin is open at its lower end and closed at its upper one."""
    has_any = bool(counts[inside].sum() > 0)
    means = [
        np.average(values[inside], weights=counts[inside]) if has_any else None for values in (confidence, correct)
    ]
    edges = {"above": number / BINS, "to": (number + 1) / BINS}
    rows = int(inside.sum()) if has_any else 0
    return {"bin": number, **edges, "rows": rows, "confidence": means[0], "accuracy": means[1]}


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values as JSON has them; None for what is not finite."""
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _finite(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None
