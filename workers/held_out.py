"""What is kept of the answers to held-out rows, so that somebody can draw how they fit."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from service.domain.diagnostics import HeldOut
from service.domain.models import Outputs

MOST_CLASSES = 100
"""A matrix of more classes can be neither drawn nor read."""
MOST_ROWS = 1000
"""So many truths and answers of a regression are kept, evenly chosen."""
DIGITS = 7
NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers to the rows of a part that was not trained on."""

    part: Literal["test", "validation"]
    truth: NDArray[Any]
    """Class indices, or numbers in the target's units, (rows,)."""
    answers: NDArray[np.floating]
    """Probabilities (rows, classes), or numbers in the target's units (rows, 1)."""
    weights: NDArray[Any]
    """How much each row counts in the metrics, (rows,)."""


def confusion_or_residuals(answered: Answered, outputs: Outputs) -> HeldOut | None:
    """Count classes against answers, or keep some truths beside their answers; None for very many classes."""
    if outputs.task == "regression":
        step = -(-len(answered.truth) // MOST_ROWS)
        truth, predicted = answered.truth[::step], answered.answers[::step, 0]
        return HeldOut(answered.part, truth=_rounded(truth), predicted=_rounded(predicted))
    if len(outputs.classes) > MOST_CLASSES:
        return None
    labels = np.arange(len(outputs.classes))
    counts = confusion_matrix(answered.truth, answered.answers.argmax(axis=1), labels=labels)
    names = tuple(str(label)[:NAME_LENGTH] for label in outputs.classes)
    return HeldOut(answered.part, classes=names, confusion=tuple(tuple(row) for row in counts.tolist()))


def _rounded(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values.tolist())
