"""Arrow IPC streams, in and out; imports pyarrow, so it is imported by the first request that needs it."""

import io
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.api.formats import arrow_claims, limits
from service.api.formats.lines import PROBABILITY, label_text
from service.api.formats.pieces import pieces
from service.api.formats.tables import Chosen, CodedColumn, NumberColumn, TextAllowance, check, choose
from service.domain.encoders import Category
from service.domain.errors import InvalidRows, MalformedRequest, Violation
from service.domain.wording import shown
from service.inference.rows import CheckedRows
from service.use_cases.predict import Answer
from service.use_cases.serving import Served

WANTED = "an Arrow IPC stream, as pyarrow.ipc.new_stream or DataFrame.write_ipc_stream write it"
FILE_MAGIC = b"ARROW1"
MAX_READ_BYTES = 2**30
"""The buffers of all batches together: one that a stream shares between them counts each time, for so it is read."""
PIECE_ROWS = 1024
"""So many rows are turned from columns at once: what is read and what is written then stay near the processor."""
CELLS = "cells are numbers, text, true and false, dates and times"

_FAULTS = (pa.ArrowException, OSError, struct.error, UnicodeDecodeError)
"""What pyarrow and the walk through the messages raise for bytes that are no stream."""


def read(body: bytes | bytearray, served: Served) -> CheckedRows:
    """Read the batches of a stream, whose columns may have any order; null and NaN are gaps.

    Raises:
        MalformedRequest: it is no such stream, or is cut off.
        InvalidRows: it decodes to too much, or the model cannot take its columns or rows.
    """
    if not body:
        raise limits.empty(WANTED)
    if body.startswith(FILE_MAGIC):
        raise MalformedRequest(f"the body is an Arrow file, not a stream; send {WANTED}")
    buffer = pa.py_buffer(body)
    try:
        claims = arrow_claims.add_up(pa.BufferReader(buffer))
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_stream(buffer, options=options) as stream:
            chosen = choose(stream.schema.names, served)
            limits.check_shape(claims.rows, len(stream.schema))
            types = stream.schema.types  # a new list each time
            kinds = {name: types[place] for name, place in chosen.places.items()}
            if served.takes_numbers and all(map(_is_plain, kinds.values())):
                return chosen.noted(served.reader.check_matrix(_matrix(stream, claims.rows, served, chosen, kinds)))
            columns = _columns(served, kinds, claims.rows)
            for batch in _batches(stream):
                for name, place in chosen.places.items():
                    _add(columns[name], batch.column(place))
    except _FAULTS as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise MalformedRequest(f"the body cannot be read as an Arrow stream: {reason}; send {WANTED}") from None
    return check(served, columns, claims.rows, chosen)


def write(served: Served, answered: Answer) -> Iterator[bytes]:
    """Write a stream: predictions and, of a classification, a column of probabilities for every class."""
    version, values = served.version, answered.values
    classes = list(version.outputs.classes)
    labels = pa.array(classes) if classes else None
    fields = [pa.field("prediction", pa.float64() if labels is None else labels.type)]
    fields += [pa.field(PROBABILITY + label_text(label), pa.float32()) for label in classes]
    about = {"model": version.name, "version": str(version.version), "warnings": json.dumps(answered.warnings)}
    schema = pa.schema(fields, about)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as stream:
        for piece in pieces(values):
            predictions = piece[:, 0] if labels is None else labels.take(pa.array(piece.argmax(axis=1)))
            probabilities = [] if labels is None else list(np.ascontiguousarray(piece.T))
            stream.write_batch(pa.record_batch([predictions, *probabilities], schema=schema))
            yield _drained(sink)
    yield _drained(sink)


def _drained(sink: io.BytesIO) -> bytes:
    written = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return written


def _batches(stream: Any) -> Iterator[Any]:
    """Give batches that hold what they say: without this look, a damaged one would be read beyond its end."""
    read_bytes = 0
    for batch in stream:
        batch.validate(full=True)
        read_bytes += batch.nbytes
        if read_bytes > MAX_READ_BYTES:
            most = f"{MAX_READ_BYTES:,}"
            raise limits.too_much(f"repeats buffers or dictionaries, more than {most} bytes in all", f"{most} bytes")
        if batch.num_rows:
            yield batch


def _matrix(stream: Any, rows: int, served: Served, chosen: Chosen, kinds: Mapping[str, Any]) -> NDArray[Any]:
    """Return numbers as (rows, columns) in the model's order, NaN where one is missing."""
    places = [chosen.places[name] for name in served.version.inputs.features]
    is_single = all(map(pa.types.is_float32, kinds.values()))
    matrix = np.empty((rows, len(places)), np.float32 if is_single else np.float64)
    end = 0
    for batch in _batches(stream):
        taken = batch.select(places)
        for start in range(0, len(taken), PIECE_ROWS):
            piece = taken.slice(start, PIECE_ROWS).to_tensor(null_to_nan=True, row_major=True).to_numpy()
            matrix[end : end + len(piece)] = piece
            end += len(piece)
    return matrix


def _columns(served: Served, kinds: Mapping[str, Any], rows: int) -> Mapping[str, NumberColumn | CodedColumn]:
    """Return a column for each of the model's that is there, of some Arrow type each."""
    allowance = TextAllowance()
    columns: dict[str, NumberColumn | CodedColumn] = {}
    for encoder in served.version.inputs.encoders:
        if kind := kinds.get(encoder.name):
            _check_type(encoder.name, kind)
            is_number = encoder.kind == "numeric" and (_is_number(_value_type(kind)) or pa.types.is_null(kind))
            columns[encoder.name] = NumberColumn(rows) if is_number else CodedColumn(_json_values, allowance)
    return columns


def _check_type(name: str, kind: Any) -> None:
    is_known = (_is_number, _is_text, pa.types.is_null, pa.types.is_boolean, *_MOMENTS)
    if not any(is_kind(_value_type(kind)) for is_kind in is_known):
        detail = f"column {shown(name)} holds {shown(str(kind))}; {CELLS}"
        raise InvalidRows([Violation("#", detail)])


def _add(column: NumberColumn | CodedColumn, array: Any) -> None:
    if isinstance(column, CodedColumn):
        column.add(_without_views(array))
        return
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_float16(array.type):
        # The bound of float32 is infinite in float16, and infinity would pass for a number.
        array = array.cast(pa.float32())
    elif pa.types.is_decimal(array.type) or pa.types.is_null(array.type):
        array = array.cast(pa.float64())
    column.add(array)


def _without_views(array: Any) -> Any:
    """Return text that comes as views, which Arrow cannot take apart, as text of its own.

    Raises:
        InvalidRows: it would take more than a body may have: any number of views may show the same bytes.
    """
    if pa.types.is_dictionary(array.type) and pa.types.is_string_view(array.type.value_type):
        return pa.DictionaryArray.from_arrays(array.indices, _without_views(array.dictionary))
    if not pa.types.is_string_view(array.type):
        return array
    given = array.is_valid()
    views = np.frombuffer(array.buffers()[1], np.int32).reshape(-1, 4)[array.offset : array.offset + len(array)].copy()
    views[~given.to_numpy(zero_copy_only=False)] = 0  # Arrow follows the views of gaps without having looked at them
    if (total := int(views[:, 0].sum(dtype=np.int64))) > limits.MAX_BODY_BYTES:
        raise limits.too_much(f"has {total:,} bytes of text", f"{limits.MAX_BODY_BYTES:,} bytes")
    buffers = [given.buffers()[1], pa.py_buffer(views), *array.buffers()[2:]]
    return pa.Array.from_buffers(pa.string_view(), len(array), buffers).cast(pa.large_string())


def _json_values(cells: Any) -> list[Category | None]:
    """Return different cells as JSON would have them: moments as ISO 8601, those of a time zone in UTC."""
    kind = cells.type
    if any(is_moment(kind) for is_moment in _MOMENTS):
        return _iso(cells)
    if pa.types.is_decimal(kind):
        cells = cells.cast(pa.float64())
    values = cells.to_pylist()
    if pa.types.is_floating(cells.type):
        return [None if value != value else value for value in values]  # a NaN differs from itself
    return list(values)


def _iso(cells: Any) -> list[Category | None]:
    kind = cells.type
    if pa.types.is_time(kind):
        return list(pc.replace_substring_regex(cells.cast(pa.string()), r"\.0+$", "").to_pylist())
    moments = cells.cast(pa.date32()) if pa.types.is_date(kind) else cells
    values = moments.to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(kind):
        seconds, finer = values.astype("datetime64[s]"), values.astype("datetime64[us]")
        values = seconds if (seconds == finer).all() else finer
    zone = "Z" if pa.types.is_timestamp(kind) and kind.tz else ""
    texts = np.datetime_as_string(values).tolist()
    return [None if text == "NaT" else text + zone for text in texts]


def _value_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


_MOMENTS = (pa.types.is_date, pa.types.is_timestamp, pa.types.is_time)


def _is_plain(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
