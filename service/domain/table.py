"""A table in memory: named columns of equal length."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Table:
    """Named columns, each an array of shape (rows,): float, integer and boolean columns as such, text as objects."""

    columns: Mapping[str, NDArray[Any]]

    @property
    def rows(self) -> int:
        """How many rows the table has."""
        return len(next(iter(self.columns.values()), ()))

    def part(self, rows: NDArray[np.int64], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return some rows of some columns."""
        return {name: self.columns[name][rows] for name in names}

    def objects(self) -> list[dict[str, Any]]:
        """Return the rows as objects by column name, None where a cell is missing."""
        part = {name: _plain(column) for name, column in self.columns.items()}
        return [dict(zip(part, values, strict=True)) for values in zip(*part.values(), strict=True)]


def _plain(column: NDArray[Any]) -> list[Any]:
    """Return Python values; what is no number is None."""
    if column.dtype.kind != "f":
        values: list[Any] = column.tolist()
        return values
    return [value if math.isfinite(value) else None for value in column.tolist()]
