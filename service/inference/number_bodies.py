"""JSON bodies that hold little but numbers, read without a Python object for each number.

Only what is plainly right is read here: whatever is unusual, or wrong, is left to the strict reader, which says what.
"""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simdjson
from numpy.typing import NDArray

from service.domain import strict_json
from service.domain.errors import MalformedRequest

PIECE_BYTES = 256 * 1024
"""Rows are read in pieces of this size: while one is read, no other thread of the process can run."""
MAX_REST_BYTES = 64 * 1024
"""What stands beside the rows is a few short fields."""

_BLANKS = re.compile(rb"[ \t\r\n]*")
_COMMA = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")


class _Parser(threading.local):
    """One parser for each thread: it can be used again once nothing that it gave is held any more."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser()


_parsers = _Parser()


def read_rows(body: bytes, name: str) -> tuple[dict[str, Any], NDArray[np.float64]] | None:
    """Read an object of plain fields and, under ``name``, rows of numbers.

    Returns the other fields, which are texts, numbers, booleans or None, and the rows, float64 (rows, columns); None
    where the body is anything else.
    """
    try:
        return _read_rows(body, name)
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError):
        _parsers.parser = simdjson.Parser()  # the error may still hold what the other one gave
        return None


@dataclass(frozen=True, slots=True)
class NumberTensor:
    """A tensor of numbers as the Open Inference Protocol writes it, beside the id of its request."""

    name: str
    datatype: str
    matrix: NDArray[np.float64]
    id: str | None


def read_tensor(body: bytes) -> NumberTensor | None:
    """Read a request of the Open Inference Protocol that holds one matrix, its numbers in a row, and asks for no more.

    None where the body is anything else.
    """
    try:
        return _read_tensor(body)
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError):
        _parsers.parser = simdjson.Parser()
        return None


def read_many_rows(
    body: bytes, name: str, piece_bytes: int = PIECE_BYTES
) -> tuple[dict[str, Any], NDArray[np.float64]] | None:
    """Read as ``read_rows`` does a body of any size; meanwhile, other threads get their turn."""
    opening = re.search(rb'"%b"[ \t\r\n]*:[ \t\r\n]*\[' % re.escape(name.encode()), body)
    if opening is None:
        return None
    start = opening.end()
    # Among numbers there is no quote and no brace, so the array ends before the next of them.
    ends = [place for place in (body.find(b'"', start), body.find(b"}", start)) if place >= 0]
    closing = body.rfind(b"]", start, min(ends, default=len(body)))
    if closing < 0 or len(body) - (closing - start) > MAX_REST_BYTES:
        return None
    try:
        fields = strict_json.loads(body[:start] + body[closing:])
        if not isinstance(fields, dict) or fields.pop(name, None) != []:
            return None
        matrix = _filled(_pieces(body, start, closing, piece_bytes), closing - start)
    except (MalformedRequest, ValueError, TypeError, RuntimeError):
        _parsers.parser = simdjson.Parser()
        return None
    return None if matrix is None or not len(matrix) else (fields, matrix)


def _read_tensor(body: bytes) -> NumberTensor | None:
    if body[:1] != b"{" or body.count(b"[") != 3:  # of inputs, shape and data
        return None
    document: Any = _parsers.parser.parse(body)
    names = sorted(document)
    if names not in (["inputs"], ["id", "inputs"]):
        return None
    identifier = document["id"] if len(names) == 2 else None
    [tensor] = document["inputs"]
    if sorted(tensor) != ["data", "datatype", "name", "shape"]:
        return None
    shape = tensor["shape"].as_list()
    texts = tensor["name"], tensor["datatype"]
    if len(shape) != 2 or set(map(type, shape)) != {int} or not all(map(_is_text, texts)):
        return None
    numbers = np.frombuffer(tensor["data"].as_buffer(of_type="d"))
    if identifier is not None and not _is_text(identifier):
        return None
    return NumberTensor(*texts, numbers.reshape(shape), identifier) if min(shape) > 0 else None


def _filled(pieces: Iterator[bytes], length: int) -> NDArray[np.float64] | None:
    """Read pieces of so many bytes in all into one matrix; None where they are not rows of one width."""
    matrix = np.empty((0, 0))
    filled = 0
    for text in pieces:
        rows: Any = _parsers.parser.parse(b"[%b]" % text)
        piece = _rows(rows, text.count(b"["))
        if piece is None or (filled and piece.shape[1] != matrix.shape[1]):
            return None
        if filled + len(piece) > len(matrix):
            # Memory that is never written is never taken, so the guess may be generous.
            rest = length * len(piece) // max(len(text), 1) + len(piece)
            larger = np.empty((filled + len(piece) + rest, piece.shape[1]))
            larger[:filled] = matrix[:filled].reshape(filled, piece.shape[1])
            matrix = larger
        matrix[filled : filled + len(piece)] = piece
        filled += len(piece)
        del rows
    return matrix[:filled]


def _pieces(body: bytes, start: int, closing: int, piece_bytes: int) -> Iterator[bytes]:
    """Cut the text of rows between rows.

    Raises:
        ValueError: there is no comma between two of them.
    """
    while start < closing:
        cut = body.find(b"]", start + piece_bytes, closing) + 1 or closing
        yield body[start:cut]
        if _BLANKS.fullmatch(body, cut, closing):
            return
        comma = _COMMA.match(body, cut, closing)
        if comma is None or comma.end() == closing:
            raise ValueError("no comma between rows")
        start = comma.end()


def _read_rows(body: bytes, name: str) -> tuple[dict[str, Any], NDArray[np.float64]] | None:
    if body[:1] != b"{":  # a byte order mark would be skipped
        return None
    document: Any = _parsers.parser.parse(body)
    names = list(document)
    rows: Any = document[name]
    fields = {other: document[other] for other in names if other != name}
    if len(fields) != len(names) - 1 or not all(map(_is_plain, fields.values())) or "\0" in "".join(names):
        return None  # a key came twice, or an object or an array, or what no database holds
    # Texts have been looked at above; one that holds a bracket is left to the strict reader.
    matrix = _rows(rows, body.count(b"[") - 1)
    return None if matrix is None else (fields, matrix)


def _rows(rows: Any, brackets: int) -> NDArray[np.float64] | None:
    """Return an array of arrays of numbers as a matrix; None where it is none. ``brackets`` are those within it."""
    count = len(rows)
    if not count or brackets != count:  # all numbers come in order whatever the nesting, so it is looked at here
        return None
    numbers = np.frombuffer(rows.as_buffer(of_type="d"))
    if len(numbers) % count:
        return None
    width = len(numbers) // count
    if count > 1 and not all(len(row) == width for row in rows):
        return None
    return numbers.reshape(count, width)


def _is_plain(value: Any) -> bool:
    return value is None or _is_text(value) or isinstance(value, int | float)


def _is_text(value: Any) -> bool:
    """Whether it is a text that the strict reader takes."""
    return isinstance(value, str) and "\0" not in value
