"""Tables some rows at a time: what a model takes of them, and what is copied as it lies there."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.domain.cells import Coded
from service.domain.table import Table
from service.tables import parquet

RecordBatch = pa.RecordBatch
"""Some rows, by column, as Arrow has them."""
EXACT = 2**53
"""Integers from here on are not all held by float64."""


def stored(file: BinaryIO, columns: Sequence[str], batch_rows: int, start: int = 0) -> Iterator[pa.RecordBatch]:
    """Read some columns of a stored table from row ``start`` on, at most so many rows at a time.

    Wherever one starts that is the end of a batch, the batches that follow are the same.
    """
    opened = parquet.open_table(file)
    end = 0
    for group in range(opened.metadata.num_row_groups):
        first, end = end, end + opened.metadata.row_group(group).num_rows
        if end <= start:
            continue
        for batch in opened.iter_batches(batch_rows, row_groups=[group], columns=list(columns)):
            done = max(0, start - first)
            first += len(batch)
            if done < len(batch):
                # A column called "a" brings along one called "a.b": to Parquet that is a part of it.
                yield batch.select(list(columns)).slice(done)


def of_table(table: Table, columns: Sequence[str], batch_rows: int, start: int = 0) -> Iterator[pa.RecordBatch]:
    """Give the same of a table in memory."""
    for first in range(start, table.rows, batch_rows):
        cells = {name: pa.array(table.columns[name][first : first + batch_rows]) for name in columns}
        yield pa.RecordBatch.from_pydict(cells)


def cells_of(batch: pa.RecordBatch, names: Sequence[str]) -> dict[str, NDArray[Any] | Coded]:
    """Return columns as a model takes them: texts by their different values, NaN or None for missing numbers."""
    return {name: _cells(batch.column(name)) for name in names}


def _cells(column: pa.Array) -> NDArray[Any] | Coded:
    kind = column.type
    if pa.types.is_null(kind):
        return Coded((), np.full(len(column), -1, np.int32))
    if pa.types.is_string(kind):
        column = column.dictionary_encode()
    if pa.types.is_dictionary(column.type):
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return Coded(column.dictionary.to_pylist(), codes.astype(np.int32, copy=False))
    if column.null_count and pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    if column.null_count and pa.types.is_integer(kind) and not _is_exact(column):
        return np.array(column.to_pylist(), object)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _is_exact(integers: pa.Array) -> bool:
    """Whether float64, which holds gaps, holds all of these, too."""
    bounds = pc.min_max(integers).as_py()
    return bounds["min"] is None or -EXACT < bounds["min"] <= bounds["max"] < EXACT
