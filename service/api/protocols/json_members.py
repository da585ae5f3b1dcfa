"""Typed looks into a JSON document; what is not as expected is refused as Triton refuses it."""

from http import HTTPStatus
from typing import Any

from service.api.rephrasing import Refused

WORDS: dict[type, str] = {str: "string", list: "array", dict: "object", bool: "boolean", int: "unsigned-integer"}


def member(holder: dict[str, Any], name: str, kind: type) -> Any:
    """Return a member of an object, which must be there and of a kind.

    Raises:
        Refused: it is not.
    """
    if name not in holder:
        text = f"Unable to parse '{name}': attempt to access non-existing object member '{name}'"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    return of_kind(holder[name], name, kind)


def of_kind(value: Any, name: str, kind: type) -> Any:
    """Return a value, which must be of a kind; a number must not be below 0.

    Raises:
        Refused: it is not.
    """
    if type(value) is not kind or (type(value) is int and value < 0):
        word = WORDS[kind]
        raise Refused(HTTPStatus.BAD_REQUEST, f"Unable to parse '{name}': attempt to access JSON non-{word} as {word}")
    return value


def parameters_of(holder: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request, an input or an output; none where there are none.

    Raises:
        Refused: they are not an object.
    """
    parameters: dict[str, Any] = {}
    if holder.get("parameters") is not None:
        parameters = member(holder, "parameters", dict)
    return parameters


def flag(parameters: dict[str, Any], name: str) -> bool:
    """Return a parameter that is true or false, or false where it is not there.

    Raises:
        Refused: it is something else.
    """
    return bool(member(parameters, name, bool)) if name in parameters else False
