"""Objects of the store that no blob refers to: just put, or no longer needed. Only these are ever removed from it.

A key is never used twice. It is written here, in a session of its own, before its object is put; the session in which a
blob refers to it takes it out; the one in which the blob goes puts it back. Whoever removes objects first says so here,
after which nobody can take them out any more: a blob never refers to an object that is removed. See ADR 0031.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Select, delete, insert, select, update

from service.storage.database import Database, database_time
from service.storage.object_store import LEAST_KEEP_SECONDS, ObjectStore, ObjectStoreDown
from service.storage.tables import loose_objects

MOST_AT_ONCE = 500


@contextmanager
def announced(database: Database, sha256: str) -> Iterator[str]:
    """Give a new key for a blob's object, which is to be put within the block.

    Raises:
        ObjectStoreDown: that took so long that the object may be on its way out.
    """
    key = f"{sha256[:2]}/{sha256}-{secrets.token_hex(8)}"
    began = time.monotonic()
    with database.write() as connection:
        connection.execute(insert(loose_objects).values(key=key))
    yield key
    if time.monotonic() - began > LEAST_KEEP_SECONDS / 2:
        # Had it been removed before it was put whole, nobody would know of it any more.
        with database.write() as connection:
            connection.execute(delete(loose_objects).where(loose_objects.c.key == key))
            connection.execute(insert(loose_objects).values(key=key, is_leaving=True))
        raise ObjectStoreDown("it took too long to store an object")


def take(connection: Connection, key: str) -> bool:
    """Take a key for a blob that is to refer to it; whether that is still possible."""
    mine = loose_objects.c.key == key, loose_objects.c.is_leaving.is_(False)
    return connection.execute(delete(loose_objects).where(*mine)).rowcount == 1


def let_go(connection: Connection, key: str) -> None:
    """Say that no blob refers to a key any more."""
    connection.execute(insert(loose_objects).values(key=key))


def sweep(database: Database, store: ObjectStore) -> int:
    """Remove the objects that have been loose for long enough; return how many that were.

    It may end anywhere, and any number may run at once: what is said to leave leaves in the next sweep.

    Raises:
        ObjectStoreDown: the store does not answer; the next sweep goes on.
    """
    is_due = loose_objects.c.is_leaving | (loose_objects.c.since < database_time(-store.keep_seconds))
    oldest = select(loose_objects.c.key).where(is_due).order_by(loose_objects.c.since).limit(MOST_AT_ONCE)
    removed = 0
    while keys := _keys(database, oldest):
        with database.write() as connection:
            leaving = update(loose_objects).where(loose_objects.c.key.in_(keys), is_due).values(is_leaving=True)
            keys = list(connection.execute(leaving.returning(loose_objects.c.key)).scalars())
        if keys:
            store.remove(keys)
        with database.write() as connection:
            connection.execute(delete(loose_objects).where(loose_objects.c.key.in_(keys)))
        removed += len(keys)
    return removed


def _keys(database: Database, query: Select[str]) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(query).scalars())
