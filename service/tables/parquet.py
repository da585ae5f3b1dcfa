"""Tables as Parquet bytes, the form in which they are stored."""

import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.domain.table import Table


def encode(table: pa.Table) -> bytes:
    """Write an Arrow table as Parquet."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def from_arrays(columns: dict[str, NDArray[Any]]) -> pa.Table:
    """Make an Arrow table of named arrays."""
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def decode(content: bytes) -> Table:
    """Read a stored table; gaps in numeric columns are NaN, in others None."""
    table = pq.read_table(pa.BufferReader(content))
    return Table({name: _array(table.column(name)) for name in table.column_names})


def read_rows(content: bytes, start: int, count: int) -> list[dict[str, Any]]:
    """Read some rows as objects by column name; values that JSON cannot hold become None."""
    rows = pq.read_table(pa.BufferReader(content)).slice(start, count).to_pylist()
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    array: NDArray[Any] = column.to_numpy()
    return array


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
