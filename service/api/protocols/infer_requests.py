"""Requests of the Open Inference Protocol, read from the bytes of a body."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import Any

import numpy as np

from service.api.formats.limits import MAX_CELLS, too_much
from service.api.protocols import binary_tensors
from service.api.protocols.binary_tensors import Cells
from service.api.protocols.bodies import NotJson, check_json, read_json
from service.api.protocols.json_members import flag, member, of_kind, parameters_of
from service.api.protocols.signatures import LABEL, MATRIX, Signature, Tensor, signature_of
from service.api.protocols.tensor_rows import Given, rows_of
from service.api.rephrasing import Refused
from service.domain.strict_json import MAX_DEPTH
from service.inference.rows import CheckedRows, check_count
from service.use_cases.serving import Served

RESERVED = "triton_"
NULL = type(None)
SOURCES = "'data', 'binary_data_size' in 'parameters', 'shared_memory_region' in 'parameters'"
JSON_TYPES = {"BOOL": (frozenset({bool, NULL}), "boolean"), "BYTES": (frozenset({str, NULL}), "string")}
MAX_DIMENSIONS = 8
NUMBER_TYPES = frozenset({int, float, NULL})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor that is to come back."""

    name: str
    is_binary: bool = False
    classes: int = 0
    """Above 0: not the tensor itself, but so many classes of each row, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read."""

    rows: CheckedRows
    outputs: tuple[Wanted, ...]
    id: str | None = None


def read_request(served: Served, body: bytes, header_length: int | None, most_json: int) -> Asked:
    """Read a request: JSON, whose length is given where binary tensors follow it; 0 where there is nothing else.

    ``most_json`` is how many bytes of JSON are read at once.

    Raises:
        Refused: it is not what the protocol or the model has.
        InvalidRows: the model cannot take the rows.
    """
    signature, model = signature_of(served), served.version.name
    if header_length == 0:
        rows = rows_of(served, [_raw(signature, body, model)])
        return Asked(rows, tuple(Wanted(tensor.name, is_binary=True) for tensor in signature.outputs))
    content = body[:header_length]
    check_json(content, most_json)
    document = _document(content)
    binary = memoryview(body)[len(body) if header_length is None else header_length :]
    given = _read_inputs(signature, document, binary, model)
    outputs = tuple(_read_outputs(signature, document, model))
    identifier = member(document, "id", str) if "id" in document else None
    return Asked(rows_of(served, given), outputs, identifier)


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = read_json(content)
    except NotJson as error:
        text = f"failed to parse the request JSON buffer: {error.reason} at {error.offset}"
        raise Refused(HTTPStatus.BAD_REQUEST, text) from None
    if type(document) is not dict:
        raise Refused(HTTPStatus.BAD_REQUEST, "failed to parse the request JSON buffer: it is not an object")
    parameters = parameters_of(document)
    for name, value in parameters.items():
        if name.startswith(RESERVED):
            text = (
                f"parameter keys starting with '{RESERVED}' are reserved for Triton usage and should not be specified."
            )
            raise Refused(HTTPStatus.BAD_REQUEST, text)
        if isinstance(value, list | dict | NULL):
            text = f"parameter '{name[:64]}' has invalid type. It should be either 'int', 'bool', or 'string'."
            raise Refused(HTTPStatus.BAD_REQUEST, text)
    return document


def _read_inputs(signature: Signature, document: dict[str, Any], binary: memoryview, model: str) -> list[Given]:
    tensors = {tensor.name: tensor for tensor in signature.inputs}
    given: dict[str, Given] = {}
    start = 0
    for item in member(document, "inputs", list):
        name = member(of_kind(item, "inputs", dict), "name", str)
        if name not in tensors:
            raise Refused(HTTPStatus.BAD_REQUEST, f"unexpected inference input '{name[:64]}' for model '{model}'")
        if name in given:
            raise Refused(HTTPStatus.BAD_REQUEST, f"input '{name}' already exists in request")
        size = _binary_size(item)
        if size is not None and size > len(binary) - start:
            missing = size - (len(binary) - start)
            text = f"unexpected size for input '{name}', expecting {missing} additional bytes for model '{model}'"
            raise Refused(HTTPStatus.BAD_REQUEST, text)
        raw = None if size is None else binary[start : start + size]
        given[name] = _read_tensor(item, name, raw, model)
        start += size or 0
    if start < len(binary):
        raise Refused(HTTPStatus.BAD_REQUEST, f"unexpected additional input data for model '{model}'")
    _check_presence(signature, given, model)
    return list(given.values())


def _binary_size(item: dict[str, Any]) -> int | None:
    """Return how many of the bytes after the JSON are this input's; None where its cells are in the JSON.

    Raises:
        Refused: it says where its cells are in no way, or in several.
    """
    parameters = parameters_of(item)
    if "shared_memory_region" in parameters:
        region = str(parameters["shared_memory_region"])[:64]
        raise Refused(HTTPStatus.NOT_FOUND, f"Unable to find shared memory region: '{region}'")
    has_data, is_binary = "data" in item, "binary_data_size" in parameters
    if has_data and is_binary:
        text = f"Input must set only one of the following fields: {SOURCES}. But set 'data' 'binary_data_size'"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    if not has_data and not is_binary:
        text = f"Input must set only one of the following fields: {SOURCES}. But no field is set"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    return of_kind(parameters["binary_data_size"], "binary_data_size", int) if is_binary else None


def _read_tensor(item: dict[str, Any], name: str, raw: memoryview | None, model: str) -> Given:
    datatype = member(item, "datatype", str)
    shape = tuple(of_kind(size, "shape", int) for size in member(item, "shape", list))
    if datatype not in binary_tensors.DATATYPES:
        raise Refused(HTTPStatus.BAD_REQUEST, f"invalid datatype for input {name}")
    if len(shape) > MAX_DIMENSIONS:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the shape of input '{name}' has more than {MAX_DIMENSIONS} dimensions")
    count = math.prod(shape)
    if count > MAX_CELLS:
        raise too_much(f"has {count:,} cells in input '{name}'", f"{MAX_CELLS:,} cells")
    if datatype == "BF16":
        cells: Cells = []  # no model takes it, as will be said
    elif raw is None:
        cells = _json_cells(member(item, "data", list), datatype, count)
    else:
        cells = _binary_cells(name, datatype, raw, count, model)
    return Given(name, datatype, shape, cells)


def _binary_cells(name: str, datatype: str, raw: memoryview, count: int, model: str) -> Cells:
    if datatype not in JSON_TYPES:
        return binary_tensors.read_numbers(name, datatype, raw, count, model)
    check_count(count)  # before each becomes an object: these are the cells of one column
    read = binary_tensors.read_texts if datatype == "BYTES" else binary_tensors.read_booleans
    return read(name, raw, count, model)


def _json_cells(data: list[Any], datatype: str, count: int) -> Cells:
    """Return the cells of a tensor that came as JSON, flat or nested in any way; null is a gap."""
    cells = _flat(data)
    types, wanted = JSON_TYPES.get(datatype, (NUMBER_TYPES, "number"))
    if not types.issuperset(map(type, cells)):
        text = f"Unable to parse 'data': attempt to access JSON non-{wanted} as {wanted}"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    if len(cells) != count:
        raise Refused(HTTPStatus.BAD_REQUEST, "Unable to parse 'data': Shape does not match true shape of 'data' field")
    if datatype in JSON_TYPES:
        return cells
    try:
        return np.array(cells, np.float64)
    except OverflowError:  # an integer of hundreds of digits, which only the reader of NaN lets through
        raise Refused(HTTPStatus.BAD_REQUEST, "Unable to parse 'data': a number is too large") from None


def _flat(data: list[Any]) -> list[Any]:
    for _ in range(MAX_DEPTH):
        kinds = set(map(type, data))
        if list not in kinds:
            return data
        parts = data if kinds == {list} else (item if type(item) is list else (item,) for item in data)
        data = list(chain.from_iterable(parts))
    raise Refused(HTTPStatus.BAD_REQUEST, f"Unable to parse 'data': it nests deeper than {MAX_DEPTH} levels")


def _raw(signature: Signature, body: bytes, model: str) -> Given:
    """Read a body that is nothing but the cells of the one input."""
    if not signature.takes_matrix:
        text = f"raw binary data was sent for model '{model}', which takes {len(signature.inputs)} inputs; send JSON"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    width = signature.inputs[0].width
    rows = max(len(body) // (width * 4), 1)
    cells = binary_tensors.read_numbers("raw_input", "FP32", memoryview(body), rows * width, model)
    return Given(MATRIX, "FP32", (rows, width), cells)


def _check_presence(signature: Signature, given: dict[str, Given], model: str) -> None:
    missing = [tensor.name for tensor in signature.inputs if tensor.name not in given and not tensor.is_optional]
    if missing or not given:
        text = (
            f"expected {len(signature.inputs)} inputs but got {len(given)} inputs for model '{model}'. Got input(s) "
            f"[{_quoted(list(given))}], but missing required input(s) [{_quoted(missing)}]. "
            "Please provide all required input(s)."
        )
        raise Refused(HTTPStatus.BAD_REQUEST, text)


def _quoted(names: Sequence[str], most: int = 20) -> str:
    more = [] if len(names) <= most else [f"and {len(names) - most} more"]
    return ",".join([*(f"'{name}'" for name in names[:most]), *more])


def _read_outputs(signature: Signature, document: dict[str, Any], model: str) -> Iterator[Wanted]:
    """Read which outputs are wanted; where none is named, all are."""
    tensors = {tensor.name: tensor for tensor in signature.outputs}
    items = member(document, "outputs", list) if "outputs" in document else []
    is_binary = flag(parameters_of(document), "binary_data_output")
    if not items:
        yield from (Wanted(name, is_binary) for name in tensors)
    names: set[str] = set()
    for item in items:
        name = member(of_kind(item, "outputs", dict), "name", str)
        if name not in tensors:
            raise Refused(HTTPStatus.BAD_REQUEST, f"unexpected inference output '{name[:64]}' for model '{model}'")
        if name not in names:
            names.add(name)
            yield _wanted(tensors[name], parameters_of(item))


def _wanted(tensor: Tensor, parameters: dict[str, Any]) -> Wanted:
    classes = 0
    if "classification" in parameters:
        classes = of_kind(parameters["classification"], "classification", int)
    if classes and tensor.name == LABEL:
        text = f"output '{LABEL}' holds labels and no scores; ask for the classification of 'probabilities'"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    return Wanted(tensor.name, flag(parameters, "binary_data"), classes)
