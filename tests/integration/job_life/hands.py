"""What workers and users do to a job in the database, and what is stored of it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from service.domain.jobs import Checkpoint, Claim, Event, EventKind, Job, JobState
from service.storage import events, jobs, leases, tables
from service.storage.database import Connection, Database, database_time
from service.storage.tables import jobs as table
from service.sweeper import sweep
from tests.factories import measured, progress, saved_state, stored_job

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

DAY = 86_400.0


def do(
    database: Database,
    work: Callable[Concatenate[Connection, Arguments], Result],
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> Result:
    """Work in a transaction of its own."""
    with database.write() as connection:
        return work(connection, *arguments, **options)


def claim(database: Database, job_id: str = "job-1", worker: str = "w1") -> Claim | None:
    return do(database.for_everybody(), leases.claim, job_id, worker)


def claim_next(database: Database, worker: str = "w1") -> Claim | None:
    return do(database.for_everybody(), leases.claim_next, worker)


def claimed(database: Database, job_id: str = "job-1", worker: str = "w1") -> Claim:
    """Claim a job, which is stored if there is none of this name."""
    with suppress(IntegrityError):
        stored_job(database, job_id)
    make_claimable(database)
    held = claim(database, job_id, worker)
    assert held is not None
    return held


def read(database: Database, job_id: str = "job-1") -> Job:
    with database.read() as connection:
        return jobs.get(connection, job_id)


def state(database: Database, job_id: str = "job-1") -> JobState:
    return read(database, job_id).state


def column(database: Database, name: str, job_id: str = "job-1") -> Any:
    with database.read() as connection:
        return connection.execute(select(table.c[name]).where(table.c.id == job_id)).scalar_one()


def record(database: Database, held: Claim, *epochs: int, step: int | None = None) -> None:
    """Store epochs; with ``step``, a state that stands so many steps after the last of them."""
    last = max(epochs, default=read(database, held.job_id).epoch)
    saved = None if step is None else saved_state(last, step)
    do(database, leases.record, held, progress(last), 1, [measured(epoch) for epoch in epochs], saved)


def leave(database: Database, held: Claim, kind: EventKind | None = None) -> JobState:
    with database.write() as connection:
        return leases.leave(connection, held, kind)


def trained(database: Database, job_id: str = "job-1", worker: str = "w1") -> Claim:
    """Claim a job, and store two states: after two epochs, and after four and three steps of the next."""
    held = claimed(database, job_id, worker)
    record(database, held, 1, 2, step=0)
    record(database, held, 3, 4, step=3)
    return held


def change(database: Database, job_id: str = "job-1", **values: Any) -> None:
    with database.write() as connection:
        connection.execute(update(table).where(table.c.id == job_id).values(**values))


def make_claimable(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(table).values(claimable_at=database_time(-1)))


def expire(database: Database, job_id: str) -> None:
    is_held = (table.c.id == job_id) & table.c.worker.is_not(None)
    with database.write() as connection:
        connection.execute(update(table).where(is_held).values(lease_until=database_time(-1)))


def lose(database: Database, job_id: str = "job-1") -> None:
    """Let the lease of a job expire, and sweep."""
    expire(database, job_id)
    sweep(database)


def log(database: Database, job_id: str = "job-1") -> list[Event]:
    with database.read() as connection:
        return events.read(connection, job_id)


def kinds(database: Database, job_id: str = "job-1") -> list[str]:
    return [event.kind.value for event in log(database, job_id)]


def epochs_of(database: Database, job_id: str = "job-1") -> list[int]:
    with database.read() as connection:
        return [stored.epoch for stored in jobs.epoch_records(connection, job_id)]


def states_of(database: Database, job_id: str = "job-1") -> list[Checkpoint]:
    """The states of a job, oldest first."""
    which = tables.checkpoints
    with database.read() as connection:
        query = select(which.c.number, which.c.sha256, which.c.epoch, which.c.step)
        rows = connection.execute(query.where(which.c.job_id == job_id).order_by(which.c.number))
        return [Checkpoint(*row) for row in rows]


def stored_blobs(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(tables.blobs.c.sha256)).scalars())


def everything(database: Database, job_id: str = "job-1") -> dict[str, Any]:
    """All that is stored of a job."""
    found: dict[str, Any] = {"blobs": stored_blobs(database)}
    with database.read() as connection:
        for which in (table, tables.epochs, tables.diagnostics, tables.events, tables.checkpoints):
            key = which.c.id if which is table else which.c.job_id
            rows = connection.execute(select(which).where(key == job_id).order_by(*which.primary_key)).mappings()
            found[which.name] = [dict(row) for row in rows]
    return found


def brought_to(database: Database, wanted: JobState) -> Claim | None:
    """Bring the job into a state; return the last claim on it."""
    stored_job(database)
    if wanted is JobState.QUEUED:
        return None
    held = claimed(database)
    match wanted:
        case JobState.PAUSED:
            do(database, jobs.request_pause, "job-1")
            leave(database, held)
        case JobState.CANCELLING:
            do(database, jobs.request_cancel, "job-1")
        case JobState.CANCELLED:
            do(database, jobs.request_cancel, "job-1")
            leave(database, held)
        case JobState.FAILED:
            do(database, leases.fail, held, "worker_lost", "why")
        case JobState.SUCCEEDED:
            do(database, leases.succeed, held, best_epoch=1, test_metrics=None, version=1)
    assert state(database) == wanted
    return held
