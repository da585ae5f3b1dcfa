"""An attempt whose database does not answer, or has no room."""

import sqlite3
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from service.domain.jobs import EventKind, JobState
from service.domain.owners import DEFAULT_OWNER
from service.storage import blobs, jobs
from service.storage.database import Connection, Database
from service.storage.faults import STATEMENT_REFUSED, is_damaged, is_full
from tests.factories import stored_job
from tests.patience import until
from tests.training.attempts import (
    ENDLESS,
    SMALL,
    ask,
    claimed,
    epochs_of,
    finish,
    promised,
    read,
    run,
    run_beside,
    start,
    told,
)
from tests.training.support import PLATEAU_AND_SAMPLE_WEIGHTS, case
from workers import attempt
from workers.epochs import ChunkEnd
from workers.lease import GIVE_UP_SECONDS, Lease, patiently
from workers.recorder import Recorder


def break_writes(database: Database, times: int, table: str = "epochs", *, after_commit: bool = False) -> list[int]:
    """Make the database fail for a while: each commit that stored a row of a table raises, before it or after it.

    Returns how often it still will, for a test to look at and to change.
    """
    left = [times]
    mark = f"stored {table}"

    def before_execute(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(f"INSERT INTO {table} "):
            connection.info[mark] = True

    def on_commit(connection: Any) -> None:
        if not connection.info.pop(mark, False) or left[0] == 0:
            return
        left[0] -= 1
        if after_commit:
            connection.connection.dbapi_connection.commit()
        raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))

    event.listen(database.engine, "before_cursor_execute", before_execute)
    event.listen(database.engine, "commit", on_commit)
    event.listen(database.engine, "rollback", lambda connection: connection.info.pop(mark, None))
    return left


@pytest.mark.parametrize("after_commit", [False, True], ids=["nothing stored", "answer lost"])
def test_training_outlives_a_database_that_fails(database: Database, *, after_commit: bool) -> None:
    stored_job(database, **SMALL)
    break_writes(database, 2, after_commit=after_commit)
    run(database)
    assert read(database).state == JobState.SUCCEEDED
    with database.read() as connection:
        assert [record.epoch for record in jobs.epoch_records(connection, "job-1")] == [1, 2, 3]


def test_cancel_is_heard_while_nothing_can_be_written(database: Database) -> None:
    stored_job(database, **SMALL)
    left = break_writes(database, 1000)
    thread = start(database)
    until(lambda: left[0] < 998)
    with promised():
        ask(database, jobs.request_cancel)
        finish(thread)
    assert read(database).state == JobState.CANCELLED


def test_checkpoint_that_cannot_be_stored_is_stored_later(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    stored_job(database, **ENDLESS)
    left = break_writes(database, 2, "checkpoints")
    thread = run_beside(database)
    assert left[0] == 0
    assert sum("no checkpoint was stored" in said.message for said in caplog.records) == 2
    ask(database, jobs.request_cancel)
    finish(thread)
    job = read(database)
    assert (job.state, job.attempts) == (JobState.CANCELLED, 1)
    assert epochs_of(database) == list(range(1, job.epoch + 1))
    assert [entry["epoch"] for entry in told(database, EventKind.EPOCH)] == epochs_of(database)


def test_lease_is_renewed_again_after_the_database_was_down(database: Database) -> None:
    held, left = claimed(database), [3]

    def before_execute(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE jobs SET lease_until") and left[0]:
            left[0] -= 1
            raise OperationalError(statement, {}, Exception("the server closed the connection"))

    event.listen(database.engine, "before_cursor_execute", before_execute)
    with Lease(database, held) as lease:
        began = lease.renewed_at
        until(lambda: lease.renewed_at > began)
        lease.check()
    assert left == [0]
    assert read(database).state == JobState.RUNNING


def refuse(connection: Connection) -> None:
    """Fail for want of room: SQLite is given none, PostgreSQL says what it says of a full disk."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$")
    try:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
        blobs.put(connection, bytes(1_000_000))
    finally:
        connection.exec_driver_sql("PRAGMA max_page_count=4294967294")


def test_room_on_the_disk_is_waited_for_longer_than_anything_else(database: Database) -> None:
    tries: list[int] = []
    lease = Lease(database, claimed(database))
    lease.renewed_at = time.monotonic() + 2 * GIVE_UP_SECONDS  # it is renewed all the while

    def work(connection: Connection) -> str:
        tries.append(1)
        if len(tries) < 3:
            refuse(connection)
        return "done"

    def work_in_vain(connection: Connection) -> str:
        tries.append(1)
        raise OperationalError("", {}, Exception("anything else"))

    with pytest.raises(OperationalError) as found, database.write() as connection:
        refuse(connection)
    assert is_full(found.value)
    assert patiently(database.write, lease, work) == "done"
    assert len(tries) == 3
    with pytest.raises(OperationalError, match="anything else"):
        patiently(database.write, lease, work_in_vain)
    assert len(tries) == 4


def find_damage(connection: Connection) -> None:
    """Meet a damaged page: SQLite in a file of ours, PostgreSQL says what it says of one."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "DO $$ BEGIN RAISE EXCEPTION 'invalid page' USING ERRCODE = 'data_corrupted'; END $$"
        )
    path = Path(str(connection.engine.url.database)).with_name("damaged.db")
    path.write_bytes(b"no database" * 1000)
    connection.exec_driver_sql(f"ATTACH '{path}' AS damaged")


def test_damage_is_not_waited_for(database: Database) -> None:
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(1)
        find_damage(connection)

    with pytest.raises(STATEMENT_REFUSED) as found:
        patiently(database.read, Lease(database, claimed(database)), work)
    assert is_damaged(found.value)
    assert tries == [1]


def test_job_waits_for_room_on_the_disk(sqlite_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    pages = 1

    def limit(connection: sqlite3.Connection, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    held = claimed(sqlite_database, network={"hidden_layers": 3, "units": 128}, training={"epochs": 3})
    event.listen(sqlite_database.engine, "checkout", limit)
    thread = threading.Thread(target=attempt.run, args=(sqlite_database, held, None))
    thread.start()
    until(lambda: sum("disk is full" in said.message for said in caplog.records) >= 3)
    assert read(sqlite_database).state == JobState.RUNNING
    pages = 4294967294
    finish(thread)
    assert (read(sqlite_database).state, read(sqlite_database).attempts) == (JobState.SUCCEEDED, 1)
    assert epochs_of(sqlite_database) == [1, 2, 3]


def test_one_failure_after_a_long_wait_for_room_is_waited_for_too(database: Database) -> None:
    """As when somebody restarts the database to give it a larger disk."""
    tries: list[int] = []
    lease = Lease(database, claimed(database))

    def work(connection: Connection) -> str:
        tries.append(1)
        lease.renewed_at = time.monotonic() + 2 * GIVE_UP_SECONDS  # a minute later, by the lease
        if len(tries) == 1:
            refuse(connection)
        if len(tries) == 2:
            lease.renewed_at = time.monotonic()
            raise OperationalError("", {}, Exception("terminating connection due to administrator command"))
        return "done"

    assert patiently(database.write, lease, work) == "done"
    assert len(tries) == 3


def test_training_goes_on_while_every_write_waits_in_vain(sqlite_database: Database) -> None:
    held = claimed(sqlite_database)
    hasty = Database(str(sqlite_database.engine.url), patience_seconds=0.5).owned_by(DEFAULT_OWNER)
    recorder = Recorder(hasty, Lease(hasty, held))
    ends: list[float] = []

    def take(end: ChunkEnd) -> None:
        recorder.take_chunk(end)
        ends.append(time.monotonic())

    with sqlite_database.write():
        began = time.monotonic()
        case(PLATEAU_AND_SAMPLE_WEIGHTS).run(on_chunk=take)
        waited = sum(later - earlier > 0.4 for earlier, later in pairwise([began, *ends]))
    hasty.close()
    assert 1 <= waited < len(ends) / 4
