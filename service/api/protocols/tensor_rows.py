"""From tensors to the rows of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.protocols.binary_tensors import Cells
from service.api.protocols.signatures import Tensor, signature_of
from service.api.protocols.text_cells import read_cells
from service.api.rephrasing import Refused
from service.domain.encoders import Encoder
from service.inference.rows import CheckedRows
from service.use_cases.predict import check_size
from service.use_cases.serving import Served


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor that came."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    cells: Cells


def rows_of(served: Served, given: Sequence[Given]) -> CheckedRows:
    """Return the rows that a model's inputs hold.

    Raises:
        Refused: a tensor has another type or shape than the model's.
        InvalidRows: the model cannot take the rows.
    """
    signature, model = signature_of(served), served.version.name
    if signature.takes_matrix:
        [tensor] = given
        matrix = _matrix(signature.inputs[0], tensor, model)
        check_size(served, len(matrix))
        return served.reader.check_matrix(matrix)
    encoders = {encoder.name: encoder for encoder in served.version.inputs.encoders}
    columns = {tensor.name: _column(encoders[tensor.name], tensor, model) for tensor in given}
    count = len(columns[given[0].name])
    for name, cells in columns.items():
        if len(cells) != count:
            text = f"input '{name}' batch size does not match other inputs for '{model}'"
            raise Refused(HTTPStatus.BAD_REQUEST, text)
    check_size(served, count)
    return served.reader.check_columns(columns, count)


def _matrix(tensor: Tensor, given: Given, model: str) -> NDArray[np.float64]:
    if not isinstance(given.cells, np.ndarray):
        raise _other_type(given, tensor.datatype, model)
    if len(given.shape) != 2 or given.shape[1] != tensor.width:
        raise _other_shape(given, f"[-1,{tensor.width}]", model)
    return given.cells.reshape(given.shape)


def _column(encoder: Encoder, given: Given, model: str) -> Sequence[Any] | NDArray[np.float64]:
    """Return the cells of a column as its reader takes them."""
    if len(given.shape) != 1 and given.shape[1:] != (1,):
        raise _other_shape(given, "[-1,1]", model)
    fitting, expected = _types(encoder)
    if _form(given) not in fitting:
        raise _other_type(given, expected, model)
    if isinstance(given.cells, np.ndarray):
        return given.cells
    return read_cells(encoder, given.cells)


def _form(given: Given) -> str:
    return "number" if isinstance(given.cells, np.ndarray) else given.datatype


def _types(encoder: Encoder) -> tuple[set[str], str]:
    """Return the forms that a column takes, and the type that its input is said to have."""
    match encoder.kind:
        case "numeric":
            return {"number"}, "FP32"
        case "boolean":
            return {"BOOL", "number"}, "BOOL"
        case "categorical":
            return {"text": {"BYTES"}, "number": {"BYTES", "number"}, "boolean": {"BYTES", "BOOL"}}[
                encoder.holds
            ], "BYTES"
        case _:
            return {"BYTES"}, "BYTES"


def _other_type(given: Given, expected: str, model: str) -> Refused:
    text = f"inference input '{given.name}' data-type is '{given.datatype}', but model '{model}' expects '{expected}'"
    return Refused(HTTPStatus.BAD_REQUEST, text)


def _other_shape(given: Given, expected: str, model: str) -> Refused:
    got = ",".join(map(str, given.shape))
    text = f"unexpected shape for input '{given.name}' for model '{model}'. Expected {expected}, got [{got}]"
    return Refused(HTTPStatus.BAD_REQUEST, text)
