"""Predict: raw rows in, answers out."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import InvalidRows, Violation
from service.inference.columns import MAX_VIOLATIONS, MAX_WARNINGS
from service.inference.rows import CheckedRows
from service.inference.sessions import CHUNK_ROWS
from service.use_cases.serving import Served

MAX_PROBABILITIES = 2_000_000
"""More of them in one answer would take hundreds of megabytes on their way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network said to rows, in their order."""

    values: NDArray[np.floating]
    """Probabilities, float32 (rows, classes), or predictions in the target's units, float64 (rows, 1)."""
    warnings: tuple[str, ...] = ()
    """What was odd about the rows, such as a category that training did not see."""


def answer(served: Served, checked: CheckedRows) -> Answer:
    """Run a network on rows, piece by piece, for categories make many columns of few cells.

    Raises:
        InvalidRows: a row has no finite answer.
    """
    served.used_at = time.monotonic()
    values, far = [], []
    for start in range(0, checked.count, CHUNK_ROWS):
        encoded = checked.encoded(start, start + CHUNK_ROWS)
        values.append(served.network.run(encoded))
        served.guard.take(encoded)
        if not served.guard.are_near(encoded):
            far += served.guard.look_at(encoded, start)
    if checked.has_categories:
        served.guard.take_unseen(checked.count, checked.unseen)
    whole = np.concatenate(values)
    check_finite(whole)
    warnings = (*served.guard.warnings, *checked.warnings, *far)
    return Answer(whole, warnings[:MAX_WARNINGS])


def check_size(served: Served, count: int) -> None:
    """Refuse rows whose probabilities would fill the memory.

    Raises:
        InvalidRows: there are too many.
    """
    classes = len(served.version.outputs.classes)
    if count * classes > MAX_PROBABILITIES:
        most = MAX_PROBABILITIES // classes
        detail = (
            f"has {count:,} rows; with {classes:,} classes, at most {most:,} are answered at once. Send them in parts"
        )
        raise InvalidRows([Violation("#/instances", detail)])


def check_finite(values: NDArray[np.floating]) -> None:
    """Refuse rows whose answer is no number: values so far from the training rows that float32 overflows inside.

    Raises:
        InvalidRows: names the rows.
    """
    lost = np.flatnonzero(~np.isfinite(values).all(axis=1))[:MAX_VIOLATIONS]
    if len(lost):
        detail = "row {0} has values too far from those that the model was trained on; it has no answer for them"
        raise InvalidRows([Violation(f"#/instances/{row}", detail.format(row)) for row in lost])
