"""Which cells of text are numbers, and which numbers they are."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.domain.cells import FLOAT32_MAX
from service.domain.wording import shown
from service.tables.refusals import refused

MAX_DIGITS = 18
"""Integers of more digits are codes: they would not come back as they went in."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMA_NUMBER = r"^[+-]?([1-9]\d{0,2}(\.\d{3})+|\d+)(,\d*)?([eE][+-]?\d+)?$|^[+-]?,\d+([eE][+-]?\d+)?$"
_POINTS_MAY_GROUP = r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$"
_COMMAS_MAY_GROUP = r"^[+-]?[1-9]\d{0,2}(,\d{3})+$"
_TOO_LONG = rf"^[+-]?\d{{{MAX_DIGITS + 1},}}$"
_ZERO, _NINE, _PLUS, _MINUS, _SMALL_X, _LARGE_X = b"09+-xX"
_LOOKED_AT_FIRST = 1_000


def parse(text: pa.ChunkedArray, *, codes_too: bool = False) -> pa.ChunkedArray | None:
    """Read cells as integers if all of them are, else as numbers; None where one is none.

    ``text`` holds null where a cell is missing. A column with a cell such as ``007`` or of more than 18 digits holds
    codes, which are no numbers; with ``codes_too`` they are.
    """
    numbers = _cast(text, pa.int64())
    if numbers is None:
        numbers = _cast(text, pa.float64())
    if numbers is None or numbers.null_count == len(numbers):
        return None
    # Arrow's readers take 0x1F for an integer, and nan for a number.
    if (not codes_too and _has_code(text, numbers)) or _has_nan(numbers):
        return None
    if pa.types.is_floating(numbers.type):
        # -0.0 becomes 0.0: they are one value, and one class.
        return _signed_integers(text) or pc.add(numbers, 0.0)
    return numbers


def parse_comma(text: pa.ChunkedArray, *, codes_too: bool = False) -> pa.ChunkedArray | None:
    """Read cells as ``parse`` does where the comma is the decimal mark and points group digits."""
    return parse(pc.replace_substring(pc.replace_substring(text, ".", ""), ",", "."), codes_too=codes_too)


def are_numbers(cells: pa.Array) -> NDArray[np.bool_]:
    """Say of every trimmed cell whether it is a number; ``nan`` and ``0x1F`` are none, ``1e999`` is one."""
    return _mask(pc.match_substring_regex(cells, _NUMBER))


def are_comma_numbers(cells: pa.Array) -> NDArray[np.bool_]:
    """Say of every trimmed cell whether it is a number where the comma is the decimal mark."""
    return _mask(pc.match_substring_regex(cells, _COMMA_NUMBER))


def has_decimal_comma(cells: pa.Array) -> bool:
    """Whether a comma in these numbers can be nothing but a decimal mark: ``1,5``, not ``1,500``."""
    return _has_decimal(cells, ",", _COMMAS_MAY_GROUP)


def has_decimal_point(cells: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a point in these numbers can be nothing but a decimal mark: ``1.5``, not ``1.500``."""
    first = cells.slice(0, _LOOKED_AT_FIRST)
    return _has_decimal(first, ".", _POINTS_MAY_GROUP) or _has_decimal(cells, ".", _POINTS_MAY_GROUP)


def check_range(name: str, numbers: pa.ChunkedArray) -> None:
    """Refuse numbers that float32 does not hold.

    Raises:
        InvalidTable: names the column and the first row.
    """
    if not pa.types.is_floating(numbers.type):
        return
    values = numbers.to_numpy()
    with np.errstate(invalid="ignore"):
        outside = np.abs(values) > FLOAT32_MAX
    if outside.any():
        row = int(np.argmax(outside))
        raise refused(
            f"holds {values[row]:g} in column {shown(name)}, row {row + 1:,}; numbers must lie within ±3.4e38 "
            "(float32): mend the cell, or leave it empty"
        )


def _cast(text: pa.ChunkedArray, kind: Any) -> pa.ChunkedArray | None:
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        return None


def _has_nan(numbers: pa.ChunkedArray) -> bool:
    return pa.types.is_floating(numbers.type) and bool(pc.any(pc.is_nan(numbers)).as_py())


def _signed_integers(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return integers where only plus signs made them look like other numbers."""
    if _any(text.slice(0, _LOOKED_AT_FIRST), "[.eE]") or _any(text, "[.eE]"):
        return None
    return _cast(pc.replace_substring_regex(text, r"^\+(\d)", r"\1"), pa.int64())


def _has_code(text: pa.ChunkedArray, numbers: pa.ChunkedArray) -> bool:
    bounds = pc.min_max(numbers).as_py()
    if max(abs(bounds["min"]), abs(bounds["max"])) >= 10**MAX_DIGITS and _any(text, _TOO_LONG):
        return True
    return any(_begins_like_a_code(chunk) for chunk in text.chunks)


def _begins_like_a_code(text: pa.Array) -> bool:
    """Whether a cell begins with a zero and a further digit, or an x; a regular expression takes 20 times as long."""
    _, offset_bytes, data_bytes = text.buffers()
    if len(text) == 0 or data_bytes is None or data_bytes.size == 0:
        return False
    offsets = np.frombuffer(offset_bytes, np.int32, len(text) + 1, text.offset * 4)
    data, begin = np.frombuffer(data_bytes, np.uint8), offsets[:-1]
    first = data.take(begin, mode="clip")  # an empty cell at the end begins behind the data
    signed = (first == _PLUS) | (first == _MINUS)
    if signed.any():
        begin = begin + signed
        first = data.take(begin, mode="clip")
    zero = np.flatnonzero(first == _ZERO)
    zero = zero[offsets[zero + 1] - begin[zero] >= 2]
    second = data[begin[zero] + 1]
    return bool((((second >= _ZERO) & (second <= _NINE)) | (second == _SMALL_X) | (second == _LARGE_X)).any())


def _has_decimal(cells: pa.Array | pa.ChunkedArray, mark: str, may_group: str) -> bool:
    marked = pc.match_substring(cells, mark)
    return bool(pc.any(pc.and_not(marked, pc.match_substring_regex(cells, may_group))).as_py())


def _any(text: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())


def _mask(flags: pa.Array) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = flags.to_numpy(zero_copy_only=False)
    return mask
