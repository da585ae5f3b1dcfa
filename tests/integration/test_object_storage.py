"""Blobs in a real S3-compatible store: what is put, what is read, what is removed, and what happens when it is down."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import obstore
import pytest
from sqlalchemy import select, update

from service.domain.errors import CorruptBlob
from service.domain.owners import DEFAULT_OWNER
from service.storage import blobs, loose_objects
from service.storage.database import Database, database_time
from service.storage.object_store import NoSuchObject, ObjectStore, ObjectStoreDown
from service.storage.tables import blob_parts, jobs
from service.storage.tables import blobs as blob_table
from service.storage.tables import loose_objects as loose_table
from service.use_cases.blob_moves import move_blobs
from tests.chaos.proxy import Proxy
from tests.factories import stored_job
from tests.patience import PATIENCE_SECONDS
from tests.servers import free_port

CONTENT = bytes(range(256)) * 100
LARGE = os.urandom(1 << 20) * 20 + b"the end"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def stored(database_url: str, store: ObjectStore) -> Iterator[Database]:
    """A database whose blobs are in an object store."""
    opened = Database(database_url, store=store)
    yield opened.owned_by(DEFAULT_OWNER)
    opened.close()


@pytest.fixture
def stored_sqlite(sqlite_database: Database, store: ObjectStore) -> Iterator[Database]:
    """The same on one database, for what the other cannot change."""
    opened = Database(sqlite_database.engine.url.render_as_string(), store=store)
    yield opened.owned_by(DEFAULT_OWNER)
    opened.close()


def put(database: Database, content: bytes = CONTENT) -> str:
    with blobs.writing(database, content) as connection:
        return blobs.put(connection, content)


def get(database: Database, sha256: str = SHA256) -> bytes:
    with database.read() as connection:
        return blobs.get(connection, sha256)


def delete(database: Database, sha256: str = SHA256) -> None:
    with database.write() as connection:
        blobs.delete_unused(connection, sha256)


def key_of(database: Database, sha256: str = SHA256) -> str | None:
    with database.read() as connection:
        key: str | None = connection.execute(
            select(blob_table.c.object_key).where(blob_table.c.sha256 == sha256)
        ).scalar()
    return key


def parts_of(database: Database, sha256: str = SHA256) -> int:
    with database.read() as connection:
        return len(connection.execute(select(blob_parts.c.part).where(blob_parts.c.sha256 == sha256)).all())


def loose(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(loose_table.c.key)).scalars())


def objects(database: Database) -> dict[str, bytes]:
    """Everything that the store holds."""
    assert database.objects is not None
    client = database.objects.store._opened()
    found = [str(item["path"]) for page in obstore.list(client) for item in page]
    return {key: bytes(obstore.get(client, key).bytes()) for key in found}


def overwrite(database: Database, key: str, content: bytes) -> None:
    assert database.objects is not None
    obstore.put(database.objects.store._opened(), key, content)


def remove(database: Database, key: str) -> None:
    assert database.objects is not None
    obstore.delete(database.objects.store._opened(), key)


def age(database: Database) -> None:
    """Let every object that is there whole and loose have been so for long enough."""
    whole = list(objects(database))
    with database.write() as connection:
        old = update(loose_table).where(loose_table.c.key.in_(whole))
        connection.execute(old.values(since=database_time(-10_000_000.0)))


def sweep(database: Database) -> int:
    assert database.objects is not None
    return loose_objects.sweep(database.for_everybody(), database.objects.store)


@pytest.mark.parametrize("content", [CONTENT, LARGE, b""], ids=["small", "large", "empty"])
def test_bytes_go_into_the_store_and_come_back(stored: Database, content: bytes) -> None:
    sha256 = put(stored, content)
    assert get(stored, sha256) == content
    assert parts_of(stored, sha256) == 0
    held = [content] if content else []
    assert list(objects(stored).values()) == held
    assert loose(stored) == set()
    copied = io.BytesIO()
    with stored.read() as connection:
        blobs.copy_to(connection, sha256, copied)
        assert blobs.sizes(connection, [sha256]) == {sha256: len(content)}
    assert copied.read() == content


def test_same_content_is_one_object(stored: Database) -> None:
    put(stored)
    key = key_of(stored)
    put(stored)
    assert objects(stored) == {key: CONTENT}


@pytest.mark.parametrize("damage", [b"x" + CONTENT[1:], CONTENT[:-1], CONTENT + b"x", b"", None])
def test_damaged_object_is_an_alarm_and_is_mended_by_storing_it_again(
    stored_sqlite: Database, damage: bytes | None
) -> None:
    put(stored_sqlite)
    key = key_of(stored_sqlite)
    assert key is not None
    if damage is None:
        remove(stored_sqlite, key)
    else:
        overwrite(stored_sqlite, key, damage)
    with pytest.raises(CorruptBlob):
        get(stored_sqlite)
    put(stored_sqlite)
    assert get(stored_sqlite) == CONTENT
    assert loose(stored_sqlite) == {key}, "the damaged one is to go"


@pytest.mark.parametrize("damage", ["changed", "short"])
def test_damaged_byte_of_a_large_object_is_an_alarm(stored_sqlite: Database, damage: str) -> None:
    sha256 = put(stored_sqlite, LARGE)
    key = key_of(stored_sqlite, sha256)
    assert key is not None
    middle = len(LARGE) // 2
    overwrite(stored_sqlite, key, LARGE[:-1] if damage == "short" else LARGE[:middle] + b"xx" + LARGE[middle + 2 :])
    with pytest.raises(CorruptBlob):
        get(stored_sqlite, sha256)


def test_file_without_its_hash_leaves_no_blob(stored_sqlite: Database) -> None:
    wrong = blobs.FileContent(io.BytesIO(CONTENT), "0" * 64, len(CONTENT))
    with pytest.raises(CorruptBlob):
        blobs.put_ahead(stored_sqlite, wrong)
    assert key_of(stored_sqlite, "0" * 64) is None


def test_old_blobs_stay_readable_where_they_are(database: Database, store: ObjectStore) -> None:
    with database.write() as connection:
        sha256 = blobs.put(connection, CONTENT)
    later = Database(database.engine.url.render_as_string(hide_password=False), store=store)
    assert get(later, sha256) == CONTENT
    new = put(later, b"new")
    assert get(later, new) == b"new"
    assert (parts_of(later, sha256), parts_of(later, new)) == (1, 0)
    later.close()


def test_what_was_not_put_ahead_goes_into_the_database(stored: Database) -> None:
    with stored.write() as connection:
        blobs.put(connection, CONTENT)
    assert get(stored) == CONTENT
    assert (parts_of(stored), objects(stored)) == (1, {})


def test_database_without_its_store_says_so(stored_sqlite: Database) -> None:
    put(stored_sqlite)
    without = Database(stored_sqlite.engine.url.render_as_string())
    with pytest.raises(ObjectStoreDown, match="SELFNORM_BLOB_URL"):
        get(without)
    without.close()


def test_deleted_object_is_removed_by_a_sweep_and_not_before(stored: Database) -> None:
    put(stored)
    key = key_of(stored)
    delete(stored)
    assert sweep(stored) == 0
    assert objects(stored) == {key: CONTENT}, "who has just read its key may still read it"
    age(stored)
    assert sweep(stored) == 1
    assert (objects(stored), loose(stored)) == ({}, set())


def test_needed_object_is_never_swept(stored: Database) -> None:
    job_id = stored_job(stored)
    with blobs.writing(stored, CONTENT) as connection:
        sha256 = blobs.put(connection, CONTENT)
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(split_sha256=sha256))
    delete(stored)
    age(stored)
    assert sweep(stored) == 0
    assert get(stored) == CONTENT


def test_session_that_fails_leaves_an_object_that_is_swept(stored: Database) -> None:

    def fail() -> None:
        with blobs.writing(stored, CONTENT) as connection:
            blobs.put(connection, CONTENT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert key_of(stored) is None
    assert loose(stored) == set(objects(stored))
    age(stored)
    assert sweep(stored) == 1
    assert objects(stored) == {}


def test_object_that_was_swept_before_it_was_needed_goes_into_the_database(stored: Database) -> None:
    informed = blobs.put_ahead(stored, CONTENT)
    age(stored)
    assert sweep(stored) == 1
    with informed.write() as connection:
        blobs.put(connection, CONTENT)
    assert get(stored) == CONTENT
    assert (key_of(stored), parts_of(stored)) == (None, 1)


def test_put_revives_an_object_that_is_about_to_be_removed(stored: Database) -> None:
    put(stored)
    key = key_of(stored)
    informed = blobs.put_ahead(stored, CONTENT)  # it is there, so nothing is sent
    delete(stored)
    with informed.write() as connection:
        blobs.put(connection, CONTENT)
    age(stored)
    assert sweep(stored) == 0
    assert (key_of(stored), get(stored)) == (key, CONTENT)


def test_commit_whose_answer_was_lost_can_be_tried_again(stored: Database) -> None:
    informed = blobs.put_ahead(stored, CONTENT)
    for _ in range(2):
        with informed.write() as connection:
            blobs.put(connection, CONTENT)
    assert (get(stored), loose(stored)) == (CONTENT, set())


def test_many_hands_put_and_delete_the_same_content(stored: Database) -> None:
    """Whoever has put it, in a session that refers to it, can read it; and nothing is left in the end.

    All the while, what is loose is removed, as if long ago.
    """
    hands, rounds = 4, 8
    barrier = threading.Barrier(hands, timeout=30)
    ids = [stored_job(stored, f"job-{hand}") for hand in range(hands)]
    over = threading.Event()

    def use(job_id: str) -> None:
        mine = update(jobs).where(jobs.c.id == job_id)
        for _ in range(rounds):
            barrier.wait()
            with blobs.writing(stored, CONTENT) as connection:
                sha256 = blobs.put(connection, CONTENT)
                connection.execute(mine.values(split_sha256=sha256))
            assert get(stored) == CONTENT
            with stored.write() as connection:
                connection.execute(mine.values(split_sha256=None))
                blobs.delete_unused(connection, sha256)

    def sweep_all() -> None:
        while not over.wait(0.01):
            age(stored)
            sweep(stored)

    with ThreadPoolExecutor(hands + 1) as pool:
        sweeping = pool.submit(sweep_all)
        using = [pool.submit(use, job_id) for job_id in ids]
        try:
            for each in using:
                each.result(60)
        finally:
            over.set()
        sweeping.result(60)
    age(stored)
    sweep(stored)
    assert (key_of(stored), objects(stored), loose(stored)) == (None, {}, set())


KILLED = """
import os, signal, sys
from service.storage import blobs
from service.storage.database import Database, database_time
from service.storage.object_store import ObjectStore
database = Database(sys.argv[1], store=ObjectStore(sys.argv[2]))
with blobs.writing(database, b"half") as connection:
    blobs.put(connection, b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_put_is_swept(stored: Database) -> None:
    assert stored.objects is not None
    url = stored.engine.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, url, stored.objects.store.url], timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert list(objects(stored).values()) == [b"half"]
    age(stored)
    assert sweep(stored) == 1
    assert objects(stored) == {}


def test_large_file_goes_in_and_out_in_little_memory(stored_sqlite: Database) -> None:
    """Of this process: what the S3 server takes is not counted, for it is asked in a process of its own."""
    assert stored_sqlite.objects is not None
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(stored_sqlite.engine.url), stored_sqlite.objects.store.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150_000, "kB at most, of which Python and what is imported take half"


IN_LITTLE_MEMORY = """
import hashlib, sys, tempfile
from service.storage import blobs
from service.storage.database import Database, database_time
from service.storage.object_store import ObjectStore
database = Database(sys.argv[1], store=ObjectStore(sys.argv[2]))
with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as copied:
    digest = hashlib.sha256()
    for number in range(64):
        piece = number.to_bytes(4, "big") * (1 << 18)
        digest.update(piece)
        file.write(piece)
    with blobs.writing(database, blobs.FileContent(file, digest.hexdigest(), 64 << 20)) as connection:
        blobs.put_file(connection, file, digest.hexdigest(), 64 << 20)
    with database.read() as connection:
        blobs.copy_to(connection, digest.hexdigest(), copied)
    assert copied.seek(0, 2) == 64 << 20
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_store_that_is_down_is_said_at_once_and_recovers(
    sqlite_database: Database, store: ObjectStore, s3_endpoint: str
) -> None:
    with Proxy(int(s3_endpoint.rpartition(":")[2])) as proxy:
        url = store.url.replace(s3_endpoint, f"http://127.0.0.1:{proxy.port}")
        asked = ObjectStore(url, request_seconds=0.5)
        database = Database(sqlite_database.engine.url.render_as_string(), store=asked)
        put(database)
        for trouble, over in ((proxy.refuse, proxy.accept), (proxy.freeze, proxy.thaw)):
            trouble()
            for _ in range(2):
                with pytest.raises(ObjectStoreDown):
                    get(database)
                with pytest.raises(ObjectStoreDown):
                    put(database, b"more")
            with blobs.writing(database, b"it cannot wait", needs_store=False) as connection:
                sha256 = blobs.put(connection, b"it cannot wait")
            over()
            assert get(database) == CONTENT
            assert get(database, sha256) == b"it cannot wait"
        database.close()


def test_threads_do_not_pile_up_before_a_store_that_hangs(
    sqlite_database: Database, store: ObjectStore, s3_endpoint: str
) -> None:
    with Proxy(int(s3_endpoint.rpartition(":")[2])) as proxy:
        asked = ObjectStore(store.url.replace(s3_endpoint, f"http://127.0.0.1:{proxy.port}"), request_seconds=0.5)
        proxy.freeze()
        with pytest.raises(ObjectStoreDown, match="does not answer"):
            asked.put("k", [b"x"], 1)
        with ThreadPoolExecutor(8) as pool:
            tried = [pool.submit(asked.put, "k", [b"x"], 1) for _ in range(8)]
            said = [str(each.exception(30)) for each in tried]
        proxy.thaw()
    assert sum("asked last" in text for text in said) >= 4


def test_store_without_its_bucket_has_lost_nothing(sqlite_database: Database, s3_endpoint: str) -> None:
    nowhere = ObjectStore(f"s3://another-bucket/x?region=us-east-1&endpoint={s3_endpoint}")
    with pytest.raises(ObjectStoreDown, match="no such bucket"):
        nowhere.put("k", [b"x"], 1)
    with pytest.raises(ObjectStoreDown, match="no such bucket"):
        list(nowhere.read("k", 1))
    with pytest.raises(ObjectStoreDown, match="no such bucket"):
        nowhere.remove(["k"])


def test_nobody_listens_there(sqlite_database: Database) -> None:
    database = Database(
        sqlite_database.engine.url.render_as_string(),
        store=ObjectStore(f"s3://selfnorm/x?region=us-east-1&endpoint=http://127.0.0.1:{free_port()}"),
    )
    with pytest.raises(ObjectStoreDown, match="does not answer"):
        put(database)
    assert len(loose(database)) == 1, "it may have been stored all the same"
    database.close()


def test_folder_is_a_store_as_well(sqlite_database: Database, tmp_path: object) -> None:
    store = ObjectStore(f"file://{tmp_path}/a%20folder")
    database = Database(sqlite_database.engine.url.render_as_string(), store=store)
    put(database)
    assert get(database) == CONTENT
    delete(database)
    age(database)
    assert sweep(database) == 1
    assert objects(database) == {}
    with pytest.raises(NoSuchObject):
        list(store.read("k", 1))
    store.remove(["k"])
    database.close()


def test_blobs_move_into_the_store_and_back_and_again(database: Database, store: ObjectStore) -> None:
    with database.write() as connection:
        sha256 = blobs.put(connection, CONTENT)
        damaged = blobs.put(connection, b"right")
        connection.execute(update(blob_parts).where(blob_parts.c.sha256 == damaged).values(data=b"wrong"))
    both = Database(database.engine.url.render_as_string(hide_password=False), store=store)
    first = next(iter(move_blobs(both, to_store=True)))  # and there it is interrupted
    moved = {move.sha256: move.is_sound for move in move_blobs(both, to_store=True)}
    assert first.sha256 not in moved or not first.is_sound
    assert {first.sha256: first.is_sound, **moved}[sha256]
    assert not {first.sha256: first.is_sound, **moved}[damaged]
    assert (parts_of(both), get(both)) == (0, CONTENT)
    assert [move for move in move_blobs(both, to_store=True) if move.is_sound] == []
    back = [move.sha256 for move in move_blobs(both, to_store=False)]
    assert sha256 in back
    both.close()
    assert get(database) == CONTENT, "it needs no store any more"


def test_command_moves_what_is_in_the_database(stored_sqlite: Database) -> None:
    assert stored_sqlite.objects is not None
    with stored_sqlite.write() as connection:
        blobs.put(connection, CONTENT)
    environment = {
        **os.environ,
        "SELFNORM_DATABASE_URL": stored_sqlite.engine.url.render_as_string(),
        "SELFNORM_BLOB_URL": stored_sqlite.objects.store.url,
    }

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "service.cli", "blobs", "move", *arguments]
        return subprocess.run(
            command, env={**environment, **more}, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )

    done = run("--to", "store")
    assert (done.returncode, done.stderr) == (0, "")
    assert " files were moved to the store" in done.stdout
    assert key_of(stored_sqlite) is not None
    assert run("--to", "store", SELFNORM_BLOB_URL="").returncode == 2
