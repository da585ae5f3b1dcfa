"""Tables as Parquet, the form in which they are stored."""

import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.domain.table import Table

MAX_GROUP_ROWS = 65_536
MAX_CHUNKS = 100_000
"""Each column of each group of rows costs 100 bytes in the footer, which every reader reads."""
SAMPLED_GROUPS = 4
"""From so many groups of rows a sample is taken."""
GROUP_BYTES = 16 << 20
"""What a column of a decoded group should take at most, and a page of rows."""


def encode(table: pa.Table) -> bytes:
    """Write an Arrow table as Parquet."""
    buffer = io.BytesIO()
    write(table, buffer)
    return buffer.getvalue()


def write(table: pa.Table, output: BinaryIO) -> tuple[str, int]:
    """Write an Arrow table as Parquet, equal tables as equal bytes; return their sha256 and how many they are."""
    hashed = HashedFile(output)
    pq.write_table(
        table,
        hashed,
        row_group_size=_group_rows(table),
        # The bytes of floats lie sorted by their place in the number: as small as with zstd, in half the time.
        compression="lz4",
        use_byte_stream_split=[field.name for field in table.schema if pa.types.is_floating(field.type)],
        use_dictionary=[field.name for field in table.schema if pa.types.is_dictionary(field.type)],
        write_statistics=False,
    )
    output.flush()
    return hashed.sha256.hexdigest(), hashed.size_bytes


def from_arrays(columns: dict[str, NDArray[Any]]) -> pa.Table:
    """Make an Arrow table of named arrays."""
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def decode(content: bytes, columns: Sequence[str] | None = None) -> Table:
    """Read a stored table, or some of its columns in the order in which they are named.

    Gaps are NaN in columns of numbers, None in others. Equal texts of a column are one object.
    """
    file = open_table(pa.BufferReader(content))
    names = file.schema_arrow.names if columns is None else list(columns)
    # A column called "a" would bring along one called "a.b": to Parquet that is a part of it.
    table = file.read(names)
    return Table({name: _array(table.column(name)) for name in names})


def read_rows(source: BinaryIO | bytes, start: int, count: int) -> list[dict[str, Any]]:
    """Read some rows as objects by column name; values that JSON cannot hold become None.

    Rows of very long texts are fewer than asked for, but at least one. Only the groups that hold them are decoded, of
    wide tables some columns at a time.
    """
    file = open_table(pa.BufferReader(source) if isinstance(source, bytes) else source)
    names = file.schema_arrow.names
    cells: dict[str, list[pa.ChunkedArray]] = {name: [] for name in names}
    lengths = np.zeros(max(0, min(count, file.metadata.num_rows - start)), np.int64)
    done = 0
    for group, offset, length in _parts(file.metadata, start, count):
        for some in _columns_at_once(file.metadata.row_group(group), names, names):
            table = file.read_row_group(group, some, use_threads=False)
            for name in some:
                # Taken out, for a slice would keep the whole group in memory.
                part = table.column(name).take(np.arange(offset, offset + length))
                cells[name].append(part)
                lengths[done : done + length] += _text_lengths(part)
        done += length
    fitting = max(1, int(np.searchsorted(np.cumsum(lengths), GROUP_BYTES, side="right")))
    columns = [[value for part in cells[name] for value in part.to_pylist()][:fitting] for name in names]
    return [{name: _plain(value) for name, value in zip(names, row, strict=True)} for row in zip(*columns, strict=True)]


def sample(source: BinaryIO, names: Sequence[str], rows: int) -> Table:
    """Read so many rows, or all where there are fewer, spread evenly over a table; some columns of it.

    Of a large table only some groups are decoded. Gaps are as in ``decode``.
    """
    file = open_table(source)
    groups = file.metadata.num_row_groups
    chosen = sorted({round(place) for place in np.linspace(0, groups - 1, min(groups, SAMPLED_GROUPS))})
    cells: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for group in chosen:
        length = file.metadata.row_group(group).num_rows
        places = np.linspace(0, length - 1, min(length, -(-rows // len(chosen)))).astype(np.int64)
        for some in _columns_at_once(file.metadata.row_group(group), list(names), file.schema_arrow.names):
            table = file.read_row_group(group, some, use_threads=False)
            for name in some:
                cells[name].append(_array(table.column(name).take(places)))
    return Table({name: np.concatenate(cells[name])[:rows] for name in names})


def _columns_at_once(group: Any, names: list[str], all_names: list[str]) -> Iterator[list[str]]:
    """Divide columns so that those decoded together take no more than a group should."""
    places = {name: place for place, name in enumerate(all_names)}
    some: list[str] = []
    taken = 0
    for name in names:
        size = max(group.column(places[name]).total_uncompressed_size, 8 * group.num_rows)
        if some and taken + size > GROUP_BYTES:
            yield some
            some, taken = [], 0
        some.append(name)
        taken += size
    yield some


def _text_lengths(part: pa.ChunkedArray) -> Any:
    """Return the bytes of every cell of text, (rows,); 0 for other columns."""
    if not (pa.types.is_dictionary(part.type) or pa.types.is_string(part.type)):
        return 0
    return pc.binary_length(part.cast(pa.string())).fill_null(0).to_numpy()


def open_table(source: Any) -> pq.ParquetFile:
    """Open a stored table, or a result, so that its texts come as dictionaries."""
    file = pq.ParquetFile(source)
    texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
    return pq.ParquetFile(source, metadata=file.metadata, read_dictionary=texts) if texts else file


def read_columns(file: BinaryIO, names: Sequence[str]) -> pa.Table:
    """Read some columns of a stored table, or of a result, in this order; texts come as dictionaries."""
    # A column called "a" brings along one called "a.b": to Parquet that is a part of it.
    return open_table(file).read(list(names)).select(list(names))


def _parts(metadata: Any, start: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Say which groups hold the rows: the group, where in it they begin, and how many they are."""
    first = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        begin, end = max(start, first), min(start + count, first + rows)
        if begin < end:
            yield group, begin - first, end - begin
        first += rows


def _group_rows(table: pa.Table) -> int:
    """Return how many rows make a group: few where a column is heavy, and not so few that the footer is."""
    rows: int = max(1, table.num_rows)
    heaviest = max((_decoded_bytes(column) for column in table.columns), default=0)
    fewest: int = -(-rows * table.num_columns // MAX_CHUNKS)
    fitting = min(MAX_GROUP_ROWS, GROUP_BYTES * rows // max(1, heaviest))
    return max(1, fewest, fitting)


def _decoded_bytes(column: pa.ChunkedArray) -> int:
    """Return what a column takes in memory when its texts are written out."""
    if not pa.types.is_dictionary(column.type) or not len(column):
        return int(column.nbytes)
    lengths = pc.binary_length(column.chunk(0).dictionary).to_numpy()
    return sum(int(lengths[chunk.indices.drop_null().to_numpy()].sum()) for chunk in column.chunks)


class HashedFile(io.RawIOBase):
    """Passes on what is written, and knows its hash and size."""

    def __init__(self, output: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._output = output

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def write(self, content: Any) -> int:
        """Write all of it."""
        self.sha256.update(content)
        self.size_bytes += len(content)
        return int(self._output.write(content))


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    if not pa.types.is_dictionary(column.type):
        array = np.asarray(column.to_numpy())
        if pa.types.is_integer(column.type) and column.null_count and np.nanmax(np.abs(array), initial=0) >= 2**53:
            return np.array(column.to_pylist(), object)  # float64, which holds gaps, would make others of them
        return array
    parts = column.unify_dictionaries().chunks
    cells = np.array([*(parts[-1].dictionary.to_pylist() if parts else ()), None], object)
    codes = [np.empty(0, np.int32), *(part.indices.fill_null(-1).to_numpy() for part in parts)]
    return np.asarray(cells[np.concatenate(codes)])


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
