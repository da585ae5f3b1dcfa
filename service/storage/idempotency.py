"""Answers to POSTs that made something, by the key that their clients chose."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.exc import OperationalError

from service.domain.errors import RequestStillRunning
from service.storage.database import database_time, upsert
from service.storage.faults import is_locked
from service.storage.owners import mine, owner_of
from service.storage.tables import idempotency_keys

KEPT_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it can be given again, byte for byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class KeptKey:
    """What is known of a key: the hash of its request, and how that was answered."""

    request_sha256: str
    answer: StoredAnswer


def reserve(connection: Connection, key: str, request_sha256: str) -> bool:
    """Take a key for the rest of this session; False where it has been used.

    While another session holds the key, this waits for its end: on PostgreSQL here, on SQLite where a writing session
    begins. One that fails sets the key free again.

    Raises:
        RequestStillRunning: on PostgreSQL, the other session took too long.
    """
    values = {"owner": owner_of(connection), "key": key, "request_sha256": request_sha256}
    new = upsert(connection, idempotency_keys).values(values)
    taken = new.on_conflict_do_nothing(index_elements=["owner", "key"]).returning(idempotency_keys.c.key)
    try:
        return connection.execute(taken).first() is not None
    except OperationalError as error:
        if is_locked(error):
            raise RequestStillRunning(key) from None
        raise


def find(connection: Connection, key: str) -> KeptKey | None:
    """Read what was answered under a key; None where it is free."""
    query = select(idempotency_keys).where(mine(connection, idempotency_keys), idempotency_keys.c.key == key)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    return KeptKey(row["request_sha256"], StoredAnswer(row["status"], row["headers"], row["body"]))


def keep(connection: Connection, key: str, answer: StoredAnswer) -> None:
    """Store the answer under a key that this session has reserved."""
    values = {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
    which = (mine(connection, idempotency_keys), idempotency_keys.c.key == key)
    connection.execute(update(idempotency_keys).where(*which).values(values))


def purge(connection: Connection) -> None:
    """Forget everybody's keys that are older than a week; each is free again."""
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at < database_time(-KEPT_SECONDS)))
