"""Read a Parquet file that somebody else has written: a part at a time, for its footer may say anything."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.domain.wording import shown
from service.tables.allowance import Allowance
from service.tables.cells import TypedColumn, TypedTable, Words, understood
from service.tables.dialect import check_names
from service.tables.parallel import in_parallel
from service.tables.refusals import refused
from service.tables.request import ImportRequest
from service.tables.signatures import seems_to_be

MAGIC = b"PAR1"
MAX_BATCH_ROWS = 65_536
BATCH_BYTES = 128 << 20
"""So much a batch of numbers takes at most."""
WHOLE_SECONDS = "%Y-%m-%dT%H:%M:%S"
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
"""From 0001-01-01 to 9999-12-31, in seconds since 1970."""

_READABLE = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_time,
    pa.types.is_null,
)

NO_THREAD = "Failed to launch worker thread"
"""What Arrow says where memory does not suffice for one more thread."""


def read(source: BinaryIO, request: ImportRequest, allowance: Allowance) -> TypedTable:
    """Read a Parquet file.

    Raises:
        InvalidTable: it is none, damaged, encrypted, or too large, or a column holds what is no cell; names the column.
    """
    _check_magic(source)
    try:
        names, columns = _columns(source, allowance)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if NO_THREAD in str(error):
            raise MemoryError from None
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise refused(f"cannot be read as Parquet; it may be damaged, cut off or encrypted: {reason}") from None
    words = Words(request.missing or ())

    def understand(place: int) -> TypedColumn:
        name = names[place]
        values, warnings = _plain(name, columns[place])
        columns[place] = None
        column = understood(name, values, words, request.kinds.get(name))
        return TypedColumn(name, column.values, column.distinct, column.missing_tokens, (*warnings, *column.warnings))

    return TypedTable(in_parallel(understand, range(len(names))), {})


def _check_magic(source: BinaryIO) -> None:
    source.seek(0)
    start = source.read(512)
    if not start:
        raise refused("is empty; send Parquet")
    if start.startswith(b"PARE"):
        raise refused("is encrypted Parquet; send it without encryption")
    if not start.startswith(MAGIC):
        seems = seems_to_be(start)
        raise refused(f"is not Parquet{f'; it seems to be {seems}' if seems else ', which begins with PAR1'}")


def _columns(source: BinaryIO, allowance: Allowance) -> tuple[tuple[str, ...], list[Any]]:
    """Return the names and, as far as they are allowed, the columns."""
    metadata = pq.read_metadata(source)
    schema = metadata.schema.to_arrow_schema()
    names = tuple(schema.names)
    if not names:
        raise refused("has no columns")
    check_names(names, allowance.max_columns)
    for field in schema:
        _check_type(field)
    if metadata.num_rows == 0:
        raise refused("has no rows")
    allowance.check_shape(metadata.num_rows, len(names))
    batches = list(_batches(source, schema, allowance))
    return names, list(pa.Table.from_batches(batches).columns)


def _check_type(field: pa.Field) -> None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if any(is_readable(kind) for is_readable in _READABLE):
        return
    advice = (
        "make columns of its parts" if pa.types.is_nested(kind) else "leave it out, or turn it into text or numbers"
    )
    raise refused(
        f"holds {shown(str(kind))} in column {shown(field.name)}; cells are numbers, text, true and false, dates and "
        f"times: {advice}"
    )


def _batches(source: BinaryIO, schema: pa.Schema, allowance: Allowance) -> Iterator[pa.RecordBatch]:
    """Read part by part, and stop where it grows beyond what is allowed: one page can decode to gigabytes."""
    texts = [field.name for field in schema if _is_text(field.type)]
    source.seek(0)
    file = pq.ParquetFile(source, read_dictionary=texts)
    batch_rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // (8 * len(schema))))
    rows = decoded_bytes = 0
    for batch in file.iter_batches(batch_rows):
        batch.validate(full=True)  # damaged dictionaries and text that is no UTF-8 are not noticed before
        rows += len(batch)
        decoded_bytes += sum(map(_decoded_bytes, batch.columns))
        allowance.check_shape(rows, len(schema))
        allowance.check_decoded(decoded_bytes)
        yield batch


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _decoded_bytes(array: pa.Array) -> int:
    """Return how many bytes the cells take, a text each time that it occurs."""
    if not pa.types.is_dictionary(array.type) or not _is_text(array.type.value_type):
        return int(array.nbytes)
    lengths = np.append(pc.binary_length(array.dictionary).to_numpy(zero_copy_only=False), 0)
    return int(lengths[array.indices.fill_null(-1).to_numpy()].sum()) + 4 * len(array)


def _plain(name: str, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, tuple[str, ...]]:
    """Turn a column into int64, float, bool or text; with what its owner should know."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if _is_text(kind.value_type):
            return column.cast(pa.dictionary(pa.int32(), pa.string())).unify_dictionaries(), ()
        return _plain(name, column.cast(kind.value_type))
    if pa.types.is_uint64(kind) and (pc.max(column).as_py() or 0) >= 2**63:
        return column.cast(pa.float64(), safe=False), ("integers beyond 64 bits with sign: rounded to float64",)
    if pa.types.is_integer(kind):
        return column.cast(pa.int64()), ()
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64(), safe=False), (f"{kind} numbers: taken as float64",)
    if pa.types.is_float16(kind):
        return column.cast(pa.float32()), ()
    if pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind):
        return _iso(name, column), ()
    return (column.cast(pa.string()) if pa.types.is_null(kind) or _is_text(kind) else column), ()


def _iso(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write dates and times as ISO 8601 text; moments of a time zone in UTC."""
    if pa.types.is_time(column.type):
        return pc.replace_substring_regex(column.cast(pa.string()), r"\.0+$", "")
    moments = column.cast(pa.timestamp("us"), safe=False) if pa.types.is_timestamp(column.type) else column
    seconds = moments.cast(pa.timestamp("s"), safe=False)
    bounds = pc.min_max(seconds.cast(pa.int64())).as_py()
    if bounds["min"] is not None and not FIRST_SECOND <= bounds["min"] <= bounds["max"] <= LAST_SECOND:
        raise refused(f"holds dates beyond the years 1 to 9999 in column {shown(name)}; mend them, or leave them empty")
    if pa.types.is_date(column.type):
        return column.cast(pa.date32()).cast(pa.string())
    if pc.all(pc.equal(seconds.cast(pa.timestamp("us")), moments)).as_py() is not False:
        moments = seconds
    return pc.binary_join_element_wise(pc.strftime(moments, WHOLE_SECONDS), "Z" if column.type.tz else "", "")
