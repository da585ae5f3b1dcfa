"""Requests of TensorFlow Serving's REST API: from a JSON document to rows."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from service.api.protocols.bodies import NotJson, check_json, read_json, read_numbers
from service.api.protocols.signatures import signature_of
from service.api.rephrasing import Refused
from service.domain.wording import shown
from service.inference.rows import CheckedRows
from service.use_cases.predict import check_size
from service.use_cases.serving import Served

PREDICT, CLASSIFY, REGRESS = "predict", "classify", "regress"
DEFAULT = "serving_default"
BASE64 = "b64"
ANSWER_KEYS = {"instances": "predictions", "inputs": "outputs"}
"""The key of an answer, by the key of its rows."""
MANY = "as multiple input tensors required as per tensorinfo_map"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read: its rows, and the key of its answer."""

    rows: CheckedRows
    answer_key: str


def read_predict(served: Served, body: bytes, most_bytes: int) -> Asked:
    """Read rows, from ``instances`` row by row or from ``inputs`` column by column.

    Rows of numbers may take any number of bytes; ``most_bytes`` are read of anything else.

    Raises:
        Refused: it is not what the protocol or the model has.
        InvalidRows: the model cannot take the rows.
    """
    for key in ANSWER_KEYS if signature_of(served).takes_matrix else ():
        numbers = read_numbers(body, key)
        if numbers is not None and not ANSWER_KEYS.keys() & numbers[0].keys():
            _check_signature(numbers[0], (DEFAULT,))
            check_size(served, len(numbers[1]))
            return Asked(served.reader.check_matrix(numbers[1]), ANSWER_KEYS[key])
    document = _document(body, most_bytes)
    _check_signature(document, (DEFAULT,))
    if "instances" in document and "inputs" in document:
        detail = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        raise _malformed(document, detail)
    if "instances" in document:
        instances = _filled_list(document, document["instances"], "instances")
        check_size(served, len(instances))
        return Asked(served.reader.check(_rows(served, instances)), ANSWER_KEYS["instances"])
    if "inputs" in document:
        return Asked(_inputs(served, document["inputs"]), ANSWER_KEYS["inputs"])
    raise Refused(HTTPStatus.BAD_REQUEST, "Missing 'inputs' or 'instances' key")


def read_examples(served: Served, body: bytes, most_bytes: int, method: str) -> Asked:
    """Read rows as examples, which are objects of features; a feature is a value, or a list of one.

    Raises:
        Refused: it is not what the protocol or the model has.
        InvalidRows: the model cannot take the rows.
    """
    document = _document(body, most_bytes)
    _check_signature(document, (DEFAULT, "classification" if method == CLASSIFY else "regression"))
    if "examples" not in document:
        raise _malformed(document, f"When method is {method}, key 'examples' is expected and was not found")
    examples = document["examples"]
    if type(examples) is not list:
        raise _malformed(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _malformed(document, "'examples' value is an empty array")
    context = _example(document["context"]) if "context" in document else {}
    check_size(served, len(examples))
    rows = [{**context, **_example(example)} for example in examples]
    return Asked(served.reader.check(_rows(served, rows)), "results")


def _document(body: bytes, most_bytes: int) -> dict[str, Any]:
    check_json(body, most_bytes)
    if not body:
        raise Refused(HTTPStatus.BAD_REQUEST, "JSON Parse error: The document is empty")
    try:
        document = read_json(body)
    except NotJson as error:
        text = f"JSON Parse error: {error.reason} at offset: {error.offset}"
        raise Refused(HTTPStatus.BAD_REQUEST, text) from None
    if type(document) is not dict:
        raise _malformed(document, "Is not object")
    return document


def _check_signature(document: dict[str, Any], known: Sequence[str]) -> None:
    name = document.get("signature_name", DEFAULT)
    if type(name) is not str:
        raise _malformed(document, "not formatted correctly. 'signature_name' key must be a string value.")
    if name and name not in known:
        text = f'Serving signature name: "{name[:64]}" not found in signature def'
        raise Refused(HTTPStatus.BAD_REQUEST, text)


def _filled_list(document: dict[str, Any], value: Any, key: str) -> list[Any]:
    if type(value) is not list:
        raise _malformed(document, f"Excepting '{key}' to be an list/array")
    if not value:
        raise _malformed(document, f"No values in '{key}' array")
    return value


def _rows(served: Served, instances: list[Any]) -> list[Any]:
    """Return rows as the reader takes them: arrays, or objects by column name."""
    signature = signature_of(served)
    kinds = set(map(type, instances))
    is_named = type(instances[0]) is dict and not _is_base64(instances[0])
    if is_named and kinds != {dict}:
        place = next(place for place, instance in enumerate(instances) if type(instance) is not dict)
        text = f"Expecting object but got list at item {place} of input list"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    if signature.takes_matrix:
        return _matrix_rows(signature.inputs[0].name, instances) if is_named else instances
    if not is_named and len(signature.inputs) > 1:
        text = f"instances is a plain list, but expecting list of objects {MANY}"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    if not is_named:
        return [{signature.inputs[0].name: _cell(instance)} for instance in instances]
    return [{name: _cell(value) for name, value in instance.items()} for instance in instances]


def _matrix_rows(name: str, instances: list[dict[str, Any]]) -> list[Any]:
    """Return the rows under the name of the one input, or the objects by column name as they are."""
    if all(instance.keys() == {name} and type(instance[name]) is list for instance in instances):
        return [instance[name] for instance in instances]
    return [{name: _cell(value) for name, value in instance.items()} for instance in instances]


def _inputs(served: Served, inputs: Any) -> CheckedRows:
    """Return rows that came column by column; columns that the model does not have are passed over."""
    signature = signature_of(served)
    names = signature.input_names
    is_plain = type(inputs) is not dict or _is_base64(inputs)
    if is_plain and len(names) > 1:
        text = f"inputs is a plain value/list, but expecting an object {MANY}"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    given = {names[0]: inputs} if is_plain else inputs
    if signature.takes_matrix and names[0] in given and (is_plain or _is_matrix(given[names[0]])):
        rows = given[names[0]]
        if type(rows) is not list:
            raise Refused(HTTPStatus.BAD_REQUEST, f"input '{names[0]}' must be a list of rows; got {shown(rows)}")
        check_size(served, len(rows))
        return served.reader.check(rows)
    return _named_columns(served, given)


def _named_columns(served: Served, inputs: dict[str, Any]) -> CheckedRows:
    signature, encoders = signature_of(served), served.version.inputs.encoders
    columns = {
        encoder.name: _column(inputs[encoder.name], encoder.name) for encoder in encoders if encoder.name in inputs
    }
    for tensor in () if signature.takes_matrix and columns else signature.inputs:
        if tensor.name not in columns and not tensor.is_optional:
            raise Refused(HTTPStatus.BAD_REQUEST, f"Missing named input: {tensor.name} in 'inputs' object.")
    count = max(map(len, columns.values()), default=0)
    for name, cells in columns.items():
        if len(cells) != count:
            text = f"input '{name}' has {len(cells)} rows, and another one {count}"
            raise Refused(HTTPStatus.BAD_REQUEST, text)
    check_size(served, count)
    return served.reader.check_columns(columns, count)


def _is_matrix(value: Any) -> bool:
    return type(value) is list and all(type(row) is list for row in value)


def _column(cells: Any, name: str) -> list[Any]:
    if type(cells) is not list:
        raise Refused(HTTPStatus.BAD_REQUEST, f"input '{name}' must be a list of values; got {shown(cells)}")
    return list(map(_cell, cells))


def _example(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise Refused(HTTPStatus.BAD_REQUEST, f"Example must be JSON object but got JSON {_json_type(value)}")
    return value


def _cell(value: Any) -> Any:
    """Return a cell that came as it is, as a list of one, or as an object that holds its bytes in base64."""
    if type(value) is list and len(value) == 1:
        value = value[0]
    if not _is_base64(value):
        return value
    try:
        return base64.b64decode(value[BASE64], validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise Refused(HTTPStatus.BAD_REQUEST, "Unable to base64 decode") from None


def _is_base64(value: Any) -> bool:
    return type(value) is dict and value.keys() == {BASE64} and type(value[BASE64]) is str


def _json_type(value: Any) -> str:
    words = {type(None): "Null", bool: str(value), list: "Array", str: "String", dict: "Object"}
    return words.get(type(value), "Number")


def _malformed(value: Any, detail: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, f"JSON Value: {shown(value)} {detail}")
