"""A table in memory: named columns of equal length."""

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

    def matrix(self, names: Sequence[str]) -> NDArray[Any]:
        """Return numeric columns side by side: (rows, columns), float32 where every column is, else float64."""
        chosen = [self.columns[name] for name in names]
        kind = np.float32 if all(column.dtype == np.float32 for column in chosen) else np.float64
        matrix = np.empty((self.rows, len(chosen)), kind)
        for position, column in enumerate(chosen):
            matrix[:, position] = column
        return matrix

    def objects(self) -> list[dict[str, Any]]:
        """Return the rows as objects by column name."""
        part = {name: column.tolist() for name, column in self.columns.items()}
        return [dict(zip(part, values, strict=True)) for values in zip(*part.values(), strict=True)]
