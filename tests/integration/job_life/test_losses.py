"""Lost workers, stopping ones, and clocks that are set back or forward."""

import time
from pathlib import Path

import pytest
from sqlalchemy import select, update

from service.domain.errors import LeaseLost
from service.domain.jobs import MAX_ATTEMPTS, MAX_LOSSES, Claim, EventKind, JobState
from service.domain.owners import DEFAULT_OWNER
from service.storage import jobs, leases, losses
from service.storage.database import Database, database_time
from service.storage.faults import DATABASE_DOWN
from service.storage.leases import LEASE_SECONDS
from service.storage.losses import BACK_OFF_SECONDS
from service.storage.tables import jobs as table
from service.sweeper import LOOKS, SWEEP_SECONDS, Sweeper, sweep
from tests.factories import progress, stored_job
from tests.integration.job_life.hands import (
    DAY,
    change,
    claim,
    claim_next,
    claimed,
    column,
    do,
    everything,
    expire,
    kinds,
    leave,
    log,
    lose,
    make_claimable,
    read,
    record,
    state,
    states_of,
    trained,
)
from tests.patience import until


def test_lost_worker_gives_the_job_back_after_its_lease(database: Database) -> None:
    held = claimed(database)
    sweep(database)
    assert state(database) == JobState.RUNNING
    lose(database)
    assert state(database) == JobState.QUEUED
    assert claim(database) is None, "a pause comes first"
    assert claim_next(database) is None
    make_claimable(database)
    assert claim(database, worker="w2") == Claim("job-1", held.fence + 1, "w2", DEFAULT_OWNER)
    assert kinds(database) == ["submitted", "started", "worker_lost", "started"]
    assert log(database)[2].data == {"attempt": 1}


def test_many_lost_jobs_are_all_taken_back(database: Database) -> None:
    for number in range(5):
        claimed(database, f"job-{number}", f"w{number % 2}")
    with database.write() as connection:
        connection.execute(update(table).values(lease_until=database_time(-1)))
    sweep(database)
    assert [state(database, f"job-{number}") for number in range(5)] == [JobState.QUEUED] * 5


def test_pause_after_a_loss_grows(database: Database) -> None:
    for expected in (BACK_OFF_SECONDS, 4 * BACK_OFF_SECONDS):
        claimed(database)
        lose(database)
        with database.read() as connection:
            now = connection.execute(select(database_time())).scalar_one()
        assert expected - 2 < (column(database, "claimable_at") - now).total_seconds() <= expected


def test_job_that_kills_its_workers_fails(database: Database) -> None:
    for _ in range(MAX_LOSSES):
        claimed(database)
        lose(database)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "worker_lost")
    assert column(database, "losses") == MAX_LOSSES
    assert kinds(database)[-2:] == ["worker_lost", "failed"]


def test_job_that_stands_still_again_and_again_fails(database: Database) -> None:
    for _ in range(MAX_LOSSES):
        do(database, losses.lose, claimed(database), EventKind.STALLED)
    job = read(database)
    assert (job.state, job.error_code) == (JobState.FAILED, "stalled")
    assert kinds(database).count("stalled") == MAX_LOSSES


def test_losses_count_from_the_last_state_on(database: Database) -> None:
    for epoch in range(1, 4):
        for _ in range(MAX_LOSSES - 1):
            claimed(database)
            lose(database)
        assert column(database, "losses") == MAX_LOSSES - 1
        record(database, claimed(database), epoch, step=0)
        assert column(database, "losses") == 0
        lose(database)
        assert (state(database), column(database, "losses")) == (JobState.QUEUED, 1)
        record(database, claimed(database), step=epoch)
        do(database, leases.hand_back, "w1")
    assert state(database) == JobState.QUEUED


def test_signs_of_life_without_a_state_do_not_forgive_losses(database: Database) -> None:
    for _ in range(MAX_LOSSES):
        held = claimed(database)
        do(database, leases.heartbeat, held)
        do(database, leases.record_progress, held, progress(0))
        lose(database)
    assert state(database) == JobState.FAILED


def test_job_that_loses_its_hundredth_worker_fails_though_each_came_further(database: Database) -> None:
    record(database, claimed(database), 1, step=0)
    do(database, leases.hand_back, "w1")
    change(database, fence=MAX_ATTEMPTS - 2)
    record(database, claimed(database), 2, step=0)
    lose(database)
    assert state(database) == JobState.QUEUED
    record(database, claimed(database), 3, step=0)
    lose(database)
    job = read(database)
    assert (job.state, job.error_code, job.attempts) == (JobState.FAILED, "too_many_attempts", MAX_ATTEMPTS)
    assert [kept.epoch for kept in states_of(database)] == [2, 3]


def test_hundredth_attempt_may_succeed_or_be_handed_back(database: Database) -> None:
    stored_job(database)
    change(database, fence=MAX_ATTEMPTS + 5)
    claimed(database)
    do(database, leases.hand_back, "w1")
    assert state(database) == JobState.QUEUED
    do(database, leases.succeed, claimed(database), best_epoch=1, test_metrics=None, version=1)
    assert state(database) == JobState.SUCCEEDED


def test_stopping_worker_hands_back_what_it_holds_without_a_loss(database: Database) -> None:
    trained(database, "mine")
    trained(database, "other", "w2")
    trained(database, "pausing")
    do(database, jobs.request_pause, "pausing")
    trained(database, "cancelling")
    do(database, jobs.request_cancel, "cancelling")
    stored_job(database, "waiting")
    do(database, leases.hand_back, "w1")
    names = ("mine", "other", "pausing", "cancelling", "waiting")
    assert [state(database, name).value for name in names] == ["queued", "running", "paused", "cancelled", "queued"]
    assert column(database, "losses", "mine") == 0
    assert kinds(database, "mine")[-1] == "handed_back"
    assert kinds(database, "pausing")[-2:] == ["handed_back", "paused"]
    assert kinds(database, "cancelling")[-2:] == ["handed_back", "cancelled"]
    assert [len(states_of(database, name)) for name in names] == [2, 2, 2, 0, 0]
    before = everything(database)
    do(database, leases.hand_back, "w1")
    assert everything(database) == before
    assert claim(database, "mine", "w3") is not None, "no pause follows"


def test_any_number_of_hand_backs_fails_no_job(database: Database) -> None:
    for _ in range(2 * MAX_LOSSES):
        leave(database, claimed(database), EventKind.HANDED_BACK)
    assert (state(database), column(database, "losses")) == (JobState.QUEUED, 0)


def needs_sweep(database: Database) -> bool:
    with database.read() as connection:
        return losses.needs_sweep(connection)


def test_sweep_is_not_needed_while_all_is_well(database: Database) -> None:
    stored_job(database, "queued")
    held = claimed(database, "running")
    assert not needs_sweep(database)
    before = [everything(database, name) for name in ("queued", "running")]
    sweep(database)
    do(database, losses.follow_clock)
    do(database, losses.lose_expired)
    assert [everything(database, name) for name in ("queued", "running")] == before
    do(database, losses.lose, held)
    assert not needs_sweep(database), "a pause after a loss is no fault of the clock"
    assert claim_next(database) == Claim("queued", 1, "w1", DEFAULT_OWNER)
    assert claim_next(database) is None


def test_lease_from_before_the_clock_was_set_back_is_shortened(database: Database) -> None:
    held = claimed(database)
    for state_now in (JobState.RUNNING, JobState.CANCELLING):
        change(database, lease_until=database_time(DAY))
        assert needs_sweep(database)
        sweep(database)
        assert not needs_sweep(database)
        with database.read() as connection:
            now = connection.execute(select(database_time())).scalar_one()
        assert 0 < (column(database, "lease_until") - now).total_seconds() <= LEASE_SECONDS
        assert state(database) == state_now
        do(database, leases.heartbeat, held)
        if state_now is JobState.RUNNING:
            do(database, jobs.request_cancel, "job-1")
    change(database, lease_until=database_time(DAY))
    sweep(database)
    lose(database)
    assert state(database) == JobState.CANCELLED


def test_pause_from_before_the_clock_was_set_back_is_over(database: Database) -> None:
    claimed(database)
    lose(database)
    change(database, claimable_at=database_time(DAY))
    assert claim(database) is None
    assert needs_sweep(database)
    sweep(database)
    assert not needs_sweep(database)
    assert claim(database) is not None
    assert column(database, "losses") == 1


def test_clock_that_is_set_forward_costs_one_loss(database: Database) -> None:
    """It is as if every stored time was a day ago."""
    held = trained(database)
    stored_job(database, "waiting")
    with database.write() as connection:
        connection.execute(update(table).values(claimable_at=database_time(-DAY)))
    change(database, lease_until=database_time(-DAY))
    sweep(database)
    assert (state(database), column(database, "losses")) == (JobState.QUEUED, 1)
    with pytest.raises(LeaseLost):
        do(database, leases.heartbeat, held)
    assert claim(database, "waiting") is not None
    record(database, claimed(database), step=4)
    assert column(database, "losses") == 0


def test_sweeper_gives_a_worker_that_lives_the_time_to_renew(database: Database) -> None:
    """After an outage of the database every lease has expired."""
    living, dead = claimed(database, "living"), claimed(database, "dead", "w2")
    for held in (living, dead):
        expire(database, held.job_id)
    sweeper = Sweeper(database)
    sweeper.start()
    time.sleep(SWEEP_SECONDS * 1.5)
    do(database, leases.heartbeat, living)
    until(lambda: state(database, "dead") != JobState.RUNNING, 10 * SWEEP_SECONDS)
    sweeper.stop()
    assert [state(database, name) for name in ("living", "dead")] == [JobState.RUNNING, JobState.QUEUED]


def test_sweeper_takes_nothing_from_a_worker_that_could_not_write_either(sqlite_database: Database) -> None:
    """Whoever holds SQLite's write lock keeps workers from renewing, and nobody from reading."""
    held = claimed(sqlite_database)
    expire(sqlite_database, "job-1")
    hasty = Database(str(sqlite_database.engine.url), patience_seconds=0.1).owned_by(DEFAULT_OWNER)
    sweeper = Sweeper(hasty)
    with sqlite_database.write():
        for _ in range(2 * LOOKS):
            with pytest.raises(DATABASE_DOWN):
                sweeper.look()
    for _ in range(LOOKS - 1):
        sweeper.look()
    assert state(sqlite_database) == JobState.RUNNING
    do(sqlite_database, leases.heartbeat, held)
    expire(sqlite_database, "job-1")
    for expected in (*[JobState.RUNNING] * (LOOKS - 1), JobState.QUEUED):
        sweeper.look()
        assert state(sqlite_database) == expected
    hasty.close()


def test_look_writes_something(sqlite_database: Database) -> None:
    """On a full disk a commit that changes nothing succeeds, and proves nothing."""
    claimed(sqlite_database)
    expire(sqlite_database, "job-1")
    log_file = Path(f"{sqlite_database.engine.url.database}-wal")
    sizes = []
    for _ in range(3):
        sizes.append(log_file.stat().st_size)
        time.sleep(0.002)
        with sqlite_database.write() as connection:
            losses.lose_expired(connection, [])
    assert sizes == sorted(set(sizes))
    assert state(sqlite_database) == JobState.RUNNING


def test_rest_of_a_queued_job_is_never_longer_than_any_that_is_given(database: Database) -> None:
    stored_job(database)
    change(database, claimable_at=database_time(LEASE_SECONDS + 5.0))
    assert needs_sweep(database), "no loss is followed by so long a rest: the clock was set back"
