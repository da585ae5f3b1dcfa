"""Many workers at once, some of whom go without a word: nothing is lost, and nothing done twice."""

from collections import Counter

import pytest
from sqlalchemy import select

from benchmarks.simulation import findings, fleet
from benchmarks.simulation.plan import Plan
from service.domain.jobs import JobState
from service.storage.database import Database
from service.storage.tables import jobs
from tests.factories import stored_job

JOBS, WORKERS, OWNERS, MOST_RUNNING = 150, 50, 5, 9
SEED = 20261130


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_fifty_workers_of_whom_some_vanish_lose_no_job_and_end_none_twice(database: Database) -> None:
    for number in range(JOBS):
        stored_job(database.owned_by(f"owner-{number % OWNERS}"), f"job-{number}")
    plan = Plan(
        database.engine.url.render_as_string(hide_password=False),
        workers=WORKERS,
        seconds=60.0,
        warm_up_seconds=0.0,
        job_seconds=1.0,
        connections=8,
        progress_seconds=0.4,
        checkpoint_seconds=0.4,
        checkpoint_bytes=1024,
        sweep_seconds=0.2,
        vanishing=0.1,
        cuts_leases=True,
        until_done=True,
        most_running=MOST_RUNNING,
        seed=SEED,
    )
    everybody = database.for_everybody()
    outcome = fleet.run(plan)
    assert findings.faults(everybody, outcome.ended) == Counter(), f"seed {SEED}"
    with everybody.read() as connection:
        states = Counter(connection.execute(select(jobs.c.state)).scalars())
    ended = len(outcome.ended)
    assert states == Counter({JobState.SUCCEEDED: ended, JobState.FAILED: JOBS - ended})
    assert outcome.counts["workers vanished"] > 0
    assert outcome.counts["jobs taken back"] == outcome.counts["workers vanished"]
