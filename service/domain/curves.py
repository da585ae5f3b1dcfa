"""Some metrics of a training over its epochs, as arrays: what is left of epochs of which there may be very many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_EPOCHS = 4000
"""Of a training, many more than a picture is wide."""
MOST_TOGETHER = 100_000
"""Of all trainings in one picture; they take about a second to read."""
FEWEST_EPOCHS = 500


@dataclass(frozen=True, slots=True)
class Curves:
    """Some metrics of one training."""

    epochs: NDArray[np.int64]
    """Which epochs these are, from 1, ascending."""
    values: Mapping[str, NDArray[np.float64]]
    """By metric, a value for each of them; NaN where it is not finite, or missing."""


def stride(lengths: Sequence[int]) -> int:
    """Return to take every how many-th epoch of trainings with so many epochs each; 1 where there are not too many."""
    if not lengths:
        return 1
    most = max(FEWEST_EPOCHS, min(MOST_EPOCHS, MOST_TOGETHER // len(lengths)))
    return -(-max(lengths) // most)
