"""Small JSON bodies of any content, read fast where nothing about them is odd.

As in ``number_bodies``, whatever is unusual or wrong is left to the strict reader, which says what.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson


def read_fields(body: bytes) -> dict[str, Any] | None:
    """Read an object whose values are plain, or lists of lists or of objects of plain values; None where it is not."""
    if body[:1] != b"{" or b"\\" in body:  # escapes could hide what is counted below, or NUL
        return None
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return fields if _counts_agree(body, fields) else None


def _counts_agree(body: bytes, fields: dict[str, Any]) -> bool:
    """Whether no key came twice: then there are as many colons as keys, beside those that the texts hold."""
    rows = [row for value in fields.values() if type(value) is list for row in value]
    objects = [row for row in rows if type(row) is dict]
    colons = body.count(b":") - len(fields) - sum(map(len, objects))
    return not colons or colons == sum(text.count(":") for text in _texts(fields, rows))


def _texts(fields: dict[str, Any], rows: list[Any]) -> Iterator[str]:
    for part in (fields, *rows):
        if type(part) is dict:
            yield from part
            part = part.values()
        if type(part) is not str:
            yield from (cell for cell in part if type(cell) is str) if isinstance(part, Iterable) else ()
        else:
            yield part
