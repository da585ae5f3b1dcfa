"""Raw cells of a column as encoders take them: by their different values, and which of them stand for a missing one."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Category = str | int | float | bool

FLOAT32_MAX = float(np.finfo(np.float32).max)
"""The largest number that a network takes."""
COLUMNS_ALIKE = 1024
"""So many different lists of words are kept as sets: a table's columns have one, and share its set."""


@dataclass(frozen=True, slots=True)
class Coded:
    """A column by its different cells: whatever holds for a cell has to be found out but once."""

    cells: Sequence[Category]
    codes: NDArray[np.int32]
    """Places in ``cells``, (rows,); -1 where the cell is missing."""

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, part: slice) -> "Coded":
        return Coded(self.cells, self.codes[part])

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Give every row what its cell stands for; ``values`` has one for each different cell, and one for a gap."""
        return values[self.codes]  # -1 is the place of the last one


RawColumn = NDArray[Any] | Coded
"""Raw cells, (rows,); those of categories may be coded."""


@lru_cache(COLUMNS_ALIKE)
def words_for_gaps(words: tuple[str, ...]) -> frozenset[str]:
    """Return all words that stand for a missing cell: these, and none at all."""
    return frozenset({"", *words})


@lru_cache(COLUMNS_ALIKE)
def numbers_among(words: tuple[str, ...]) -> frozenset[float]:
    """Return the numbers among the words that stand for a missing cell, such as -999."""
    found = set()
    for word in words:
        with suppress(ValueError):
            found.add(float(word))
    return frozenset(number for number in found if math.isfinite(number))
