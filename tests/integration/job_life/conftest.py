"""After every one of these lives the log has no gap, and nothing is left that nobody needs."""

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from service.domain.jobs import HELD_STATES, EventKind, JobState
from service.storage import tables
from service.storage.database import Database
from service.storage.tables import jobs as table
from tests.clock import stop_clock
from tests.integration.job_life.hands import epochs_of, log, states_of, stored_blobs


@pytest.fixture
def database(database: Database) -> Database:
    """The clock stands still: no pause of a second ends by itself on a machine that has other things to do."""
    stop_clock(database)
    return database


@pytest.fixture(autouse=True)
def sound(database: Database) -> Iterator[None]:
    """After every one of these lives: the log has no gap and no sequel, and nothing is left that nobody needs."""
    before = stored_blobs(database)
    yield
    with database.read() as connection:
        found = list(connection.execute(select(table)).mappings())
        owners = {event.job_id for event in connection.execute(select(tables.events)).all()}
        splits = {row["split_sha256"] for row in found}
    assert owners == {row["id"] for row in found}
    needed = before | splits
    for row in found:
        told = log(database, row["id"])
        assert [event.number for event in told] == list(range(1, row["last_event"] + 1))
        assert told[0].kind is EventKind.SUBMITTED
        job_state = JobState(row["state"])
        ends = [
            place for place, event in enumerate(told, 1) if event.kind.value in ("succeeded", "failed", "cancelled")
        ]
        assert ends == ([len(told)] if job_state.is_final else [])
        if ends:
            assert told[-1].kind.value == job_state.value
        is_held = job_state in HELD_STATES
        assert (row["worker"] is not None, row["lease_until"] is not None) == (is_held, is_held)
        assert (row["finished_at"] is not None) == job_state.is_final
        assert not row["pause_requested"] or is_held
        assert epochs_of(database, row["id"]) == list(range(1, row["epoch"] + 1))
        states = states_of(database, row["id"])
        assert len(states) <= 2
        assert all(kept.number <= row["last_checkpoint"] and kept.epoch <= row["epoch"] for kept in states)
        assert states == [] or job_state not in (JobState.SUCCEEDED, JobState.CANCELLED)
        needed |= {kept.sha256 for kept in states}
    assert stored_blobs(database) == needed - {None}
