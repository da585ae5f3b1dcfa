"""Read JSON strictly: what Python's reader lets pass and a database or a network cannot hold is refused."""

import json
import math
import re
from typing import Any

from service.domain.errors import MalformedRequest
from service.domain.wording import shown

MAX_DEPTH = 16
NUMBERS = frozenset({int, float})
MOST_BYTES = 120_000_000
"""So much the arrays and objects of one text may take once they are read."""
ARRAY_BYTES, OBJECT_BYTES = 150, 240
"""What a short one takes, however few bytes of the text it is."""

_BLANKS = re.compile(r"[ \t\r\n]*")


class NotStrictJson(Exception):
    """A text that is no strict JSON; the message goes on after the name of what it was read from."""


def loads(body: bytes) -> Any:
    """Read a UTF-8 JSON text.

    Raises:
        MalformedRequest: it is empty or no JSON, nests deeper than 16, repeats a key, or holds NaN, Infinity, a number
            that overflows, a lone surrogate or NUL.
    """
    if not body.strip():
        raise MalformedRequest("the body is empty; send a JSON object")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the body is not UTF-8 at byte {error.start}; send JSON in UTF-8") from None
    try:
        value, end = first_value(text)
        if rest := text[end:].strip(" \t\r\n"):
            raise NotStrictJson(f"is not JSON: it goes on after its end with {shown(rest[:64])}")
        check(value)
    except NotStrictJson as error:
        raise MalformedRequest(f"the body {error}") from None
    return value


def crowd(body: bytes) -> str | None:
    """Say of a text that it holds more arrays and objects than are read at once; brackets in its words count, too."""
    arrays, objects = body.count(b"["), body.count(b"{")
    if arrays * ARRAY_BYTES + objects * OBJECT_BYTES <= MOST_BYTES:
        return None
    most = f"{MOST_BYTES // ARRAY_BYTES:,} arrays, {MOST_BYTES // OBJECT_BYTES:,} objects, or some of both"
    return f"the JSON holds {arrays:,} arrays and {objects:,} objects; at most {most} are read at once"


def first_value(text: str, start: int = 0) -> tuple[Any, int]:
    """Read the first JSON value of a text that may go on, and say where it ends; what it holds is not checked yet.

    Raises:
        NotStrictJson: there is none, or it repeats a key, or holds NaN, Infinity or a number of thousands of digits.
    """
    try:
        return _DECODER.raw_decode(text, after_blanks(text, start))
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise NotStrictJson(f"nests deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # a number of more than 4300 digits
        raise NotStrictJson("holds a number with too many digits") from None


def after_blanks(text: str, start: int) -> int:
    """Return where the blanks end that begin at a place."""
    blanks = _BLANKS.match(text, start)
    assert blanks is not None
    return blanks.end()


def check(value: Any) -> None:
    """Look through a value that was read.

    Raises:
        NotStrictJson: it nests deeper than 16, or holds a number that overflows, a lone surrogate or NUL.
    """
    _check(value, 1)


def check_text(text: str) -> None:
    """Look through a text that was read.

    Raises:
        NotStrictJson: it holds a lone surrogate or NUL.
    """
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise NotStrictJson("holds a lone surrogate, which is no character; send valid Unicode") from None
    if "\0" in text:
        raise NotStrictJson("holds a NUL character; leave it out")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise NotStrictJson(f"has an object with the key {shown(repeated)} twice")
    return found


def _refuse_constant(word: str) -> None:
    raise NotStrictJson(f"holds {word}, which is no JSON; send a number or null")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is float or kind is int:
        _check_numbers([value])
    elif kind is str:
        check_text(value)
    elif kind is list:
        _check_depth(depth)
        if NUMBERS.issuperset(map(type, value)):
            _check_numbers(value)
        else:
            for item in value:
                _check(item, depth + 1)
    elif kind is dict:
        _check_depth(depth)
        for name, item in value.items():
            check_text(name)
            _check(item, depth + 1)


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotStrictJson(f"nests deeper than {MAX_DEPTH} levels")


def _check_numbers(values: list[Any]) -> None:
    try:
        finite = all(map(math.isfinite, values))
    except OverflowError:
        finite = False
    if not finite:
        raise NotStrictJson("holds a number beyond ±1.8e308 (float64)")
