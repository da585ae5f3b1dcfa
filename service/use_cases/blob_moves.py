"""Bring blobs to where they should be: from the database into the object store, or back."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from service.domain.errors import CorruptBlob
from service.storage import blobs
from service.storage.database import Database


@dataclass(frozen=True, slots=True)
class Move:
    """A blob that was to be moved; ``is_sound`` is false where it is missing or damaged, and stays where it is."""

    sha256: str
    size_bytes: int
    is_sound: bool


def move_blobs(database: Database, *, to_store: bool) -> Iterator[Move]:
    """Move one blob after the other, each in a session of its own, while the service runs; it may end anywhere.

    Raises:
        ObjectStoreDown: the store does not answer; what has been moved is there.
    """
    after = ""
    while True:
        with database.read() as connection:
            found = blobs.next_to_move(connection, after, to_store=to_store)
        if found is None:
            return
        after, size_bytes = found
        yield Move(after, size_bytes, _move(database, after, size_bytes, to_store=to_store))


def _move(database: Database, sha256: str, size_bytes: int, *, to_store: bool) -> bool:
    with tempfile.TemporaryFile() as temporary:
        file = cast("BinaryIO", temporary)
        try:
            with database.read() as connection:
                blobs.copy_to(connection, sha256, file)
        except CorruptBlob:
            with database.read() as connection:
                return not blobs.sizes(connection, [sha256])  # deleted meanwhile
        blobs.move(database, blobs.FileContent(file, sha256, size_bytes), to_store=to_store)
    return True
