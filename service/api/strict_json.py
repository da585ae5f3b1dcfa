"""Read JSON strictly: what Python's reader lets pass and a database or a network cannot hold is refused."""

import json
import math
from typing import Any

from service.domain.bounds import shown
from service.domain.errors import MalformedRequest

MAX_DEPTH = 16
NUMBERS = frozenset({int, float})


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
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise MalformedRequest(
            f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except RecursionError:
        raise MalformedRequest(f"the body nests deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # a number of more than 4300 digits
        raise MalformedRequest("the body holds a number with too many digits") from None
    _check(value, 1)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise MalformedRequest(f"an object has the key {shown(repeated)} twice")
    return found


def _refuse_constant(word: str) -> None:
    raise MalformedRequest(f"the body holds {word}, which is no JSON; send a number or null")


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is float or kind is int:
        _check_numbers([value])
    elif kind is str:
        _check_text(value)
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
            _check_text(name)
            _check(item, depth + 1)


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MalformedRequest(f"the body nests deeper than {MAX_DEPTH} levels")


def _check_numbers(values: list[Any]) -> None:
    try:
        finite = all(map(math.isfinite, values))
    except OverflowError:
        finite = False
    if not finite:
        raise MalformedRequest("the body holds a number beyond ±1.8e308 (float64)")


def _check_text(text: str) -> None:
    if text.isascii():
        if "\0" in text:
            raise MalformedRequest("the body holds a NUL character; leave it out")
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedRequest("the body holds a lone surrogate, which is no character; send valid Unicode") from None
    if "\0" in text:
        raise MalformedRequest("the body holds a NUL character; leave it out")
