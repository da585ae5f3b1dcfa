"""A column of text by its different cells: whatever holds for a cell needs to be found out once for each."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

MAX_DICTIONARY = 4_096
"""Parquet writes the whole dictionary of a column into every group of rows: with a million cells it takes seconds."""
CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Distinct:
    """The different cells of a column of text in order of appearance, and which of them each row holds."""

    cells: pa.Array
    codes: NDArray[np.int32]
    """Positions in ``cells``, (rows,); -1 where the cell is missing."""
    counts: NDArray[np.int64]
    """How many rows hold each."""

    @classmethod
    def of(cls, text: pa.ChunkedArray) -> "Distinct":
        """Look through a column of strings, or of a dictionary of them that all chunks share."""
        if not len(text):
            return cls(pa.array([], pa.string()), np.empty(0, np.int32), np.empty(0, np.int64))
        is_foreign = pa.types.is_dictionary(text.type)
        chunks = text.chunks if is_foreign else text.dictionary_encode().chunks
        cells = chunks[-1].dictionary
        codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy() for chunk in chunks]).astype(
            np.int32, copy=False
        )
        if is_foreign:
            cells, codes = _in_order_of_appearance(cells, codes)
        return cls(cells, codes, np.bincount(codes[codes >= 0], minlength=len(cells)))

    @property
    def given(self) -> int:
        """How many rows hold a cell."""
        return int(self.counts.sum())

    def without(self, missing: Mask) -> "Distinct":
        """Leave out cells, (different cells,), that stand for missing ones."""
        if not missing.any():
            return self
        places = np.where(missing, -1, np.cumsum(~missing) - 1).astype(np.int32)
        codes = np.where(self.codes < 0, np.int32(-1), places[self.codes])
        return Distinct(self.cells.filter(pa.array(~missing)), codes, self.counts[~missing])

    def first_row(self, chosen: Mask) -> tuple[int, str]:
        """Return the first row, from 1, that holds one of the chosen cells, and the cell."""
        row = int(np.argmax(chosen[self.codes] & (self.codes >= 0)))
        return row + 1, self.cells[int(self.codes[row])].as_py()

    def to_arrow(self) -> pa.ChunkedArray:
        """Return the column as a dictionary of strings where that is small, else as strings."""
        indices = pa.array(self.codes, mask=self.codes < 0)
        if len(self.cells) <= MAX_DICTIONARY:
            return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, self.cells)])
        parts = [self.cells.take(indices.slice(start, CHUNK_ROWS)) for start in range(0, len(indices), CHUNK_ROWS)]
        return pa.chunked_array(parts)

    def take(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return a column of what each cell stands for; ``values`` has one for each different cell."""
        return values.take(pa.array(self.codes, mask=self.codes < 0))


def _in_order_of_appearance(cells: pa.Array, codes: NDArray[np.int32]) -> tuple[pa.Array, NDArray[np.int32]]:
    """Put the cells of a dictionary that somebody else made in order; leave out those that repeat or do not occur."""
    once = cells.dictionary_encode()
    codes = np.append(once.indices.fill_null(-1).to_numpy(), -1)[codes]
    first = np.full(len(once.dictionary), len(codes))
    given = np.flatnonzero(codes >= 0)[::-1]
    first[codes[given]] = given  # of several rows, the last that is written stays: the first
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(codes))]
    places = np.full(len(first) + 1, -1, np.int32)
    places[order] = np.arange(len(order))
    return once.dictionary.take(pa.array(order)), places[codes]
