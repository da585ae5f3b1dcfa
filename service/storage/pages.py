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


def fetch(connection: Connection, query: Select[Any], number: Any, page: PageRequest) -> tuple[list[RowMapping], str | None]:
    """Run a query for one page; ``number`` is the column that orders the list."""
    size = min(max(page.size, 1), MAX_PAGE_SIZE)
    if page.token is not None:
        query = query.where(number < _decode(page.token))
    rows = list(connection.execute(query.order_by(number.desc()).limit(size + 1)).mappings())
    more = len(rows) > size
    return rows[:size], _encode(rows[size - 1]["number"]) if more else None


def _encode(number: int) -> str:
    return base64.urlsafe_b64encode(b"before:%d" % number).decode().rstrip("=")


def _decode(token: str) -> int:
    try:
        word, _, digits = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).partition(b":")
    except (binascii.Error, ValueError):
        raise InvalidPageToken from None
    if word != b"before" or not digits.isdigit() or len(digits) > 18:
        raise InvalidPageToken
    return int(digits)
