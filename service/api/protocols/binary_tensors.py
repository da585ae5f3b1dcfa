"""The binary tensors of the Open Inference Protocol: little-endian numbers, and texts with their length before each."""

from collections.abc import Sequence
from http import HTTPStatus

import numpy as np
from numpy.typing import NDArray

from service.api.rephrasing import Refused

NUMBERS = {
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
}
DATATYPES = frozenset({*NUMBERS, "BOOL", "BYTES", "BF16"})
LENGTH_BYTES = 4

Cells = NDArray[np.float64] | list[str | None] | list[bool | None]
"""The cells of a tensor in row-major order: numbers, where NaN is a gap, or texts or booleans, where None is."""


def read_numbers(name: str, datatype: str, raw: memoryview, count: int, model: str) -> NDArray[np.float64]:
    """Read so many numbers.

    Raises:
        Refused: there are more or fewer bytes.
    """
    form = np.dtype(NUMBERS[datatype])
    _check_size(name, len(raw), count * form.itemsize, model)
    with np.errstate(invalid="ignore"):  # a NaN that signals is one like any other
        return np.frombuffer(raw, form).astype(np.float64)


def read_booleans(name: str, raw: memoryview, count: int, model: str) -> list[bool | None]:
    """Read so many booleans, a byte each.

    Raises:
        Refused: there are more or fewer bytes.
    """
    _check_size(name, len(raw), count, model)
    return list(map(bool, raw))


def read_texts(name: str, raw: memoryview, count: int, model: str) -> list[str | None]:
    """Read so many texts.

    Raises:
        Refused: there are more or fewer, the bytes end within one, or one is not UTF-8.
    """
    content = bytes(raw)
    texts: list[str | None] = []
    start = 0
    while start < len(content) and len(texts) <= count:  # one too many is enough to say so
        stop = _end_of_text(name, content, start)
        try:
            texts.append(content[start + LENGTH_BYTES : stop].decode("utf-8"))
        except UnicodeDecodeError:
            detail = f"string element {len(texts)} of inference input '{name}' is not UTF-8"
            raise Refused(HTTPStatus.BAD_REQUEST, detail) from None
        start = stop
    _check_texts(name, len(texts), count, model)
    return texts


def write_texts(texts: Sequence[bytes]) -> bytes:
    """Write texts, which are UTF-8."""
    return b"".join([len(text).to_bytes(LENGTH_BYTES, "little") + text for text in texts])


def _end_of_text(name: str, content: bytes, start: int) -> int:
    left = len(content) - start
    if left < LENGTH_BYTES:
        detail = (
            f"incomplete string length indicator for inference input '{name}', expecting {LENGTH_BYTES} bytes but only "
            f"{left} bytes available"
        )
        raise Refused(HTTPStatus.BAD_REQUEST, detail)
    length = int.from_bytes(content[start : start + LENGTH_BYTES], "little")
    if length > left - LENGTH_BYTES:
        detail = (
            f"incomplete string data for inference input '{name}', expecting string of length {length} but only "
            f"{left - LENGTH_BYTES} bytes available"
        )
        raise Refused(HTTPStatus.BAD_REQUEST, detail)
    return start + LENGTH_BYTES + length


def _check_size(name: str, size: int, expected: int, model: str) -> None:
    if size != expected:
        detail = f"input byte size mismatch for input '{name}' for model '{model}'. Expected {expected}, got {size}"
        raise Refused(HTTPStatus.BAD_REQUEST, detail)


def _check_texts(name: str, given: int, expected: int, model: str) -> None:
    if given < expected:
        detail = f"expected {expected} string elements for inference input '{name}' for model '{model}', got {given}"
        raise Refused(HTTPStatus.BAD_REQUEST, detail)
    if given > expected:
        detail = (
            f"unexpected number of string elements {given} for inference input '{name}' for model '{model}', "
            f"expecting {expected}"
        )
        raise Refused(HTTPStatus.BAD_REQUEST, detail)
