"""Who runs which job: claim, heartbeat, progress, the end.

Every write of a worker is conditional: a claim carries a fence that counts up with each claim, and a write under an
old fence changes no row, so a worker that wakes up late can do no harm. Time is the database's.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    ScalarSelect,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from service.domain.diagnostics import Diagnosis
from service.domain.errors import LeaseLost
from service.domain.jobs import (
    HELD_STATES,
    RESUMABLE_ERRORS,
    Beat,
    Checkpoint,
    Claim,
    EpochRecord,
    EventKind,
    JobKind,
    JobState,
    Measure,
    Progress,
    SavedState,
)
from service.domain.verdict import Verdict
from service.storage import blobs, checkpoints, diagnostics, events, turns
from service.storage.database import database_time
from service.storage.jobs import add_epochs
from service.storage.owners import acting_for, my_job
from service.storage.tables import epochs, jobs

LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 3.0

CLAIMED = (jobs.c.id, jobs.c.fence, jobs.c.worker, jobs.c.owner)
"""What makes a claim."""
_CLAIMANT = "claimant"
_WORD = (jobs.c.state, jobs.c.pause_requested)
_MINE = (jobs.c.kind, jobs.c.epoch, jobs.c.state, jobs.c.last_checkpoint, jobs.c.pause_requested)


def claim(connection: Connection, job_id: str, worker: str) -> Claim | None:
    """Take a queued job; None where it is not to be had (a message delivered twice, a cancelled job)."""
    return claim_with(connection, _claiming(jobs.c.id == job_id), worker)


def claim_next(connection: Connection, worker: str, most_running: int | None = None) -> Claim | None:
    """Take the job whose turn it is, of an owner who runs fewer than ``most_running``; None where there is none."""
    tries = (
        claim_with(connection, claiming_next(number), worker) for number in turns.next_number(connection, most_running)
    )
    return next((held for held in tries if held is not None), None)


@cache  # to build it takes as long as a third of its way through the database
def claiming_next(number: ScalarSelect[int]) -> ReturningUpdate[Any]:
    """Return the statement that takes the job whose number one of the queries of ``turns.next_number`` finds."""
    return _claiming(jobs.c.number == number)


def claim_with(connection: Connection, statement: ReturningUpdate[Any], worker: str) -> Claim | None:
    """Take the job that a statement of this module finds, if it waits."""
    row = connection.execute(statement, {_CLAIMANT: worker}).mappings().first()
    if row is None:
        return None
    started = {"attempt": row["fence"], "worker": worker, "epoch": row["epoch"]}
    with acting_for(connection, row["owner"]):
        events.add_counted(connection, row["id"], row, [(EventKind.STARTED, started)])
    turns.take(connection, row["owner"])
    return claim_of(row)


def has_claimable(connection: Connection, most_running: int | None = None) -> bool:
    """Whether there is a job to be claimed; spares the write lock when there is none."""
    return turns.has_next(connection, most_running)


def word(connection: Connection, held: Claim) -> Beat:
    """Read what somebody asked of a job.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    return _word(connection.execute(select(*_WORD).where(_is_held(held))).mappings().first(), held)


def heartbeat(connection: Connection, held: Claim) -> Beat:
    """Renew the lease and bring back what somebody asked.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    renewed = _held(held).values(lease_until=database_time(LEASE_SECONDS)).returning(*_WORD)
    return _word(connection.execute(renewed).mappings().first(), held)


def record_progress(connection: Connection, held: Claim, progress: Progress) -> None:
    """Store how far a job has come within its epoch.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    write(connection, held, **_pace(progress), lease_until=database_time(LEASE_SECONDS))


def record(
    connection: Connection,
    held: Claim,
    progress: Progress,
    best_epoch: int,
    records: Sequence[EpochRecord],
    saved: SavedState | None = None,
) -> None:
    """Store what epochs measured, with the state from which a training goes on after them, and say so in the log.

    What is stored never has to be trained again: without a state, only the end of the job may follow.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    sha256 = None if saved is None else blobs.put(connection, saved.content)  # before anybody waits for the job's row
    mine = hold(connection, held)
    # A commit whose answer was lost is tried again, so that the first of them may be stored already.
    fresh = [measured for measured in records if measured.epoch > mine["epoch"]]
    values: dict[str, Any] = {**_pace(progress), "epoch": progress.epoch, "best_epoch": best_epoch or None}
    if saved is not None:
        number = mine["last_checkpoint"] + 1
        values |= {"last_checkpoint": number, "losses": 0}
    write(connection, held, **values, lease_until=database_time(LEASE_SECONDS))
    add_epochs(connection, held.job_id, fresh)
    if saved is not None and sha256 is not None:
        checkpoints.add(connection, held.job_id, Checkpoint(number, sha256, saved.epoch, saved.step))


def record_looks(
    connection: Connection, held: Claim, diagnoses: Sequence[Diagnosis], verdicts: Sequence[Verdict]
) -> None:
    """Store what the layers looked like and what was said of them, and tell the log once that they are lost.

    It goes with ``record``, in one transaction.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    write(connection, held, verdict=verdicts[-1].to_dict())
    diagnostics.add(connection, held.job_id, diagnoses)
    lost = next((verdict for verdict in verdicts if verdict.is_lost), None)
    if lost is not None and not events.has(connection, held.job_id, EventKind.SELF_NORMALIZATION_LOST):
        told = {"status": lost.status, "epoch": lost.epoch, "layer": lost.layer, "cause": lost.cause}
        events.append(connection, held.job_id, EventKind.SELF_NORMALIZATION_LOST, **told)


def go_back(
    connection: Connection, held: Claim, damaged: Checkpoint | None, reason: str, *, keeps_bytes: bool = False
) -> None:
    """Forget a state that cannot be used, and the epochs that only it stands for; where there is none, every epoch.

    ``keeps_bytes`` leaves the bytes of the state behind, for the database cannot reach them.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    hold(connection, held)
    if damaged is not None:
        checkpoints.remove(connection, held.job_id, damaged.number, keeps_bytes=keeps_bytes)
    before = checkpoints.newest(connection, held.job_id)
    epoch = 0 if before is None else before.epoch
    still = case((jobs.c.best_epoch <= epoch, jobs.c.best_epoch), else_=None)
    write(connection, held, epoch=epoch, best_epoch=still)
    its = my_job(connection, held.job_id)
    connection.execute(delete(epochs).where(epochs.c.job_id == its, epochs.c.epoch > epoch))
    diagnostics.forget_after(connection, held.job_id, epoch)
    write(connection, held, verdict=diagnostics.judged(connection, held.job_id))
    events.append(connection, held.job_id, EventKind.CHECKPOINT_DAMAGED, epoch=epoch, reason=reason)


def record_split(connection: Connection, held: Claim, content: bytes) -> None:
    """Store which row goes to which part, one byte per row, compressed by zlib.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    before = connection.execute(select(jobs.c.split_sha256).where(_is_held(held))).scalar()
    sha256 = blobs.put(connection, content)
    write(connection, held, split_sha256=sha256)
    if before not in (None, sha256):
        blobs.delete_unused(connection, before)


def succeed(
    connection: Connection, held: Claim, *, best_epoch: int, test_metrics: dict[str, Measure] | None, version: int
) -> None:
    """End a training with a model.

    Raises:
        LeaseLost: another worker owns the job, it has ended, or somebody asked to cancel it.
    """
    made = {"best_epoch": best_epoch, "test_metrics": test_metrics, "model_version": version}
    finish(connection, held, made, version=version)


def finish(connection: Connection, held: Claim, made: dict[str, Any], **told: Any) -> None:
    """End a job of either kind well; ``made`` is stored of it, ``told`` is what the log says.

    Raises:
        LeaseLost: another worker owns the job, it has ended, or somebody asked to cancel it.
    """
    done = {"state": JobState.SUCCEEDED, "fraction": 1.0, "eta_seconds": 0.0}
    statement = _held(held).where(jobs.c.state == JobState.RUNNING)
    statement = statement.values(**made, **done, **_let_go(), last_event=jobs.c.last_event + 1)
    row = connection.execute(statement.returning(*events.COUNTED)).mappings().first()
    if row is None:
        raise LeaseLost(held.job_id, held.fence)
    events.add_counted(connection, held.job_id, row, [(EventKind.SUCCEEDED, told)])
    checkpoints.drop(connection, held.job_id)


def fail(connection: Connection, held: Claim, code: str, detail: str) -> None:
    """End a job with its reason, or as cancelled where somebody asked for that.

    Its states stay for a retry, unless that would only come to the same end; predictions have none.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    mine = hold(connection, held)
    if mine["state"] == JobState.CANCELLING:
        leave(connection, held)
        return
    write(connection, held, state=JobState.FAILED, error_code=code, error_detail=detail, **_let_go())
    events.append(connection, held.job_id, EventKind.FAILED, code=code, detail=detail)
    if mine["kind"] == JobKind.PREDICTION or code not in RESUMABLE_ERRORS:
        checkpoints.drop(connection, held.job_id)


def leave(connection: Connection, held: Claim, kind: EventKind | None = None, **values: Any) -> JobState:
    """Let go of a job that has not ended; return where it goes.

    One that somebody asked to cancel is cancelled, one that somebody asked to pause is paused, any other waits in line
    again. ``kind`` is what the log says besides.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    mine = hold(connection, held)
    goes = JobState.QUEUED
    if mine["state"] == JobState.CANCELLING:
        goes = JobState.CANCELLED
    elif mine["pause_requested"]:
        goes = JobState.PAUSED
    let_go = _let_go() if goes.is_final else {**_let_go(), "finished_at": None}
    write(connection, held, **{"state": goes, "claimable_at": database_time(), **let_go, **values})
    if kind is None and goes is JobState.QUEUED:
        kind = EventKind.HANDED_BACK  # what it was asked to leave for has been taken back meanwhile
    if kind is not None:
        events.append(connection, held.job_id, kind, attempt=held.fence)
    if goes is not JobState.QUEUED:
        events.append(connection, held.job_id, EventKind(goes.value))
    if goes.is_final:
        checkpoints.drop(connection, held.job_id)
    return goes


def hand_back(connection: Connection, worker: str) -> None:
    """Take back everything that a stopping worker still holds."""
    query = select(*CLAIMED).where(jobs.c.worker == worker, jobs.c.state.in_(HELD_STATES)).with_for_update()
    rows = connection.execute(query).mappings().all()
    for held in map(claim_of, rows):
        with acting_for(connection, held.owner):
            leave(connection, held, EventKind.HANDED_BACK)


def hold(connection: Connection, held: Claim) -> RowMapping:
    """Read a job that is held, and keep its row until the transaction ends.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    row = connection.execute(select(*_MINE).where(_is_held(held)).with_for_update()).mappings().first()
    if row is None:
        raise LeaseLost(held.job_id, held.fence)
    return row


def write(connection: Connection, held: Claim, **values: Any) -> None:
    """Change the row of a job that is held.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    if connection.execute(_held(held).values(**values)).rowcount == 0:
        raise LeaseLost(held.job_id, held.fence)


def claim_of(row: RowMapping) -> Claim:
    """Return the claim that a row of jobs speaks of."""
    return Claim(row["id"], row["fence"], row["worker"], row["owner"])


def _claiming(which: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """Return the statement that takes the job that a condition is true of, if it waits; it is of one at most."""
    statement = update(jobs).where(which, turns.may_be_claimed())
    statement = statement.values(
        state=JobState.RUNNING,
        fence=jobs.c.fence + 1,
        worker=bindparam(_CLAIMANT),
        lease_until=database_time(LEASE_SECONDS),
        started_at=func.coalesce(jobs.c.started_at, database_time()),
        rows_per_second=None,
        eta_seconds=None,
        last_event=jobs.c.last_event + 1,
    )
    return statement.returning(*CLAIMED, jobs.c.epoch, *events.COUNTED)


def _word(row: RowMapping | None, held: Claim) -> Beat:
    if row is None:
        raise LeaseLost(held.job_id, held.fence)
    return Beat(row["state"] == JobState.CANCELLING, row["pause_requested"])


def _is_held(held: Claim) -> ColumnElement[bool]:
    is_its = and_(jobs.c.owner == held.owner, jobs.c.id == held.job_id, jobs.c.fence == held.fence)
    return and_(is_its, jobs.c.state.in_(HELD_STATES))


def _held(held: Claim) -> Update:
    return update(jobs).where(_is_held(held))


def _pace(progress: Progress) -> dict[str, Any]:
    return {
        "fraction": progress.fraction,
        "rows_per_second": progress.rows_per_second,
        "eta_seconds": progress.eta_seconds,
    }


def _let_go() -> dict[str, Any]:
    return {"worker": None, "lease_until": None, "pause_requested": False, "finished_at": database_time()}
