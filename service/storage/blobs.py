"""Files in the database, addressed by the hash of their content, in rows of 1 MiB."""

import hashlib

from sqlalchemy import Connection, delete, insert, select

from service.domain.errors import CorruptBlob
from service.storage.database import upsert
from service.storage.tables import blob_parts, blobs, datasets, model_versions

PART_BYTES = 1 << 20


def put(connection: Connection, content: bytes) -> str:
    """Store bytes and return their sha256; the same content is stored once."""
    sha256 = hashlib.sha256(content).hexdigest()
    new = upsert(connection, blobs).values(sha256=sha256, size_bytes=len(content))
    # An update that changes nothing holds the row, so that nobody deletes it before this session ends.
    held = new.on_conflict_do_update(index_elements=[blobs.c.sha256], set_={"size_bytes": len(content)})
    connection.execute(held)
    if connection.execute(select(blob_parts.c.part).where(blob_parts.c.sha256 == sha256).limit(1)).first():
        return sha256
    for part, start in enumerate(range(0, len(content), PART_BYTES)):
        values = {"sha256": sha256, "part": part, "data": content[start : start + PART_BYTES]}
        connection.execute(insert(blob_parts).values(values))
    return sha256


def get(connection: Connection, sha256: str) -> bytes:
    """Read the bytes that have this hash.

    Raises:
        CorruptBlob: they are missing or do not have it.
    """
    query = select(blob_parts.c.data).where(blob_parts.c.sha256 == sha256).order_by(blob_parts.c.part)
    content = b"".join(connection.execute(query).scalars())
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptBlob(sha256)
    return content


def delete_unused(connection: Connection, sha256: str) -> None:
    """Delete a blob unless a data set or a model still needs it."""
    connection.execute(select(blobs.c.sha256).where(blobs.c.sha256 == sha256).with_for_update())
    users = (
        select(datasets.c.id).where(datasets.c.sha256 == sha256),
        select(model_versions.c.name).where(model_versions.c.weights_sha256 == sha256),
        select(model_versions.c.name).where(model_versions.c.onnx_sha256 == sha256),
    )
    if not any(connection.execute(query.limit(1)).first() for query in users):
        connection.execute(delete(blobs).where(blobs.c.sha256 == sha256))
