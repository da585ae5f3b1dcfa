"""Lists in pages, newest first, by the number that every row of a list counts up."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, RowMapping, Select

from service.domain.errors import InvalidPageToken

Item = TypeVar("Item")

MAX_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page: how many items, and the token that the page before gave."""

    size: int = 50
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list, and the token of the next page where there is one."""

    items: list[Item]
    next_token: str | None


def clamp(size: int) -> int:
    """Return a page size within bounds."""
    return min(max(size, 1), MAX_PAGE_SIZE)


def fetch(
    connection: Connection, query: Select[Any], number: Any, page: PageRequest
) -> tuple[list[RowMapping], str | None]:
    """Run a query for one page; ``number`` is the column that orders the list.

    Raises:
        InvalidPageToken: the token is not one of a list.
    """
    size = clamp(page.size)
    if page.token is not None:
        query = query.where(number < _decode("before", page.token))
    rows = list(connection.execute(query.order_by(number.desc()).limit(size + 1)).mappings())
    more = len(rows) > size
    return rows[:size], _encode("before", rows[size - 1]["number"]) if more else None


def offset(page: PageRequest) -> int:
    """Return where a page of something that never changes starts.

    Raises:
        InvalidPageToken: the token is not one of rows.
    """
    return 0 if page.token is None else _decode("from", page.token)


def offset_token(start: int) -> str:
    """Return the token of the page that starts there."""
    return _encode("from", start)


def _encode(word: str, number: int) -> str:
    return base64.urlsafe_b64encode(f"{word}:{number}".encode()).decode().rstrip("=")


def _decode(expected: str, token: str) -> int:
    try:
        word, _, digits = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).partition(
            b":"
        )
    except (binascii.Error, ValueError):
        raise InvalidPageToken from None
    if word != expected.encode() or not digits.isdigit() or len(digits) > 18:
        raise InvalidPageToken
    return int(digits)
