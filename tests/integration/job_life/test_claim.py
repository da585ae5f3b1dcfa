"""Waiting and being claimed, by one of many workers."""

import threading
from concurrent.futures import ThreadPoolExecutor

from service.domain.jobs import Claim, EventKind, JobState
from service.domain.owners import DEFAULT_OWNER
from service.storage import jobs, leases
from service.storage.database import Database, database_time
from service.storage.pages import PageRequest
from tests.factories import stored_job
from tests.integration.job_life.hands import (
    change,
    claim,
    claim_next,
    claimed,
    do,
    kinds,
    log,
    make_claimable,
    read,
    state,
)


def test_new_job_waits_in_line(database: Database) -> None:
    stored_job(database, "a")
    stored_job(database, "b")
    assert [read(database, name).queue_position for name in ("a", "b")] == [1, 2]
    assert state(database, "a") == JobState.QUEUED
    assert kinds(database, "a") == ["submitted"]


def test_list_tells_every_place_in_the_whole_line(database: Database) -> None:
    for number in range(8):
        stored_job(database, f"job-{number}", tags=["odd"] if number % 2 else [])
    claimed(database, "job-2")
    do(database, jobs.request_cancel, "job-5")
    with database.read() as connection:
        page = jobs.list_page(connection, jobs.JobFilter(tag="odd"), PageRequest())
        newest = jobs.list_page(connection, jobs.JobFilter(), PageRequest(size=3))
    assert {job.id: job.queue_position for job in page.items} == {"job-7": 6, "job-5": None, "job-3": 3, "job-1": 2}
    assert [job.queue_position for job in newest.items] == [6, 5, None]


def test_claimed_job_runs_and_counts_attempts(database: Database) -> None:
    held = claimed(database)
    job = read(database)
    assert (job.state, job.attempts, job.queue_position) == (JobState.RUNNING, 1, None)
    assert held == Claim("job-1", 1, "w1", DEFAULT_OWNER)
    assert job.started_at is not None
    assert job.started_at >= job.created_at
    assert [(event.kind, event.data) for event in log(database)][1:] == [
        (EventKind.STARTED, {"attempt": 1, "worker": "w1", "epoch": 0})
    ]


def test_second_message_claims_nothing(database: Database) -> None:
    claimed(database)
    assert claim(database, worker="w2") is None


def test_many_workers_at_once_make_one_claim(database: Database) -> None:
    stored_job(database)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda number: claim(database, worker=f"w{number}"), range(8)))
    assert sum(found is not None for found in claims) == 1


def test_next_job_is_the_one_that_waits_longest_of_those_that_may_be_claimed(database: Database) -> None:
    for name in ("running", "paused", "pausing for a while", "longest", "newest"):
        stored_job(database, name)
    claimed(database, "running")
    do(database, jobs.request_pause, "paused")
    change(database, "pausing for a while", claimable_at=database_time(8))
    for expected in ("longest", "newest"):
        with database.for_everybody().read() as connection:
            assert leases.has_claimable(connection)
        found = claim_next(database)
        assert found is not None
        assert found.job_id == expected
    with database.for_everybody().read() as connection:
        assert not leases.has_claimable(connection)
    assert claim_next(database) is None
    do(database, jobs.resume, "paused")
    make_claimable(database)
    assert [claim_next(database, "w2"), claim_next(database, "w3"), claim_next(database, "w4")] == [
        Claim("paused", 1, "w2", DEFAULT_OWNER),
        Claim("pausing for a while", 1, "w3", DEFAULT_OWNER),
        None,
    ], "a place in the line is kept"


def test_many_workers_at_once_each_get_another_job(database: Database) -> None:
    workers, each = 8, 3
    for number in range(workers * each):
        stored_job(database, f"job-{number}")
    together = threading.Barrier(workers)

    def work(number: int) -> list[Claim | None]:
        found = []
        for _ in range(each):
            together.wait(30)
            found.append(claim_next(database, f"w{number}"))
        return found

    with ThreadPoolExecutor(workers) as pool:
        claims = [held for found in pool.map(work, range(workers)) for held in found]
    assert {held.job_id for held in claims if held is not None} == {f"job-{number}" for number in range(workers * each)}
    assert all(held is not None and held.fence == 1 for held in claims)
    assert claim_next(database) is None
