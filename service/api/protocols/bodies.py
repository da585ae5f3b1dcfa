"""Bodies as clients of other protocols send them: compressed, and in JSON that may hold NaN."""

import json
import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from service.api.rephrasing import Refused
from service.api.services import Services
from service.api.strict_bodies import LARGE_BODY_BYTES
from service.domain import strict_json
from service.inference.number_bodies import read_many_rows, read_rows

Result = TypeVar("Result")

EITHER_HEADER = zlib.MAX_WBITS | 32
"""For zlib: a gzip or a zlib header, whichever comes."""
NO_HEADER = -zlib.MAX_WBITS
PLAIN = ("", "identity")
ZLIB_FORMS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class NotJson(Exception):
    """A body that is no JSON text, and where that shows."""

    def __init__(self, reason: str, offset: int) -> None:
        self.reason = reason
        self.offset = offset
        super().__init__(reason)


async def in_turn(services: Services, size: int, work: Callable[[], Result]) -> Result:
    """Read a body of so many bytes, a large one in a thread, so that nobody waits behind it."""
    return await services.gathering.in_thread(work) if size > LARGE_BODY_BYTES else work()


def check_length(size: int, most: int) -> None:
    """Refuse a text that would take too much memory while it is read.

    Raises:
        Refused: it has more bytes than are read at once.
    """
    if size > most:
        detail = f"the JSON or CSV text has {size:,} bytes; at most {most:,} are read at once. Send the rows in parts"
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def check_json(body: bytes, most: int) -> None:
    """Do so for JSON, whose arrays and objects take memory however short they are.

    Raises:
        Refused: it has more bytes, or more of these, than are read at once.
    """
    check_length(len(body), most)
    if too_many := strict_json.crowd(body):
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{too_many}. Send the rows in parts")


def read_numbers(body: bytes, name: str) -> tuple[dict[str, Any], NDArray[np.float64]] | None:
    """Read an object that holds rows of numbers under a name, and a few plain fields; None where it is anything else.

    Returns the other fields, and the rows, float64 (rows, columns).
    """
    if b'"%b"' % name.encode() not in body:
        return None
    return read_rows(body, name) if len(body) <= LARGE_BODY_BYTES else read_many_rows(body, name)


def read_json(body: bytes) -> Any:
    """Read a JSON text; NaN, which clients write where a table has a gap, is read as null.

    Raises:
        NotJson: it is none, or holds Infinity or a number that overflows.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in body:
            raise NotJson(error.msg, error.pos) from None
    return _read_with_gaps(body)


def _read_with_gaps(body: bytes) -> Any:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=lambda word: None if word == "NaN" else float(word))
        strict_json.check(value)
    except json.JSONDecodeError as error:
        raise NotJson(error.msg, error.pos) from None
    except UnicodeDecodeError as error:
        raise NotJson("not UTF-8", error.start) from None
    except RecursionError:
        raise NotJson(f"nests deeper than {strict_json.MAX_DEPTH} levels", 0) from None
    except strict_json.NotStrictJson as error:
        raise NotJson(str(error), 0) from None
    except ValueError:  # a number of more than 4300 digits
        raise NotJson("a number with too many digits", 0) from None
    return value


def size_to_read(body: bytes, encoding: str) -> int:
    """Return how large a body counts: a compressed one is large, for nobody knows what comes out of it."""
    return len(body) if encoding in PLAIN else LARGE_BODY_BYTES + 1


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body as it was before it was compressed, by gzip or deflate or not at all.

    Raises:
        Refused: another encoding, bytes that are not of it, or more than the limit come out.
    """
    if encoding in PLAIN:
        return body
    if encoding not in ZLIB_FORMS:
        headers = {"Accept-Encoding": "gzip, deflate"}
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, "Unsupported compression type", headers)
    try:
        return _inflated(body, EITHER_HEADER, limit)
    except zlib.error:
        if encoding == "deflate":
            return _headless(body, limit)
        raise Refused(HTTPStatus.BAD_REQUEST, f"the body is not compressed as {encoding} has it") from None


def _headless(body: bytes, limit: int) -> bytes:
    """Read what some clients send as deflate: without the header that belongs to it."""
    try:
        return _inflated(body, NO_HEADER, limit)
    except zlib.error:
        raise Refused(HTTPStatus.BAD_REQUEST, "the body is not compressed as deflate has it") from None


def _inflated(body: bytes, form: int, limit: int) -> bytes:
    """Inflate one or several members."""
    parts: list[bytes] = []
    size = 0
    while body:
        reader = zlib.decompressobj(form)
        parts.append(reader.decompress(body, limit - size + 1))
        size += len(parts[-1])
        if size > limit:
            detail = f"the body is larger than {limit:,} bytes when it is decompressed; send less at once"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        if not reader.eof:
            raise Refused(HTTPStatus.BAD_REQUEST, "the compressed body ends too early")
        body = reader.unused_data
    return b"".join(parts)


def compress(content: bytes, encoding: str) -> bytes:
    """Compress an answer by gzip or deflate."""
    writer = zlib.compressobj(wbits=ZLIB_FORMS[encoding])
    return writer.compress(content) + writer.flush()


def accepted_encoding(header: str) -> str | None:
    """Return which of gzip and deflate a client prefers, the first named among equals; None where it takes neither."""
    known = [(name, weight) for name, weight in weighted(header) if name in ZLIB_FORMS and weight > 0]
    return max(known, key=lambda item: item[1])[0] if known else None


def weighted(header: str) -> Iterator[tuple[str, float]]:
    """Read what a client accepts, in its order, with the weight of each."""
    for item in header.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        yield name, _weight(parameters)


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
