"""Stored bytes, copied out for a client that takes its time."""

import tempfile
from typing import BinaryIO, cast

from service.storage import blobs
from service.storage.database import Database


def copy_out(database: Database, sha256: str) -> BinaryIO:
    """Return the bytes that have this hash in a temporary file, which stands at its start and is the caller's to close.

    Their hash is checked before anybody gets a byte of them, and no session is held while a client takes them in.

    Raises:
        CorruptBlob: they are missing or damaged.
    """
    file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115  # the caller closes it
    try:
        with database.read() as connection:
            blobs.copy_to(connection, sha256, file)
    except BaseException:
        file.close()
        raise
    return file
