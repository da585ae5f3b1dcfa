"""What an attempt hears of its job while it runs, and what happens to one that hears nothing."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
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
from tests.patience import until
from tests.training.attempts import (
    ENDLESS,
    SMALL,
    ask,
    claimed,
    finish,
    losses_of,
    lost,
    promised,
    read,
    run_beside,
    start,
    told,
)
from workers import attempt, background, forms
from workers.lease import CANCEL_LOOKS, LOOK_SECONDS, Cancelled, Lease, Leaving

QUICK = 0.3
HEARD_SECONDS = 10
"""The promise is 5 s, on a machine that does nothing else."""
"""Seconds between two looks, where a test has to see several."""
UNCOMPILED: dict[str, Any] = {**SMALL, "network": {"hidden_layers": 1, "units": 13}}
"""A network of no other test."""


def test_cancel_ends_a_running_training_within_5_seconds(database: Database) -> None:
    stored_job(database, **ENDLESS)
    thread = run_beside(database)
    with promised():
        ask(database, jobs.request_cancel)
        finish(thread)
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
    until(lambda: not background.is_working())


@pytest.fixture
def stuck_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A compiler that hangs until the test is over; says when it has begun."""
    has_begun, is_over = threading.Event(), threading.Event()

    def hang(_: forms.Form) -> None:
        has_begun.set()
        is_over.wait()
        raise TimeoutError

    monkeypatch.setattr(forms, "make_engine", hang)
    yield has_begun
    is_over.set()
    until(lambda: not background.is_working())


@pytest.mark.parametrize(
    ("request_to", "state"), [(jobs.request_cancel, JobState.CANCELLED), (jobs.request_pause, JobState.PAUSED)]
)
def test_word_is_heard_within_5_seconds_while_the_table_is_read(
    database: Database, slow_folder: Path, request_to: Callable[[Connection, str], None], state: JobState
) -> None:
    stored_job(database, dataset="fashion_mnist", **SMALL)
    thread = start(database, datasets_dir=slow_folder)
    until(background.is_working)
    with promised():
        ask(database, request_to)
        finish(thread)
    assert read(database).state == state


def test_stopping_worker_does_not_wait_for_a_table(sqlite_database: Database, slow_folder: Path) -> None:
    stored_job(sqlite_database, dataset="fashion_mnist", **SMALL)
    stopping = threading.Event()
    thread = start(sqlite_database, datasets_dir=slow_folder, stopping=stopping)
    until(background.is_working)
    with promised():
        stopping.set()
        finish(thread)
    assert read(sqlite_database).state == JobState.QUEUED


def test_cancelled_training_that_hears_nothing_is_abandoned(database: Database) -> None:
    said: list[str] = []
    with Lease(database, claimed(database), abandon=said.append):
        asked = time.monotonic()
        with promised():
            ask(database, jobs.request_cancel)
            until(lambda: said)
        assert time.monotonic() - asked > CANCEL_LOOKS * LOOK_SECONDS
        assert read(database).state == JobState.CANCELLED
    assert said == ["job job-1 was cancelled while nothing could interrupt it"]


def test_training_that_has_heard_of_its_cancel_is_waited_for(sqlite_database: Database) -> None:
    said: list[str] = []
    with Lease(sqlite_database, claimed(sqlite_database), abandon=said.append, look_seconds=QUICK) as lease:
        ask(sqlite_database, jobs.request_cancel)
        with pytest.raises(Cancelled):
            until(lease.check, HEARD_SECONDS)
        time.sleep((CANCEL_LOOKS + 3) * QUICK)
    assert (said, read(sqlite_database).state) == ([], JobState.CANCELLING)


def test_cancel_of_a_job_that_cannot_be_stored_to_be_paused_is_heard(sqlite_database: Database) -> None:
    said: list[str] = []
    with Lease(sqlite_database, claimed(sqlite_database), abandon=said.append, look_seconds=QUICK) as lease:
        ask(sqlite_database, jobs.request_pause)
        with pytest.raises(Leaving):
            until(lease.check, HEARD_SECONDS)
        ask(sqlite_database, jobs.request_cancel)  # while the training waits for room on the disk
        until(lambda: said, HEARD_SECONDS)
    assert read(sqlite_database).state == JobState.CANCELLED


def test_training_that_stands_still_is_abandoned(database: Database) -> None:
    said: list[str] = []
    began = time.monotonic()
    with Lease(database, claimed(database), abandon=said.append, look_seconds=QUICK, stall_looks=1) as lease:
        until(lambda: said)
        assert time.monotonic() - began > QUICK
        job = read(database)
        assert (job.state, losses_of(database)) == (JobState.QUEUED, 1)
        assert told(database, EventKind.STALLED) == [{"attempt": 1}]
        until(lambda: is_lost(lease))
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
    with Lease(sqlite_database, held, abandon=said.append, look_seconds=QUICK, stall_looks=2) as lease:
        for _ in range(30):
            time.sleep(QUICK / 10)
            lease.check()
        assert said == []
        until(lambda: said)
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
    began = time.monotonic()
    with Lease(database, held, abandon=said.append, look_seconds=QUICK, **options):
        until(lambda: said)
        assert time.monotonic() - began > 2 * QUICK
    assert said[0] == f"job job-1 {reason}"
    assert read(database) == before


def was_renewed_since(moment: float, lease: Lease, say: Callable[[], object]) -> bool:
    say()
    return lease.renewed_at > moment


def wait_for_looks(lease: Lease, say: Callable[[], object]) -> None:
    """Say something again and again until the lease was renewed twice; meanwhile there are many looks."""
    for _ in range(2):
        until(partial(was_renewed_since, lease.renewed_at, lease, say))


def test_training_that_only_waits_is_given_more_time_and_is_abandoned_all_the_same(database: Database) -> None:
    said: list[str] = []
    wait: dict[str, Any] = {"is_waiting": lambda: True, "stall_looks": 1, "wait_looks": 8}
    began = time.monotonic()
    with Lease(database, claimed(database), abandon=said.append, look_seconds=QUICK, **wait) as lease:
        until(lambda: is_lost(lease))
        assert time.monotonic() - began > 8 * QUICK
    assert said[0].startswith("job job-1 stood still for ")
    assert (read(database).state, losses_of(database)) == (JobState.QUEUED, 1)
    assert told(database, EventKind.STALLED) == [{"attempt": 1}]


def test_wait_that_is_over_is_neither_silence_nor_usual(sqlite_database: Database) -> None:
    said: list[str] = []
    waits = [True]
    wait: dict[str, Any] = {"is_waiting": lambda: waits[0], "stall_looks": 3}
    lease = Lease(sqlite_database, claimed(sqlite_database), abandon=said.append, look_seconds=QUICK, **wait)
    lease.check()
    with lease:
        wait_for_looks(lease, lease.check)
        waits[0] = False
        lease.check()
        assert said == []
        until(lambda: said)
    assert said[0] == "job job-1 stood still for 1 s"


def test_waiting_beside_signs_of_life_is_no_stall(sqlite_database: Database) -> None:
    """As while the database, from which a table is read, is down."""
    said: list[str] = []
    wait: dict[str, Any] = {"is_waiting": lambda: True, "wait_looks": 8}
    with Lease(sqlite_database, claimed(sqlite_database), abandon=said.append, look_seconds=QUICK, **wait) as lease:
        lease.check()
        wait_for_looks(lease, lease.show_life)
    assert (said, read(sqlite_database).state) == ([], JobState.RUNNING)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts wait for a few looks only."""
    monkeypatch.setattr(attempt, "Lease", partial(Lease, look_seconds=QUICK, wait_looks=5))


def check_stalled(database: Database, said: list[str], thread: threading.Thread) -> None:
    until(lambda: said)
    finish(thread, 60)
    assert said[0].startswith("job job-1 stood still for ")
    assert (read(database).state, losses_of(database)) == (JobState.QUEUED, 1)
    assert told(database, EventKind.STALLED) == [{"attempt": 1}]


def test_table_that_never_comes_is_a_stall(
    sqlite_database: Database, slow_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    said: list[str] = []
    stored_job(sqlite_database, dataset="fashion_mnist", **SMALL)
    thread = start(sqlite_database, datasets_dir=slow_folder, abandon=said.append)
    check_stalled(sqlite_database, said, thread)


@pytest.mark.usefixtures("stuck_compiler")
def test_network_that_is_never_compiled_is_a_stall(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    said: list[str] = []
    stored_job(sqlite_database, **UNCOMPILED)
    thread = start(sqlite_database, abandon=said.append)
    check_stalled(sqlite_database, said, thread)


def test_compiling_that_a_cancel_has_left_behind_is_known(
    sqlite_database: Database, stuck_compiler: threading.Event
) -> None:
    """For the next network would wait for it, though other workers may be idle."""
    stored_job(sqlite_database, **UNCOMPILED)
    thread = start(sqlite_database)
    until(stuck_compiler.is_set)
    ask(sqlite_database, jobs.request_cancel)
    finish(thread, 60)
    assert read(sqlite_database).state == JobState.CANCELLED
    assert background.is_working()
