"""A request that makes something makes it once, however often it comes under the same key."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.domain.errors import IdempotencyKeyReused
from service.storage import idempotency
from service.storage.database import Connection, Database
from service.storage.idempotency import KeptKey
from service.storage.idempotency import StoredAnswer as StoredAnswer

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request whose client has given it a key; ``sha256`` is of all that it asks for."""

    owner: str
    """Whose key it is: two owners may choose the same."""
    key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Made]):
    """What to answer, and what was made for it; nothing where the answer is an earlier one."""

    answer: StoredAnswer
    made: Made | None

    @property
    def replayed(self) -> bool:
        """Whether it has been answered before."""
        return self.made is None


def once(
    database: Database,
    request: KeyedRequest | None,
    make: Callable[[Connection], Made],
    answer: Callable[[Made], StoredAnswer],
    *,
    takes_long: bool = False,
) -> Outcome[Made]:
    """Make something and keep its answer, in one session, unless the request has been answered before.

    Where the making raises, nothing is kept, and the key is free again. A request without a key is always new.

    Raises:
        IdempotencyKeyReused: another request came under this key.
    """
    with database.write(alone=takes_long) as connection:
        if request is None:
            made = make(connection)
            return Outcome(answer(made), made)
        while not idempotency.reserve(connection, request.key, request.sha256):
            # On PostgreSQL a key may be forgotten between these two; then it is free.
            if kept := idempotency.find(connection, request.key):
                return Outcome(_same(request, kept), None)
        made = make(connection)
        given = answer(made)
        idempotency.keep(connection, request.key, given)
        return Outcome(given, made)


def replay(database: Database, request: KeyedRequest | None) -> Outcome[Any] | None:
    """Look for an earlier answer, before making something that costs much; None where it is to be made.

    Raises:
        IdempotencyKeyReused: another request came under this key.
    """
    if request is None:
        return None
    with database.read() as connection:
        kept = idempotency.find(connection, request.key)
    return None if kept is None else Outcome(_same(request, kept), None)


def _same(request: KeyedRequest, kept: KeptKey) -> StoredAnswer:
    if kept.request_sha256 != request.sha256:
        raise IdempotencyKeyReused(request.key)
    return kept.answer
