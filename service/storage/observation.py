"""Counts everybody's jobs and workers for an operator; every query reads an index or a bounded number of rows.

Only how many jobs have ended is counted in full, which a million of them takes a tenth of a second: it is asked for
less often.
"""

import shutil
from collections import Counter
from typing import Any

from sqlalchemy import Connection, case, func, literal, select, text

from service.domain.jobs import ACTIVE_STATES, FINAL_STATES, HELD_STATES, JobKind, JobState
from service.domain.observation import Observation
from service.domain.workers import WorkerState
from service.storage import workers
from service.storage.database import database_time
from service.storage.leases import LEASE_SECONDS
from service.storage.tables import jobs, webhook_deliveries, webhooks

MOST_LOOKED_AT = 1000
"""So many queued jobs are looked through for the one that waits longest; they are read in the order they came in."""
LATEST = 200
"""So many trainings that ended are looked at for their verdicts, and as many failures for their codes."""
LATEST_DELIVERIES = 1000
MOST_PENDING = 10_000
"""Of what webhooks are still to be told, no more is counted."""
LOST = "lost"


def observe(connection: Connection, ended: dict[str, int]) -> Observation:
    """Look once; ``ended`` is what ``count_ended`` has returned, now or a little earlier."""
    held = _held(connection)
    return Observation(
        jobs={**_count(connection, sorted(ACTIVE_STATES)), **ended},
        queue_age_seconds=_queue_age(connection),
        **held,
        **_workers(connection),
        verdicts=_verdicts(connection),
        failures=_failures(connection),
        deliveries=_deliveries(connection),
        webhooks_failing=_webhooks_failing(connection),
        database_bytes=_size(connection),
        disk_free_bytes=_free(connection),
    )


def count_ended(connection: Connection) -> dict[str, int]:
    """Count the jobs that have ended, by state."""
    return _count(connection, sorted(FINAL_STATES))


def _count(connection: Connection, states: list[JobState]) -> dict[str, int]:
    query = select(jobs.c.state, func.count()).where(jobs.c.state.in_(states)).group_by(jobs.c.state)
    found: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
    return {state.value: found.get(state, 0) for state in states}


def _queue_age(connection: Connection) -> float:
    waiting = select(jobs.c.claimable_at).where(jobs.c.state == JobState.QUEUED, jobs.c.claimable_at <= database_time())
    first = waiting.order_by(jobs.c.number).limit(MOST_LOOKED_AT).subquery()
    now, oldest = connection.execute(select(database_time().label("now"), func.min(first.c.claimable_at))).one()
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


def _held(connection: Connection) -> dict[str, Any]:
    """Look at the jobs that workers hold, which are no more than there are workers."""
    is_expired = case((jobs.c.lease_until < database_time(), 1), else_=0)
    query = select(
        database_time().label("now"),
        func.min(jobs.c.lease_until),
        func.sum(is_expired),
        func.sum(jobs.c.rows_per_second),
    ).where(jobs.c.state.in_(HELD_STATES))
    now, first, expired, rows = connection.execute(query).one()
    age = 0.0 if first is None else max(0.0, LEASE_SECONDS - (first - now).total_seconds())
    return {"heartbeat_age_seconds": age, "expired_leases": int(expired or 0), "rows_per_second": float(rows or 0.0)}


def _workers(connection: Connection) -> dict[str, Any]:
    known = workers.list_all(connection)
    counted = Counter(LOST if worker.is_lost else worker.state.value for worker in known)
    states = {state: counted[state] for state in (*(state.value for state in WorkerState), LOST)}
    sign = min((worker.seconds_silent for worker in known), default=None)
    return {"workers": states, "worker_sign_age_seconds": None if sign is None else max(0.0, sign)}


def _verdicts(connection: Connection) -> dict[tuple[str, str], int]:
    status = jobs.c.verdict["status"].as_string()
    trainings = select(literal("running").label("state"), status.label("status")).where(
        jobs.c.state.in_(HELD_STATES), jobs.c.kind == JobKind.TRAINING
    )
    ended = (
        select(literal("succeeded").label("state"), status.label("status"))
        .where(jobs.c.state == JobState.SUCCEEDED, jobs.c.kind == JobKind.TRAINING)
        .order_by(jobs.c.number.desc())
        .limit(LATEST)
    )
    found: Counter[tuple[str, str]] = Counter()
    for query in (trainings, ended):
        found.update((state, said) for state, said in connection.execute(query) if said is not None)
    return dict(found)


def _failures(connection: Connection) -> dict[str, int]:
    query = select(jobs.c.error_code).where(jobs.c.state == JobState.FAILED).order_by(jobs.c.number.desc())
    return dict(Counter(code or "unknown" for code in connection.execute(query.limit(LATEST)).scalars()))


def _deliveries(connection: Connection) -> dict[str, int]:
    waiting = select(webhook_deliveries.c.number).where(webhook_deliveries.c.state == "pending").limit(MOST_PENDING)
    pending = connection.execute(select(func.count()).select_from(waiting.subquery())).scalar_one()
    latest = select(webhook_deliveries.c.state).order_by(webhook_deliveries.c.number.desc()).limit(LATEST_DELIVERIES)
    found = Counter(connection.execute(latest).scalars())
    return {"pending": pending, "delivered": found["delivered"], "failed": found["failed"]}


def _webhooks_failing(connection: Connection) -> int:
    failing = select(func.count()).where(webhooks.c.enabled, webhooks.c.failing_since.is_not(None))
    return connection.execute(failing).scalar_one()


def _size(connection: Connection) -> int:
    question = (
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        if connection.dialect.name == "sqlite"
        else "SELECT pg_database_size(current_database())"
    )
    return int(connection.execute(text(question)).scalar_one())


def _free(connection: Connection) -> int | None:
    """Return how much room there is where the database is; None where that is another machine's."""
    file = connection.engine.url.database
    if connection.dialect.name != "sqlite" or not file:
        return None
    return shutil.disk_usage(file).free
