import hashlib
import io
import subprocess
import sys
import tempfile
import tracemalloc

import pytest
from sqlalchemy import delete, select, update

from service.domain.datasets import ImportedTable, TableReport
from service.domain.errors import CorruptBlob, UnknownDataset
from service.storage import blobs, datasets
from service.storage.database import Database
from service.storage.tables import blob_parts, jobs
from service.storage.tables import blobs as blob_table
from tests.factories import stored_job
from tests.patience import PATIENCE_SECONDS

CONTENT = bytes(range(256)) * 4096 * 5 + b"the end"


def stored_parts(database: Database, sha256: str) -> int:
    with database.read() as connection:
        return len(connection.execute(select(blob_parts.c.part).where(blob_parts.c.sha256 == sha256)).all())


def test_file_is_stored_like_bytes(database: Database) -> None:
    with database.write() as connection:
        sha256 = blobs.put(connection, CONTENT)
        connection.execute(delete(blob_table).where(blob_table.c.sha256 == sha256))
        file = io.BytesIO(CONTENT)
        file.seek(100)
        blobs.put_file(connection, file, sha256, len(CONTENT))
        blobs.put_file(connection, file, sha256, len(CONTENT))
    assert stored_parts(database, sha256) == 6
    with database.read() as connection:
        assert blobs.get(connection, sha256) == CONTENT
        copied = io.BytesIO()
        blobs.copy_to(connection, sha256, copied)
    assert copied.tell() == 0
    assert copied.read() == CONTENT


def test_file_without_its_hash_leaves_nothing(database: Database) -> None:
    table = ImportedTable(1, (), TableReport(), "0" * 64, len(CONTENT))
    with pytest.raises(CorruptBlob), database.write() as connection:
        datasets.add_imported(connection, "mine", "mine", table, io.BytesIO(CONTENT))
    assert stored_parts(database, "0" * 64) == 0
    with database.read() as connection, pytest.raises(UnknownDataset):
        datasets.get(connection, "mine")


def test_damaged_or_missing_part_is_an_alarm(database: Database) -> None:
    with database.write() as connection:
        sha256 = blobs.put(connection, CONTENT)
    third = (blob_parts.c.sha256 == sha256) & (blob_parts.c.part == 2)
    with database.write() as connection:
        connection.execute(update(blob_parts).where(third).values(data=b"x" * blobs.PART_BYTES))
    with database.read() as connection, pytest.raises(CorruptBlob):
        blobs.copy_to(connection, sha256, io.BytesIO())
    with database.write() as connection:
        connection.execute(delete(blob_parts).where(third))
    with database.read() as connection, pytest.raises(CorruptBlob):
        blobs.copy_to(connection, sha256, io.BytesIO())


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damaged_file_is_mended_by_storing_it_again(database: Database, damage: str) -> None:
    with database.write() as connection:
        sha256 = blobs.put(connection, CONTENT)
        third = (blob_parts.c.sha256 == sha256) & (blob_parts.c.part == 2)
        changed = update(blob_parts).where(third).values(data=b"x" * blobs.PART_BYTES)
        connection.execute(changed if damage == "changed" else delete(blob_parts).where(third))
    with database.write() as connection:
        assert blobs.put(connection, CONTENT) == sha256
    with database.read() as connection:
        assert blobs.get(connection, sha256) == CONTENT


def test_large_file_goes_in_and_out_in_little_memory(database: Database) -> None:
    size = 64 << 20
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as copied:
        digest = hashlib.sha256()
        for number in range(64):
            piece = number.to_bytes(4, "big") * (1 << 18)
            digest.update(piece)
            file.write(piece)
        tracemalloc.start()
        try:
            with database.write() as connection:
                blobs.put_file(connection, file, digest.hexdigest(), size)
            with database.read() as connection:
                blobs.copy_to(connection, digest.hexdigest(), copied)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert copied.seek(0, 2) == size
    assert peak < 24 << 20


def test_blob_of_a_split_stays_while_its_job_does(database: Database) -> None:
    job_id = stored_job(database)
    with database.write() as connection:
        sha256 = blobs.put(connection, b"split")
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(split_sha256=sha256))
        blobs.delete_unused(connection, sha256)
        assert blobs.get(connection, sha256) == b"split"
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(split_sha256=None))
        blobs.delete_unused(connection, sha256)
    assert stored_parts(database, sha256) == 0


WITH_A_QUOTA = """
import resource, signal, sys
from service.storage import blobs
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN, is_full
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try:
    with Database(sys.argv[1]).write() as connection:
        blobs.put(connection, bytes(5_000_000))
except DATABASE_DOWN as error:
    print(is_full(error))
"""


def test_file_that_may_not_grow_is_a_full_disk(sqlite_database: Database) -> None:
    command = [sys.executable, "-c", WITH_A_QUOTA, str(sqlite_database.engine.url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert done.stdout == "True\n"
