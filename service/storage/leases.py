"""Who runs which job: claim, heartbeat, progress, the end, and what happens when a worker is lost.

Every statement is one conditional UPDATE. A claim carries a fence that counts up with each claim; a write under
an old fence changes no row, so a worker that wakes up late can do no harm. Time is the database's.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Update, and_, case, delete, func, or_, select, update

from service.domain.errors import LeaseLost
from service.domain.jobs import HELD_STATES, MAX_LOSSES, Beat, Claim, EpochRecord, JobState, Measure, Progress
from service.storage import blobs
from service.storage.database import database_time, upsert
from service.storage.tables import epochs, jobs

LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 3.0
RING_AGAIN_SECONDS = 10.0
BACK_OFF_SECONDS = 2.0
MAX_RINGS_AT_ONCE = 10


def claim(connection: Connection, job_id: str, worker: str) -> Claim | None:
    """Take a queued job; None where it is not to be had (a message delivered twice, a cancelled job).

    Epochs of an earlier attempt are removed: every attempt starts at the beginning.
    """
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED, jobs.c.claimable_at <= database_time())
        .values(
            state=JobState.RUNNING,
            fence=jobs.c.fence + 1,
            worker=worker,
            lease_until=database_time(LEASE_SECONDS),
            started_at=func.coalesce(jobs.c.started_at, database_time()),
            epoch=0,
            fraction=None,
            best_epoch=None,
            rows_per_second=None,
            eta_seconds=None,
        )
        .returning(jobs.c.fence)
    )
    fence = connection.execute(statement).scalar()
    if fence is None:
        return None
    connection.execute(delete(epochs).where(epochs.c.job_id == job_id))
    return Claim(job_id, fence, worker)


def heartbeat(connection: Connection, held: Claim) -> Beat:
    """Renew the lease and bring back whether somebody asked to cancel.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    statement = _held(held).values(lease_until=database_time(LEASE_SECONDS)).returning(jobs.c.state)
    state = connection.execute(statement).scalar()
    if state is None:
        raise LeaseLost(held.job_id, held.fence)
    return Beat(cancel_requested=state == JobState.CANCELLING)


def record_progress(
    connection: Connection, held: Claim, progress: Progress, best_epoch: int, records: Sequence[EpochRecord] = ()
) -> None:
    """Store how far a job has come, and what its latest epochs measured.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    _write(
        connection,
        held,
        epoch=progress.epoch,
        fraction=progress.fraction,
        rows_per_second=progress.rows_per_second,
        eta_seconds=progress.eta_seconds,
        best_epoch=best_epoch or None,
        lease_until=database_time(LEASE_SECONDS),
    )
    if not records:
        return
    # A commit whose answer was lost is tried again, so the rows may be there already.
    rows = upsert(connection, epochs).values([{"job_id": held.job_id, **asdict(record)} for record in records])
    measured = {name: rows.excluded[name] for name in ("metrics", "learning_rate", "seconds")}
    connection.execute(rows.on_conflict_do_update(index_elements=[epochs.c.job_id, epochs.c.epoch], set_=measured))


def record_split(connection: Connection, held: Claim, content: bytes) -> None:
    """Store which row goes to which part, one byte per row, compressed by zlib.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    _write(connection, held, split_sha256=blobs.put(connection, content))


def succeed(
    connection: Connection, held: Claim, *, best_epoch: int, test_metrics: dict[str, Measure] | None, version: int
) -> None:
    """End a job with a model.

    Raises:
        LeaseLost: another worker owns the job, it has ended, or somebody asked to cancel it.
    """
    statement = (
        _held(held)
        .where(jobs.c.state == JobState.RUNNING)
        .values(
            state=JobState.SUCCEEDED,
            best_epoch=best_epoch,
            test_metrics=test_metrics,
            model_version=version,
            eta_seconds=0.0,
            **_let_go(),
        )
    )
    if connection.execute(statement).rowcount == 0:
        raise LeaseLost(held.job_id, held.fence)


def fail(connection: Connection, held: Claim, code: str, detail: str) -> None:
    """End a job with its reason.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    _write(connection, held, state=JobState.FAILED, error_code=code, error_detail=detail, **_let_go())


def finish_cancel(connection: Connection, held: Claim) -> None:
    """End a job that somebody asked to cancel.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    _write(connection, held, state=JobState.CANCELLED, **_let_go())


def hand_back(connection: Connection, worker: str) -> None:
    """Return everything that a stopping worker holds to the queue; what was being cancelled is cancelled."""
    connection.execute(
        update(jobs)
        .where(jobs.c.worker == worker, jobs.c.state.in_(HELD_STATES))
        .values(**_after_leaving(JobState.QUEUED), claimable_at=database_time(), rung_at=None)
    )


def needs_sweep(connection: Connection) -> bool:
    """Whether a sweep would change anything; spares the write lock when all is well."""
    query = select(jobs.c.id).where(or_(_expired(), _unheard())).limit(1)
    return connection.execute(query).first() is not None


def sweep(connection: Connection) -> list[str]:
    """Take jobs back from lost workers; return the ids for which the doorbell must ring again.

    A loss sends a job back to the queue with a pause that grows; the third fails it, for it is probably the job
    that kills its workers. Any number of processes may sweep at once.
    """
    expired = _expired()
    lost_too_often = and_(jobs.c.state == JobState.RUNNING, jobs.c.losses + 1 >= MAX_LOSSES)
    connection.execute(
        update(jobs)
        .where(expired, lost_too_often)
        .values(
            state=JobState.FAILED,
            losses=jobs.c.losses + 1,
            error_code="worker_lost",
            error_detail=f"{MAX_LOSSES} workers were lost while they ran this job, which probably needs more memory "
            "than a worker has; try a smaller network or fewer rows",
            **_let_go(),
        )
    )
    pause = case((jobs.c.losses == 0, database_time(BACK_OFF_SECONDS)), else_=database_time(4 * BACK_OFF_SECONDS))
    connection.execute(
        update(jobs)
        .where(expired)
        .values(**_after_leaving(JobState.QUEUED), losses=jobs.c.losses + 1, claimable_at=pause, rung_at=None)
    )
    oldest = select(jobs.c.id).where(_unheard()).order_by(jobs.c.number).limit(MAX_RINGS_AT_ONCE).scalar_subquery()
    rung = update(jobs).where(jobs.c.id.in_(oldest), _unheard()).values(rung_at=database_time()).returning(jobs.c.id)
    return list(connection.execute(rung).scalars())


def _expired() -> ColumnElement[bool]:
    return and_(jobs.c.state.in_(HELD_STATES), jobs.c.lease_until < database_time())


def _unheard() -> ColumnElement[bool]:
    """Queued jobs whose doorbell has not rung, or rang a while ago and nobody came."""
    silent = or_(jobs.c.rung_at.is_(None), jobs.c.rung_at < database_time(-RING_AGAIN_SECONDS))
    return and_(jobs.c.state == JobState.QUEUED, jobs.c.claimable_at <= database_time(), silent)


def _held(held: Claim) -> Update:
    return update(jobs).where(jobs.c.id == held.job_id, jobs.c.fence == held.fence, jobs.c.state.in_(HELD_STATES))


def _write(connection: Connection, held: Claim, **values: Any) -> None:
    if connection.execute(_held(held).values(**values)).rowcount == 0:
        raise LeaseLost(held.job_id, held.fence)


def _let_go() -> dict[str, Any]:
    return {"worker": None, "lease_until": None, "finished_at": database_time()}


def _after_leaving(otherwise: JobState) -> dict[str, Any]:
    """Where a held job goes when its worker leaves: a cancelled one has ended, another waits again."""
    cancelling = jobs.c.state == JobState.CANCELLING
    finished_at: ColumnElement[Any] = case((cancelling, database_time()), else_=None)
    return {
        "state": case((cancelling, JobState.CANCELLED.value), else_=otherwise.value),
        "worker": None,
        "lease_until": None,
        "finished_at": finished_at,
    }
