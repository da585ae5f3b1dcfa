"""What is measured: Keras metrics while training, scikit-learn's exact ones at the end."""

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as exact

from service.domain.jobs import Measure
from service.domain.spec import Task

IN_TARGET_UNITS = ("mae", "rmse")
"""Metrics of a regression that grow with the target's scale; the loss stays what was minimized."""


class MacroF1(keras.metrics.F1Score):  # type: ignore[misc]  # Keras ships no types
    """Macro F1 of class indices (rows,) against logits (rows, classes)."""

    def __init__(self, classes: int, name: str = "f1") -> None:
        self.classes = classes
        super().__init__(average="macro", name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch."""
        labels = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), self.classes)
        super().update_state(labels, y_pred, sample_weight)


class TwoClassAuc(keras.metrics.AUC):  # type: ignore[misc]  # Keras ships no types
    """Area under the ROC curve of class indices (rows,) against the logits (rows, 2) of two classes."""

    def __init__(self, name: str = "auc") -> None:
        super().__init__(from_logits=True, name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch; the difference of two logits is the logit of the second class."""
        super().update_state(keras.ops.reshape(y_true, (-1, 1)), y_pred[:, 1:2] - y_pred[:, 0:1], sample_weight)


def while_training(task: Task, classes: int) -> list[keras.metrics.Metric]:
    """Return the Keras metrics of a task; the loss is measured anyway."""
    if task == "regression":
        return [
            keras.metrics.MeanAbsoluteError(name="mae"),
            keras.metrics.RootMeanSquaredError(name="rmse"),
            keras.metrics.R2Score(name="r2"),
        ]
    chosen = [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), MacroF1(classes)]
    return [*chosen, TwoClassAuc()] if classes == 2 else chosen


def in_target_units(logs: dict[str, Any], scale: float) -> dict[str, Measure]:
    """Return an epoch's metrics as stored: errors in the target's units; what is not finite is named beside."""
    values = {name: float(value) for name, value in logs.items()}
    for name in IN_TARGET_UNITS:
        for key in (name, f"val_{name}"):
            if key in values:
                values[key] *= scale
    return _named(values)


def _named(values: dict[str, float]) -> dict[str, Measure]:
    """Make None of what is not finite, and say beside it which it was."""
    measured: dict[str, Measure] = {}
    for name, value in values.items():
        measured[name] = value if math.isfinite(value) else None
        if not math.isfinite(value):
            measured[f"{name}_not_finite"] = str(value)
    return measured


def of_classes(truth: NDArray[np.int64], probabilities: NDArray[np.floating]) -> dict[str, Measure]:
    """Measure a classification exactly: ``truth`` holds class indices (rows,), ``probabilities`` is (rows, classes)."""
    predicted = probabilities.argmax(axis=1)
    chosen = np.clip(probabilities[np.arange(len(truth)), truth].astype(np.float64), 1e-12, 1.0)
    measured = {
        "loss": float(-np.log(chosen).mean()),
        "accuracy": float(exact.accuracy_score(truth, predicted)),
        "f1": float(exact.f1_score(truth, predicted, average="macro")),
    }
    if probabilities.shape[1] == 2:
        both = len(np.unique(truth)) == 2
        measured["auc"] = float(exact.roc_auc_score(truth, probabilities[:, 1])) if both else math.nan
    return _named(measured)


def of_numbers(truth: NDArray[np.float64], predicted: NDArray[np.float64], scale: float) -> dict[str, Measure]:
    """Measure a regression exactly, (rows,) each in the target's units; the loss is the standardized squared error."""
    measured = {
        "loss": float(np.mean(((truth - predicted) / scale) ** 2)),
        "mae": float(exact.mean_absolute_error(truth, predicted)),
        "rmse": float(exact.root_mean_squared_error(truth, predicted)),
        "r2": float(exact.r2_score(truth, predicted)) if len(truth) > 1 else math.nan,
    }
    return _named(measured)
