"""What is measured while a network trains: Keras' metrics, batch by batch."""

from typing import Any

import keras

from service.domain.jobs import Measure
from service.domain.spec import Task
from workers.metrics import named

ROUNDING = 1e-6
"""A sum of squared deviations below this part of the sum of squares is rounding in float32."""
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


class R2(keras.metrics.R2Score):  # type: ignore[misc]  # Keras ships no types
    """R2 that is NaN where the targets do not vary: Keras' sums in one pass leave rounding there, and divide by it."""

    def result(self) -> Any:
        """Return what the rows so far come to."""
        deviations = self.squared_sum - self.sum * self.sum / self.count
        has_variance = keras.ops.any(deviations > ROUNDING * self.squared_sum)
        return keras.ops.where(has_variance, super().result(), float("nan"))


def while_training(task: Task, classes: int) -> list[keras.metrics.Metric]:
    """Return the Keras metrics of a task; the loss is measured anyway."""
    if task == "regression":
        return [
            keras.metrics.MeanAbsoluteError(name="mae"),
            keras.metrics.RootMeanSquaredError(name="rmse"),
            R2(name="r2"),
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
    return named(values)
