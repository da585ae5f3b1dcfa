"""Whether all is as it must be afterwards: nothing lost, nothing done twice, and how long somebody waited."""

from collections import Counter

from sqlalchemy import case, func, select

from benchmarks.simulation.stock import SINGLE
from service.domain.jobs import FINAL_STATES, HELD_STATES, EventKind, JobState
from service.storage.database import Connection, Database, database_time
from service.storage.tables import epochs, events, jobs

LATE_SECONDS = 60.0
"""A lease that ended so long ago has been forgotten."""


def faults(database: Database, ended: list[str]) -> Counter[str]:
    """Count what must not be, by what it is; ``ended`` are the jobs that workers ended well."""
    with database.read(steady=True) as connection:
        found = _faults_of_rows(connection) + _faults_of_logs(connection)
        states = {row.id: row.state for row in connection.execute(select(jobs.c.id, jobs.c.state))}
    found["jobs ended twice"] = len(ended) - len(set(ended))
    found["jobs whose end was lost"] = sum(states.get(job_id) != JobState.SUCCEEDED for job_id in set(ended))
    return +found


def waits(database: Database) -> list[float]:
    """Return for how long owners with one job have waited for its beginning, in seconds."""
    waited = func.extract("epoch", func.coalesce(jobs.c.started_at, database_time()) - jobs.c.created_at)
    with database.read() as connection:
        return list(map(float, connection.execute(select(waited).where(jobs.c.owner.like(f"{SINGLE}-%"))).scalars()))


def _faults_of_rows(connection: Connection) -> Counter[str]:
    is_held = jobs.c.state.in_(HELD_STATES)
    forgotten = is_held & (jobs.c.lease_until < database_time(-LATE_SECONDS))
    unheld = is_held & jobs.c.worker.is_(None)
    query = select(func.count().filter(forgotten), func.count().filter(unheld)).select_from(jobs)
    lost, odd = connection.execute(query).one()
    return Counter({"jobs forgotten by the sweepers": lost, "jobs that run nowhere": odd})


def _faults_of_logs(connection: Connection) -> Counter[str]:
    """Hold every log against its job: no gap, as many starts as attempts, one end at most, every epoch once."""
    ends = [state.value for state in FINAL_STATES]
    of = events.c
    told = (
        select(
            of.job_id,
            func.count().label("events"),
            func.sum(case((of.kind == EventKind.STARTED, 1), else_=0)).label("starts"),
            func.sum(case((of.kind.in_(ends), 1), else_=0)).label("ends"),
            func.sum(case((of.kind == EventKind.EPOCH, 1), else_=0)).label("epochs"),
        )
        .group_by(of.job_id)
        .subquery()
    )
    measured = select(epochs.c.job_id, func.count().label("epochs")).group_by(epochs.c.job_id).subquery()
    stored = func.coalesce(measured.c.epochs, 0)
    wrong = {
        "logs with gaps": told.c.events != jobs.c.last_event,
        "attempts that were not told": told.c.starts != jobs.c.fence,
        "jobs with more or less than one end": told.c.ends != case((jobs.c.state.in_(ends), 1), else_=0),
        "epochs lost or doubled": (stored != jobs.c.epoch) | (told.c.epochs != jobs.c.epoch),
    }
    counted = [func.count().filter(condition) for condition in wrong.values()]
    query = select(*counted).select_from(jobs).join(told, told.c.job_id == jobs.c.id)
    query = query.outerjoin(measured, measured.c.job_id == jobs.c.id)
    return Counter(dict(zip(wrong, connection.execute(query).one(), strict=True)))
