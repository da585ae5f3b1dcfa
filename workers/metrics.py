"""Measure answers against what was true, exactly: scikit-learn's metrics."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as exact

from service.domain.jobs import Measure


def of_classes(
    truth: NDArray[np.int64], probabilities: NDArray[np.floating], weights: NDArray[Any] | None = None
) -> dict[str, Measure]:
    """Measure a classification exactly.

    ``truth`` holds class indices (rows,), ``probabilities`` is (rows, classes), ``weights`` says how much each row
    counts.
    """
    predicted = probabilities.argmax(axis=1)
    chosen = np.clip(probabilities[np.arange(len(truth)), truth].astype(np.float64), 1e-12, 1.0)
    measured = {
        "loss": float(np.average(-np.log(chosen), weights=weights)),
        "accuracy": float(exact.accuracy_score(truth, predicted, sample_weight=weights)),
        "f1": float(exact.f1_score(truth, predicted, average="macro", sample_weight=weights)),
    }
    if probabilities.shape[1] == 2:
        both = len(np.unique(truth)) == 2
        auc = exact.roc_auc_score(truth, probabilities[:, 1], sample_weight=weights) if both else math.nan
        measured["auc"] = float(auc)
    return named(measured)


def of_numbers(
    truth: NDArray[np.float64], predicted: NDArray[np.float64], scale: float, weights: NDArray[Any] | None = None
) -> dict[str, Measure]:
    """Measure a regression exactly, (rows,) each in the target's units; the loss is the standardized squared error."""
    measured = {
        "loss": float(np.average(((truth - predicted) / scale) ** 2, weights=weights)),
        "mae": float(exact.mean_absolute_error(truth, predicted, sample_weight=weights)),
        "rmse": float(exact.root_mean_squared_error(truth, predicted, sample_weight=weights)),
        "r2": float(exact.r2_score(truth, predicted, sample_weight=weights)) if len(truth) > 1 else math.nan,
    }
    return named(measured)


def named(values: dict[str, float]) -> dict[str, Measure]:
    """Make None of what is not finite, and say beside it which it was."""
    measured: dict[str, Measure] = {}
    for name, value in values.items():
        measured[name] = value if math.isfinite(value) else None
        if not math.isfinite(value):
            measured[f"{name}_not_finite"] = str(value)
    return measured
