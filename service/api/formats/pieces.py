"""Answers in pieces, so that a large one is never in memory as a whole in another form."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.formats.limits import PIECE_CELLS, PIECE_ROWS

Values = NDArray[np.floating[Any]]


def piece_rows(values: Values) -> int:
    """Return how many rows of values, (rows,) or (rows, columns), make a piece."""
    width = values.shape[1] if values.ndim == 2 else 1
    return max(1, min(PIECE_ROWS, PIECE_CELLS // width))


def pieces(values: Values) -> Iterator[Values]:
    """Cut values into pieces of rows."""
    step = piece_rows(values)
    for start in range(0, len(values), step):
        yield values[start : start + step]
