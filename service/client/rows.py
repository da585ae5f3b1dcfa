"""Rows on their way to a model: as JSON, as a NumPy array or as an Arrow stream, and no more at once than it takes."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from service.client import frames
from service.client.requests import encoded

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
ARROW = "application/vnd.apache.arrow.stream"

MAX_ROWS = 100_000
MAX_CELLS = 8_000_000
MAX_BYTES = 48 * 2**20
"""What the service takes at once, with room for what stands beside the cells; more rows are sent in parts."""
MAX_JSON_BYTES = 7 * 2**20
"""The same for JSON, of which the service takes less unless its rows are numbers alone."""
FEW_CELLS = 10_000
"""So few numbers are as quick as JSON, and need no pyarrow to read their answer."""


@dataclass(frozen=True)
class Rows:
    """Rows that can be sent in parts; ``part`` gives those from one place to another, as their media type has them."""

    count: int
    media_type: str
    part: Callable[[int, int], bytes]
    """For JSON a list of rows."""
    stop: Callable[[int], int]
    """Where the part ends that begins at a place; at least one row behind it."""


def rows_of(source: Any, *, as_json: bool = False) -> Rows:
    """Return rows in the form that suits them: frames as Arrow, arrays of many numbers as they are, all else as JSON.

    Bytes are CSV with a line of names, which goes as it is, in one part.

    Raises:
        TypeError: it holds no rows, or cells that are neither numbers nor text nor dates.
        ValueError: it has another shape than rows have.
    """
    package = frames.package_of(source)
    if package == "numpy" and not source.dtype.names:
        return _of_array(source, as_json)
    if package is not None:
        table = frames.to_arrow(source)
        return _listed(table.to_pylist()) if as_json else _of_table(table)
    if isinstance(source, bytes) and not as_json:
        return Rows(1, CSV, lambda _start, _stop: source, lambda _start: 1)
    if isinstance(source, str | bytes) or not isinstance(source, Sequence):
        raise TypeError(
            f"rows must be a list of lists or of dicts, a DataFrame, an Arrow Table or an array of 2 dimensions; got "
            f"{type(source).__name__}. Put a single row into a list"
        )
    return _listed(source)


def _of_array(array: Any, as_json: bool) -> Rows:
    if array.ndim != 2:
        raise ValueError(
            f"rows must have 2 dimensions, (rows, columns); got the shape {array.shape}. "
            "A single row is array.reshape(1, -1)"
        )
    if as_json or array.dtype.kind not in "fiub" or array.size <= FEW_CELLS:
        return _listed(array.tolist())
    if array.dtype.itemsize > 8:
        array = array.astype(float)
    at_once = _at_once(len(array), array.shape[1], array.nbytes)
    return Rows(len(array), NPY, lambda start, stop: _as_npy(array[start:stop]), lambda start: start + at_once)


def _of_table(table: Any) -> Rows:
    at_once = _at_once(table.num_rows, table.num_columns, table.nbytes)
    return Rows(
        table.num_rows,
        ARROW,
        lambda start, stop: _as_stream(table.slice(start, stop - start)),
        lambda start: start + at_once,
    )


def _listed(rows: Sequence[Any]) -> Rows:
    written = [encoded(row) for row in rows]
    ends = list(accumulate((len(row) + 1 for row in written), initial=0))

    def stop(start: int) -> int:
        by_size = bisect_right(ends, ends[start] + MAX_JSON_BYTES) - 1
        return max(min(start + MAX_ROWS, by_size), start + 1)

    return Rows(len(rows), JSON, lambda start, stop: b"[%b]" % b",".join(written[start:stop]), stop)


def _at_once(rows: int, columns: int, size_bytes: int) -> int:
    """Return how many rows a part may have; at least one."""
    by_size = rows * MAX_BYTES // max(size_bytes, 1)
    return max(min(MAX_ROWS, MAX_CELLS // max(columns, 1), by_size), 1)


def _as_npy(array: Any) -> bytes:
    import numpy as np

    written = io.BytesIO()
    np.lib.format.write_array(written, array, allow_pickle=False)
    return written.getvalue()


def _as_stream(table: Any) -> bytes:
    import pyarrow as pa

    written = io.BytesIO()
    with pa.ipc.new_stream(written, table.schema) as stream:
        stream.write_table(table)
    return written.getvalue()
