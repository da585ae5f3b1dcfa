"""Rows as MLflow's scoring server and SageMaker take them: data frames in JSON, tensors in JSON, and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from typing import Any

from service.api.protocols.bodies import NotJson, check_json, check_length, read_json, read_numbers
from service.api.protocols.text_cells import read_cells
from service.api.rephrasing import Refused
from service.domain.wording import listed, shown
from service.inference.rows import CheckedRows
from service.use_cases.predict import check_size
from service.use_cases.serving import Served

CSV, JSON = "text/csv", "application/json"
FORMATS = ("dataframe_records", "dataframe_split", "inputs", "instances")
REQUIRED = f"The input must be a JSON dictionary with exactly one of the input fields {', '.join(FORMATS)}"
SPLIT_KEYS = {"columns", "data", "index"}
MAX_LISTED = 10


@dataclass(frozen=True, slots=True)
class ContentType:
    """What a body is."""

    kind: str
    has_header: bool | None = None
    """Whether the first line of CSV names the columns; None where its client has not said."""


def read_content_type(header: str | None) -> ContentType:
    """Read a content type; a body without one is JSON.

    Raises:
        Refused: no body of it is taken.
    """
    message = Message()
    message["content-type"] = header or JSON
    kind = message.get_content_type()
    parameters = {name: value for name, value in message.get_params() or [] if name != kind}
    if parameters.pop("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The scoring server only supports UTF-8")
    headed = parameters.pop("header", None) if kind == CSV else None
    if parameters or headed not in (None, "present", "absent"):
        names = listed(list(parameters) or ["header"])
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Unrecognized content type parameters: {names}")
    if kind not in (CSV, JSON):
        text = f"This predictor only supports the following content types: {CSV}, {JSON}. Got '{kind[:64]}'."
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
    return ContentType(kind, None if headed is None else headed == "present")


def read_rows(served: Served, body: bytes, content_type: ContentType, most_bytes: int) -> CheckedRows:
    """Read the rows of a body.

    Rows of numbers in JSON may take any number of bytes; ``most_bytes`` are read of anything else.

    Raises:
        Refused: it is not of the form that it should have.
        InvalidRows: the model cannot take the rows.
    """
    if content_type.kind == CSV:
        check_length(len(body), most_bytes)
        return _csv_rows(served, body, content_type.has_header)
    for name in ("inputs", "instances"):
        numbers = read_numbers(body, name)
        if numbers is not None and not numbers[0]:
            check_size(served, len(numbers[1]))
            return served.reader.check_matrix(numbers[1])
    check_json(body, most_bytes)
    document = _document(body)
    given = [name for name in FORMATS if name in document]
    if len(given) != 1:
        text = f"{REQUIRED}. Received dictionary with input fields: {listed(list(document), MAX_LISTED) or 'none'}"
        raise _refused(text)
    if document.get("params"):
        raise _refused("the models here take no params; leave them out")
    [form] = given
    value = document[form]
    if form == "dataframe_split":
        return _split(served, value)
    if form == "dataframe_records":
        return _records(served, _list(value, "Dataframe records format must be a list of records."))
    return _tensors(served, value, form)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = read_json(body)
    except NotJson as error:
        text = f"Ensure that input is a valid JSON formatted string. Error: {error.reason} at {error.offset}"
        raise _refused(text) from None
    if type(document) is not dict:
        raise _refused(f"{REQUIRED}. Received {shown(document)}")
    return document


def _tensors(served: Served, value: Any, form: str) -> CheckedRows:
    """Read rows as arrays or objects, or columns by name."""
    if type(value) is dict:
        return _columns(served, value)
    rows = _list(value, f"'{form}' must be a list of rows, or an object of columns.")
    if rows and type(rows[0]) is dict:
        return _records(served, rows)
    if served.width == 1 and not any(type(row) in (list, dict) for row in rows):
        rows = [[cell] for cell in rows]
    return _arrays(served, rows)


def _split(served: Served, value: Any) -> CheckedRows:
    if type(value) is not dict:
        raise _refused(f"Dataframe split format must be a dictionary. Got {shown(value)}.")
    if "data" not in value or value.keys() - SPLIT_KEYS:
        text = "Dataframe split format must have 'data' field and optionally 'columns' and 'index' fields."
        raise _refused(f"{text} Got {listed(list(value), MAX_LISTED)}.")
    rows = _list(value["data"], "'data' must be a list of rows.")
    columns = value.get("columns")
    if columns is None or columns == list(range(served.width)):
        return _arrays(served, rows)
    names = _list(columns, "'columns' must be a list of names.")
    return _arrays(served, _in_order(served, names, rows))


def _in_order(served: Served, names: Sequence[Any], rows: Sequence[Any]) -> list[Any]:
    """Put rows into the order of the model's columns; others are left out."""
    features = served.version.inputs.features
    if list(names) == list(features):
        return list(rows)
    places = {name: place for place, name in enumerate(names) if type(name) is str}
    _check_names(served, places)
    wrong = next((place for place, row in enumerate(rows) if type(row) is not list or len(row) != len(names)), None)
    if wrong is not None:
        raise _refused(f"row {wrong} must be a list of {len(names)} values, one for each of the columns")
    taken = [places.get(name) for name in features]
    return [[None if place is None else row[place] for place in taken] for row in rows]


def _records(served: Served, records: Sequence[Any]) -> CheckedRows:
    """Take objects by column name; what a row lacks is a gap in it, what the model does not take is left out."""
    features = served.version.inputs.features
    wrong = next((place for place, record in enumerate(records) if type(record) is not dict), None)
    if wrong is not None:
        raise _refused(f"row {wrong} must be an object by column name; got {shown(records[wrong])}")
    if records:
        _check_names(served, records[0])
    return _arrays(served, [[record.get(name) for name in features] for record in records])


def _arrays(served: Served, rows: Sequence[Any]) -> CheckedRows:
    check_size(served, len(rows))
    return served.reader.check(rows)


def _columns(served: Served, columns: Mapping[str, Any]) -> CheckedRows:
    _check_names(served, columns)
    taken = {name: columns[name] for name in served.version.inputs.features if name in columns}
    cells = {name: value if type(value) is list else [value] for name, value in taken.items()}
    counts = set(map(len, cells.values()))
    if len(counts) != 1:
        raise _refused("the columns have different numbers of rows")
    [count] = counts
    check_size(served, count)
    return served.reader.check_columns(cells, count)


def _csv_rows(served: Served, body: bytes, has_header: bool | None) -> CheckedRows:
    try:
        lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    except UnicodeDecodeError as error:
        raise _refused(f"Ensure that input is a valid UTF-8 encoded string. Error: byte {error.start}") from None
    except csv.Error as error:
        raise _refused(f"Failed to parse input as CSV. Error: {error}") from None
    if not lines:
        raise _refused("the body is empty; send lines of values, which may follow one with the names of the columns")
    if has_header is None:
        has_header = _names_columns(served, lines[0])
    width = len(lines[0]) if has_header else served.width
    given = lines[1:] if has_header else lines
    wrong = next((place for place, row in enumerate(given) if len(row) != width), None)
    if wrong is not None:
        raise _refused(f"row {wrong} has {len(given[wrong])} values; it must have {width}")
    rows = _in_order(served, lines[0], given) if has_header else given
    check_size(served, len(rows))
    encoders = served.version.inputs.encoders
    cells = {
        encoder.name: read_cells(encoder, texts)
        for encoder, texts in zip(encoders, zip(*rows, strict=True), strict=bool(rows))
    }
    return served.reader.check_columns(cells, len(rows))


def _names_columns(served: Served, line: Sequence[str]) -> bool:
    """Whether a line names every column that must be there."""
    return {encoder.name for encoder in served.version.inputs.encoders if not encoder.gaps} <= set(line)


def _check_names(served: Served, given: Mapping[str, Any]) -> None:
    missing = [encoder.name for encoder in served.version.inputs.encoders if encoder.name not in given]
    needed = {encoder.name for encoder in served.version.inputs.encoders if not encoder.gaps}
    if needed.intersection(missing) or len(missing) == served.width:
        raise _refused(f"Model is missing inputs [{listed(missing, MAX_LISTED)}].")


def _list(value: Any, otherwise: str) -> list[Any]:
    if type(value) is not list:
        raise _refused(f"{otherwise} Got {shown(value)}.")
    return value


def _refused(text: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, text)
