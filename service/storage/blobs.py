"""Files addressed by the hash of their content: in the database in rows of 1 MiB, or in an object store.

No session that writes waits for the store: what it is to keep is put there before the session begins, by ``put_ahead``
or ``writing``, and what was not goes into the database, where ``move`` finds it.
"""

import hashlib
import io
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy import Connection, delete, insert, literal, select, update

from service.domain.errors import CorruptBlob
from service.storage import loose_objects
from service.storage.database import OBJECTS, Database, Objects, upsert
from service.storage.object_store import NoObjectStore, NoSuchObject, ObjectStore, ObjectStoreDown
from service.storage.tables import blob_parts, blobs, checkpoints, datasets, jobs, model_versions

PART_BYTES = 1 << 20
PARTS_AT_ONCE = 4
"""How many parts of a blob are in memory while it is read."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file that is to become a blob."""

    file: BinaryIO
    sha256: str
    size_bytes: int


Content = bytes | FileContent


@contextmanager
def writing(database: Database, *contents: Content, needs_store: bool = True) -> Iterator[Connection]:
    """Open a writing session that stores these bytes among others.

    Raises:
        ObjectStoreDown: there is a store, and it does not answer; where ``needs_store`` is false, the bytes go into the
            database instead.
    """
    try:
        informed = put_ahead(database, *contents)
    except ObjectStoreDown:
        if needs_store:
            raise
        informed = database
    with informed.write() as connection:
        yield connection


def put_ahead(database: Database, *contents: Content) -> Database:
    """Put bytes into the object store, where there is one, and return the database whose sessions know of them.

    Whatever becomes of those sessions, nothing needs to be undone: see ``loose_objects``.

    Raises:
        ObjectStoreDown: the store does not answer.
        CorruptBlob: a file does not have its hash.
    """
    if database.objects is None:
        return database
    keys: dict[str, str] = {}
    for content in contents:
        file = _file_of(content) if isinstance(content, bytes) else content
        if file.size_bytes and file.sha256 not in keys:
            keys[file.sha256] = _put_object(database, database.objects.store, file)
    return database.with_keys(keys)


def put(connection: Connection, content: bytes) -> str:
    """Store bytes and return their sha256; the same content is stored once."""
    file = _file_of(content)
    put_file(connection, file.file, file.sha256, file.size_bytes)
    return file.sha256


def put_file(connection: Connection, file: BinaryIO, sha256: str, size_bytes: int) -> None:
    """Store a file under its hash, a part at a time; the same content is stored once, and again where it was damaged.

    Raises:
        CorruptBlob: the file does not have this hash.
    """
    new = upsert(connection, blobs).values(sha256=sha256, size_bytes=size_bytes)
    # An update that changes nothing holds the row, so that nobody deletes it before this session ends.
    held = new.on_conflict_do_update(index_elements=[blobs.c.sha256], set_={"size_bytes": size_bytes})
    stands = connection.execute(held.returning(blobs.c.object_key)).scalar_one()
    objects = _objects(connection)
    key = None if objects is None else objects.keys.get(sha256)
    if key is not None and (key == stands or loose_objects.take(connection, key)):
        _refer(connection, sha256, stands, key)
        return
    if stands is None and _is_whole(connection, sha256):
        return
    _refer(connection, sha256, stands, None)
    for part, data in enumerate(_checked_pieces(FileContent(file, sha256, size_bytes))):
        connection.execute(insert(blob_parts).values(sha256=sha256, part=part, data=data))


def get(connection: Connection, sha256: str) -> bytes:
    """Read the bytes that have this hash.

    Raises:
        CorruptBlob: they are missing or do not have it.
        ObjectStoreDown: they are in an object store, which does not answer.
    """
    return b"".join(_checked_parts(connection, sha256))


def copy_to(connection: Connection, sha256: str, file: BinaryIO) -> None:
    """Write the bytes that have this hash to a file, a few parts at a time; the file stands at its start afterwards.

    Raises:
        CorruptBlob: they are missing or do not have it; what the file holds then is not to be used.
        ObjectStoreDown: they are in an object store, which does not answer.
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
    if any(connection.execute(query.limit(1)).first() for query in users):
        return
    key = connection.execute(delete(blobs).where(blobs.c.sha256 == sha256).returning(blobs.c.object_key)).scalar()
    if key is not None:
        loose_objects.let_go(connection, key)


def next_to_move(connection: Connection, after: str, *, to_store: bool) -> tuple[str, int] | None:
    """Return hash and size of the next blob that is not where it should be; None after the last one."""
    is_elsewhere = (
        blobs.c.object_key.is_(None) & (blobs.c.size_bytes > 0) if to_store else blobs.c.object_key.is_not(None)
    )
    query = select(blobs.c.sha256, blobs.c.size_bytes).where(blobs.c.sha256 > after, is_elsewhere)
    row = connection.execute(query.order_by(blobs.c.sha256).limit(1)).first()
    return None if row is None else (row.sha256, row.size_bytes)


def move(database: Database, content: FileContent, *, to_store: bool) -> None:
    """Put a blob where it should be, unless it has been deleted meanwhile."""
    informed = put_ahead(database, content) if to_store else database
    with informed.write(alone=True) as connection:
        held = select(blobs.c.sha256).where(blobs.c.sha256 == content.sha256).with_for_update()
        if connection.execute(held).first() is not None:
            put_file(connection, content.file, content.sha256, content.size_bytes)


def _put_object(database: Database, store: ObjectStore, content: FileContent) -> str:
    """Return the key of an object that holds a file, and put it there where there is none."""
    with database.read() as connection:
        query = select(blobs.c.object_key).where(blobs.c.sha256 == content.sha256)
        stands: str | None = connection.execute(query).scalar()
    if stands is not None and _ends_well(_checked(_object_parts(store, stands, content.size_bytes), content.sha256)):
        return stands
    with loose_objects.announced(database, content.sha256) as key:
        store.put(key, _checked_pieces(content), content.size_bytes)
    return key


def _refer(connection: Connection, sha256: str, before: str | None, key: str | None) -> None:
    """Say where a blob is from now on; None stands for the database, whose rows of it are still to come."""
    connection.execute(delete(blob_parts).where(blob_parts.c.sha256 == sha256))
    if key != before:
        connection.execute(update(blobs).where(blobs.c.sha256 == sha256).values(object_key=key))
        if before is not None:
            loose_objects.let_go(connection, before)


def _file_of(content: bytes) -> FileContent:
    return FileContent(io.BytesIO(content), hashlib.sha256(content).hexdigest(), len(content))


def _checked_pieces(content: FileContent) -> Iterator[bytes]:
    """Read a file from its start, in parts; the end is reached only where it has its hash."""
    content.file.seek(0)
    return _checked(iter(lambda: content.file.read(PART_BYTES), b""), content.sha256)


def _checked_parts(connection: Connection, sha256: str) -> Iterator[bytes]:
    """Read a blob's parts in order; the end is reached only where all of them have the hash."""
    query = select(blobs.c.object_key, blobs.c.size_bytes).where(blobs.c.sha256 == sha256)
    row = connection.execute(query).first()
    if row is None or row.object_key is None:
        return _checked(_rows(connection, sha256), sha256)
    objects = _objects(connection)
    if objects is None:
        raise NoObjectStore("these bytes are in an object store, and SELFNORM_BLOB_URL names none")

    def stay() -> None:
        """Speak to the database, which ends a session that is idle for long."""
        connection.execute(select(literal(1)))

    return _checked(_object_parts(objects.store, row.object_key, row.size_bytes, stay), sha256)


def _rows(connection: Connection, sha256: str) -> Iterator[bytes]:
    query = select(blob_parts.c.data).where(blob_parts.c.sha256 == sha256).order_by(blob_parts.c.part)
    yield from connection.execute(query.execution_options(yield_per=PARTS_AT_ONCE)).scalars()


def _object_parts(
    store: ObjectStore, key: str, size_bytes: int, between: Callable[[], None] = lambda: None
) -> Iterator[bytes]:
    """Read an object; one that is not there, or is not as long, has no parts, and so not the hash of its blob."""
    try:
        for piece in store.read(key, size_bytes):
            between()
            yield piece
    except NoSuchObject:
        return


def _checked(parts: Iterator[bytes], sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for data in parts:
        digest.update(data)
        yield data
    if digest.hexdigest() != sha256:
        raise CorruptBlob(sha256)


def _is_whole(connection: Connection, sha256: str) -> bool:
    return _ends_well(_checked_parts(connection, sha256))


def _ends_well(parts: Iterator[bytes]) -> bool:
    try:
        for _ in parts:
            pass
    except CorruptBlob:
        return False
    return True


def _objects(connection: Connection) -> Objects | None:
    objects: Objects | None = connection.get_execution_options().get(OBJECTS)
    return objects
