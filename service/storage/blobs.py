"""Files in the database, addressed by the hash of their content, in rows of 1 MiB."""

import hashlib
import io
from collections.abc import Collection, Iterator
from typing import BinaryIO

from sqlalchemy import Connection, delete, insert, select

from service.domain.errors import CorruptBlob
from service.storage.database import upsert
from service.storage.tables import blob_parts, blobs, checkpoints, datasets, jobs, model_versions

PART_BYTES = 1 << 20
PARTS_AT_ONCE = 4
"""How many parts of a blob are in memory while it is read."""


def put(connection: Connection, content: bytes) -> str:
    """Store bytes and return their sha256; the same content is stored once."""
    sha256 = hashlib.sha256(content).hexdigest()
    put_file(connection, io.BytesIO(content), sha256, len(content))
    return sha256


def put_file(connection: Connection, file: BinaryIO, sha256: str, size_bytes: int) -> None:
    """Store a file under its hash, a part at a time; the same content is stored once, and again where it was damaged.

    Raises:
        CorruptBlob: the file does not have this hash.
    """
    new = upsert(connection, blobs).values(sha256=sha256, size_bytes=size_bytes)
    # An update that changes nothing holds the row, so that nobody deletes it before this session ends.
    held = new.on_conflict_do_update(index_elements=[blobs.c.sha256], set_={"size_bytes": size_bytes})
    connection.execute(held)
    if _is_whole(connection, sha256):
        return
    connection.execute(delete(blob_parts).where(blob_parts.c.sha256 == sha256))
    file.seek(0)
    digest = hashlib.sha256()
    for part, data in enumerate(iter(lambda: file.read(PART_BYTES), b"")):
        digest.update(data)
        connection.execute(insert(blob_parts).values(sha256=sha256, part=part, data=data))
    if digest.hexdigest() != sha256:
        raise CorruptBlob(sha256)


def get(connection: Connection, sha256: str) -> bytes:
    """Read the bytes that have this hash.

    Raises:
        CorruptBlob: they are missing or do not have it.
    """
    return b"".join(_checked_parts(connection, sha256))


def copy_to(connection: Connection, sha256: str, file: BinaryIO) -> None:
    """Write the bytes that have this hash to a file, a few parts at a time; the file stands at its start afterwards.

    Raises:
        CorruptBlob: they are missing or do not have it; what the file holds then is not to be used.
    """
    for data in _checked_parts(connection, sha256):
        file.write(data)
    file.seek(0)


def sizes(connection: Connection, hashes: Collection[str]) -> dict[str, int]:
    """Return how many bytes some blobs have; one that is missing is left out."""
    query = select(blobs.c.sha256, blobs.c.size_bytes).where(blobs.c.sha256.in_(hashes))
    return {row.sha256: row.size_bytes for row in connection.execute(query)}


def delete_unused(connection: Connection, sha256: str) -> None:
    """Delete a blob unless a data set, a job, a checkpoint or a model still needs it."""
    connection.execute(select(blobs.c.sha256).where(blobs.c.sha256 == sha256).with_for_update())
    users = (
        select(datasets.c.id).where(datasets.c.sha256 == sha256),
        select(jobs.c.id).where(jobs.c.split_sha256 == sha256),
        select(jobs.c.id).where(jobs.c.result_sha256 == sha256),
        select(checkpoints.c.job_id).where(checkpoints.c.sha256 == sha256),
        select(model_versions.c.name).where(model_versions.c.weights_sha256 == sha256),
        select(model_versions.c.name).where(model_versions.c.onnx_sha256 == sha256),
        select(model_versions.c.name).where(model_versions.c.keras_sha256 == sha256),
    )
    if not any(connection.execute(query.limit(1)).first() for query in users):
        connection.execute(delete(blobs).where(blobs.c.sha256 == sha256))


def _is_whole(connection: Connection, sha256: str) -> bool:
    try:
        for _ in _checked_parts(connection, sha256):
            pass
    except CorruptBlob:
        return False
    return True


def _checked_parts(connection: Connection, sha256: str) -> Iterator[bytes]:
    """Read a blob's parts in order; the end is reached only where all of them have the hash."""
    query = select(blob_parts.c.data).where(blob_parts.c.sha256 == sha256).order_by(blob_parts.c.part)
    digest = hashlib.sha256()
    for data in connection.execute(query.execution_options(yield_per=PARTS_AT_ONCE)).scalars():
        digest.update(data)
        yield data
    if digest.hexdigest() != sha256:
        raise CorruptBlob(sha256)
