"""NumPy's .npy: rows of numbers in one array, read where they lie in the body; nothing is unpickled."""

import ast
import io
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.formats import limits
from service.api.formats.pieces import pieces
from service.domain.errors import MalformedRequest
from service.domain.wording import shown
from service.inference.rows import CheckedRows
from service.use_cases.predict import Answer
from service.use_cases.serving import Served

WANTED = "an array of numbers, (rows, columns) in the model's order or one row, as numpy.save writes it"
MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 4096
"""The header of an array of numbers has less than 128."""
FIELDS = {"descr", "fortran_order", "shape"}

_DTYPE = re.compile(r"[<>]f[248]|[<>][iu][248]|[|<>][iu]1|[|<>]b1")
_UNREADABLE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
"""What ``ast.literal_eval`` raises for a text that is no literal, or one that nests deep."""


def read(body: bytes | bytearray, served: Served) -> CheckedRows:
    """Read rows of numbers, in which NaN is a gap.

    Raises:
        MalformedRequest: the body is no such array, or has another length than its header claims.
        InvalidRows: the model cannot take the rows.
    """
    return served.reader.check_matrix(_matrix(body))


def write(served: Served, answered: Answer) -> Iterator[bytes]:
    """Write probabilities, float32 (rows, classes), or predictions, float64 (rows,)."""
    values = answered.values if served.version.outputs.classes else answered.values[:, 0]
    head = io.BytesIO()
    description = {"descr": values.dtype.newbyteorder("<").str, "fortran_order": False, "shape": values.shape}
    np.lib.format.write_array_header_1_0(head, description)
    yield head.getvalue()
    for piece in pieces(values):
        yield piece.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _matrix(body: bytes | bytearray) -> NDArray[Any]:
    """Return the array, (rows, columns), of the type in which it came, without copying it."""
    header, start = _header(body)
    dtype, shape = _dtype(header["descr"]), _shape(header["shape"])
    claimed, held = math.prod(shape) * dtype.itemsize, len(body) - start
    if claimed != held:
        raise MalformedRequest(
            f"the body claims an array of shape {shown(shape)} and type {dtype.name}, {claimed:,} bytes, and holds "
            f"{held:,}; send {WANTED}"
        )
    if len(shape) == 2:
        limits.check_shape(*shape)
    elif shape[0] > limits.MAX_CELLS:
        raise limits.too_much(f"has {shape[0]:,} cells", f"{limits.MAX_CELLS:,} cells")
    rows, columns = shape if len(shape) == 2 else (1, *shape)
    flat: NDArray[Any] = np.frombuffer(body, dtype, offset=start)
    matrix = flat.reshape(columns, rows).T if header["fortran_order"] else flat.reshape(rows, columns)
    if dtype.kind == "b":
        return _booleans(matrix)
    # The bound of float32 is infinite in float16, and infinity would pass for a number.
    return matrix.astype(np.float32) if dtype.itemsize == 2 and dtype.kind == "f" else matrix


def _header(body: bytes | bytearray) -> tuple[dict[str, Any], int]:
    """Return what the header says, and where the numbers begin."""
    if not body:
        raise limits.empty(WANTED)
    if not body.startswith(MAGIC):
        raise _unreadable(f"does not begin as .npy does; it begins with {shown(bytes(body[:16]))}")
    if len(body) < 10:
        raise _unreadable("ends within its header")
    major, size_bytes = body[6], 2 if body[6] == 1 else 4
    if major not in (1, 2, 3):
        raise _unreadable(f"is of version {major}; 1 to 3 are known")
    start = 8 + size_bytes
    end = start + int.from_bytes(body[8:start], "little")
    if end > len(body):
        raise _unreadable("ends within its header")
    if end - start > MAX_HEADER_BYTES:
        raise _unreadable(f"has a header of {end - start:,} bytes; {MAX_HEADER_BYTES:,} are enough for numbers")
    try:
        header = ast.literal_eval(bytes(body[start:end]).decode("utf-8" if major == 3 else "latin-1").strip())
    except _UNREADABLE:
        header = None
    if not isinstance(header, dict) or header.keys() != FIELDS or type(header["fortran_order"]) is not bool:
        raise _unreadable(f"has a header that cannot be read: {shown(bytes(body[start : min(end, start + 64)]))}")
    return header, end


def _dtype(described: Any) -> np.dtype[Any]:
    if not isinstance(described, str) or not _DTYPE.fullmatch(described):
        raise _unreadable(
            f"holds {shown(described)}; it must hold float16, float32 or float64, integers or booleans. Text, objects "
            "and structures cannot be taken: send them as JSON, CSV or Arrow"
        )
    return np.dtype(described)


def _shape(described: Any) -> tuple[int, ...]:
    is_shape = isinstance(described, tuple) and all(type(size) is int and size >= 0 for size in described)
    if not is_shape or len(described) not in (1, 2):
        raise _unreadable(f"has the shape {shown(described)}; it must be (rows, columns), or (columns,) for one row")
    return tuple(described)


def _booleans(matrix: NDArray[Any]) -> NDArray[np.uint8]:
    numbers = matrix.view(np.uint8)
    if numbers.max(initial=0) > 1:
        raise _unreadable(f"has a boolean that is neither 0 nor 1 but {numbers.max()}")
    return numbers


def _unreadable(what: str) -> MalformedRequest:
    return MalformedRequest(f"the body {what}; send {WANTED}")
