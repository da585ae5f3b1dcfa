"""What an attempt hears of its job while it runs, and what happens to one that hears nothing."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.domain.errors import LeaseLost
from service.domain.jobs import EventKind, JobState
from service.storage import jobs, leases, losses, models
from service.storage.database import Connection, Database, database_time
from service.storage.pages import PageRequest
from service.storage.tables import jobs as job_table
from tests.factories import stored_job
from tests.training.attempts import (
    ENDLESS,
    SMALL,
    ask,
    claimed,
    finish,
    losses_of,
    lost,
    read,
    run_beside,
    start,
    told,
    wait_until,
)
from workers import background
from workers.lease import CANCEL_LOOKS, LOOK_SECONDS, Cancelled, Lease, Leaving

QUICK = 0.3
"""Seconds between two looks, where a test has to see several."""


def test_cancel_ends_a_running_training_within_5_seconds(database: Database) -> None:
    stored_job(database, **ENDLESS)
    thread = run_beside(database)
    asked = time.monotonic()
    ask(database, jobs.request_cancel)
    finish(thread)
    assert time.monotonic() - asked < 5
    assert read(database).state == JobState.CANCELLED
    with database.read() as connection:
        assert models.list_page(connection, PageRequest()).items == []


def test_worker_that_lost_its_lease_stops_and_writes_nothing_more(database: Database) -> None:
    stored_job(database, **ENDLESS)
    thread = run_beside(database)
    with database.write() as connection:
        connection.execute(update(job_table).values(lease_until=database_time(-1)))
        losses.lose_expired(connection)
        connection.execute(update(job_table).values(claimable_at=database_time(-1)))
        again = leases.claim(connection, "job-1", "w2")
        then = jobs.get(connection, "job-1")
    assert again is not None
    finish(thread)
    assert (then.state, then.attempts) == (JobState.RUNNING, 2)
    assert read(database) == then
    with database.read() as connection:
        assert [stored.epoch for stored in jobs.epoch_records(connection, "job-1")] == list(range(1, then.epoch + 1))


@pytest.fixture
def slow_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a data set of which somebody who reads it waits for the first byte until the test is over."""
    folder = tmp_path / "fashion_mnist"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").touch()
    pipe = folder / "train-labels-idx1-ubyte.gz"
    os.mkfifo(pipe)
    yield tmp_path
    assert background.is_working()
    os.close(os.open(pipe, os.O_WRONLY))
    wait_until(lambda: not background.is_working())


@pytest.mark.parametrize(
    ("request_to", "state"), [(jobs.request_cancel, JobState.CANCELLED), (jobs.request_pause, JobState.PAUSED)]
)
def test_word_is_heard_within_5_seconds_while_the_table_is_read(
    database: Database, slow_folder: Path, request_to: Callable[[Connection, str], None], state: JobState
) -> None:
    stored_job(database, dataset="fashion_mnist", **SMALL)
    thread = start(database, datasets_dir=slow_folder)
    wait_until(background.is_working)
    asked = time.monotonic()
    ask(database, request_to)
    finish(thread)
    assert time.monotonic() - asked < 5
    assert read(database).state == state


def test_stopping_worker_does_not_wait_for_a_table(sqlite_database: Database, slow_folder: Path) -> None:
    stored_job(sqlite_database, dataset="fashion_mnist", **SMALL)
    stopping = threading.Event()
    thread = start(sqlite_database, datasets_dir=slow_folder, stopping=stopping)
    wait_until(background.is_working)
    stopping.set()
    finish(thread, 5)
    assert read(sqlite_database).state == JobState.QUEUED


def test_cancelled_training_that_hears_nothing_is_abandoned(database: Database) -> None:
    said: list[str] = []
    with Lease(database, claimed(database), abandon=said.append):
        asked = time.monotonic()
        ask(database, jobs.request_cancel)
        wait_until(lambda: said, 10)
        assert CANCEL_LOOKS * LOOK_SECONDS < time.monotonic() - asked < 5
        assert read(database).state == JobState.CANCELLED
    assert said == ["job job-1 was cancelled while nothing could interrupt it"]


def test_training_that_has_heard_of_its_cancel_is_waited_for(sqlite_database: Database) -> None:
    said: list[str] = []
    with Lease(sqlite_database, claimed(sqlite_database), abandon=said.append, look_seconds=QUICK) as lease:
        ask(sqlite_database, jobs.request_cancel)
        with pytest.raises(Cancelled):
            wait_until(lease.check, 10)
        time.sleep((CANCEL_LOOKS + 3) * QUICK)
    assert (said, read(sqlite_database).state) == ([], JobState.CANCELLING)


def test_cancel_of_a_job_that_cannot_be_stored_to_be_paused_is_heard(sqlite_database: Database) -> None:
    said: list[str] = []
    with Lease(sqlite_database, claimed(sqlite_database), abandon=said.append, look_seconds=QUICK) as lease:
        ask(sqlite_database, jobs.request_pause)
        with pytest.raises(Leaving):
            wait_until(lease.check, 10)
        ask(sqlite_database, jobs.request_cancel)  # while the training waits for room on the disk
        wait_until(lambda: said, 10)
    assert read(sqlite_database).state == JobState.CANCELLED


def test_training_that_stands_still_is_abandoned(database: Database) -> None:
    said: list[str] = []
    with Lease(database, claimed(database), abandon=said.append, look_seconds=QUICK, stall_looks=1) as lease:
        began = time.monotonic()
        wait_until(lambda: said, 10)
        assert time.monotonic() - began > QUICK
        job = read(database)
        assert (job.state, losses_of(database)) == (JobState.QUEUED, 1)
        assert told(database, EventKind.STALLED) == [{"attempt": 1}]
        wait_until(lambda: is_lost(lease), 10)
    assert said[0].startswith("job job-1 stood still for ")


def is_lost(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseLost:
        return True
    return False


def test_training_that_stands_still_after_it_has_moved_is_abandoned(sqlite_database: Database) -> None:
    said: list[str] = []
    held = claimed(sqlite_database)
    with Lease(sqlite_database, held, abandon=said.append, look_seconds=QUICK, stall_looks=1) as lease:
        for _ in range(30):
            time.sleep(QUICK / 10)
            lease.check()
        assert said == []
        wait_until(lambda: said, 10)
    assert told(sqlite_database, EventKind.STALLED) == [{"attempt": 1}]


def test_training_that_always_takes_long_does_not_stand_still(sqlite_database: Database) -> None:
    """Five looks are less than ten times what it took before."""
    said: list[str] = []
    held = claimed(sqlite_database)
    with Lease(sqlite_database, held, abandon=said.append, look_seconds=QUICK, stall_looks=2) as lease:
        for looks in (1.5, 1.5, 1.5, 5.0):
            lease.check()
            time.sleep(looks * QUICK)
    assert (said, read(sqlite_database).state) == ([], JobState.RUNNING)


def test_training_that_nobody_can_abandon_is_waited_for(sqlite_database: Database) -> None:
    with Lease(sqlite_database, claimed(sqlite_database), look_seconds=QUICK, stall_looks=1):
        time.sleep(10 * QUICK)
    assert read(sqlite_database).state == JobState.RUNNING


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lost_looks": 2}, "belongs to another worker, and nothing could interrupt it here"),
        ({"stall_looks": 2}, "stood still for 1 s"),
    ],
)
def test_training_that_does_not_hear_that_another_worker_has_its_job_is_abandoned(
    database: Database, options: dict[str, Any], reason: str
) -> None:
    said: list[str] = []
    held = claimed(database)
    lost(database)
    with database.write() as connection:
        assert leases.claim(connection, "job-1", "w2") is not None
    before = read(database)
    with Lease(database, held, abandon=said.append, look_seconds=QUICK, **options):
        began = time.monotonic()
        wait_until(lambda: said, 10)
        assert time.monotonic() - began > 2 * QUICK
    assert said[0] == f"job job-1 {reason}"
    assert read(database) == before
