"""Predict: raw rows in, answers out."""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import InvalidRows, Violation
from service.inference.columns import MAX_VIOLATIONS, MAX_WARNINGS
from service.inference.rows import CheckedRows
from service.inference.sessions import CHUNK_ROWS
from service.tables.parallel import MAX_THREADS, in_parallel
from service.use_cases.serving import Served

PIECE_ROWS = CHUNK_ROWS // MAX_THREADS
"""Rows in one piece: those of all threads together are encoded at once, which takes memory."""
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
    """Run a network on rows, piece by piece, for categories make many columns of few cells; the pieces in threads.

    Raises:
        InvalidRows: a row has no finite answer.
    """
    served.used_at = time.monotonic()
    pieces = in_parallel(partial(_answer_piece, served, checked), range(0, checked.count, PIECE_ROWS))
    if checked.has_categories:
        served.guard.take_unseen(checked.count, checked.unseen)
    whole = np.concatenate([values for values, _ in pieces])
    check_finite(whole)
    warnings = (*served.guard.warnings, *checked.warnings, *(said for _, far in pieces for said in far))
    return Answer(whole, warnings[:MAX_WARNINGS])


def _answer_piece(served: Served, checked: CheckedRows, start: int) -> tuple[NDArray[np.floating], list[str]]:
    """Return what the network says to some rows, and which of them are far outside."""
    encoded = checked.encoded(start, start + PIECE_ROWS)
    values = served.network.run(encoded)
    served.guard.take(encoded)
    far = [] if served.guard.are_near(encoded) else served.guard.look_at(encoded, start)
    return values, far


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
