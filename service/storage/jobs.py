"""Jobs as users see them: added, read, listed, cancelled, deleted; trainings, and what predictions share with them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, delete, func, insert, select, update

from service import tracing
from service.domain.comparison_errors import JobInComparison
from service.domain.errors import (
    JobIsCancelling,
    JobIsFinal,
    JobIsNotFinal,
    UnknownJob,
    UnknownPrediction,
)
from service.domain.jobs import ACTIVE_STATES, EpochRecord, EventKind, Job, JobKind, JobState
from service.storage import blobs, checkpoints, events, pages, turns
from service.storage.database import database_time
from service.storage.owners import mine, my_job, owner_of
from service.storage.tables import comparison_jobs, epochs, job_tags, jobs

_latest, _best = epochs.alias("latest"), epochs.alias("best")
_COLUMNS = [column for column in jobs.c if column.name not in ("lint", "held_out")]
"""What is shown of a job itself; the others are large, and read by ``diagnostics``."""
_SELECT = (
    select(*_COLUMNS, _latest.c.metrics.label("latest_metrics"), _best.c.metrics.label("best_metrics"))
    .outerjoin(_latest, (_latest.c.job_id == jobs.c.id) & (_latest.c.epoch == jobs.c.epoch))
    .outerjoin(_best, (_best.c.job_id == jobs.c.id) & (_best.c.epoch == jobs.c.best_epoch))
    .where(jobs.c.kind == JobKind.TRAINING)
)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows; None means any."""

    state: JobState | None = None
    tag: str | None = None
    model: str | None = None
    dataset: str | None = None


def add(
    connection: Connection,
    job_id: str,
    spec: dict[str, Any],
    warnings: Sequence[str] = (),
    retry_of: str | None = None,
    lint: Sequence[dict[str, Any]] | None = None,
    *,
    joins: bool = True,
) -> None:
    """Store a new training as queued; ``spec`` is complete, ``lint`` what was found about it.

    Without ``joins``, ``turns.join`` is called when all is stored that belongs to it.
    """
    values = {"epochs": spec["training"]["epochs"], "retry_of": retry_of, "lint": lint}
    enqueue(connection, job_id, JobKind.TRAINING, spec, warnings, **values)
    if joins:
        turns.join(connection)


def enqueue(
    connection: Connection, job_id: str, kind: JobKind, spec: dict[str, Any], warnings: Sequence[str], **values: Any
) -> None:
    """Store a new job of either kind as queued; its owner has turns once ``turns.join`` has been called, too."""
    stored = connection.execute(
        insert(jobs)
        .values(
            id=job_id,
            owner=owner_of(connection),
            kind=kind,
            state=JobState.QUEUED,
            spec=spec,
            dataset_id=spec["dataset"],
            model_name=spec["model"],
            tags=spec["tags"],
            warnings=list(warnings),
            last_event=1,
            **values,
        )
        .returning(jobs.c.number)
    )
    number = stored.scalar_one()
    if tags := dict.fromkeys(spec["tags"]):
        connection.execute(
            insert(job_tags), [{"owner": owner_of(connection), "tag": tag, "number": number} for tag in tags]
        )
    events.begin(connection, job_id, EventKind.SUBMITTED, **tracing.carried())


def get(connection: Connection, job_id: str) -> Job:
    """Read one training.

    Raises:
        UnknownJob: there is none with this id.
    """
    row = connection.execute(_SELECT.where(mine(connection, jobs), jobs.c.id == job_id)).mappings().first()
    if row is None:
        raise UnknownJob(job_id)
    return _jobs(connection, [row])[0]


def kind_of(connection: Connection, job_id: str) -> JobKind:
    """Read what a job is for.

    Raises:
        UnknownJob: there is none with this id.
    """
    kind = connection.execute(select(jobs.c.kind).where(mine(connection, jobs), jobs.c.id == job_id)).scalar()
    if kind is None:
        raise UnknownJob(job_id)
    return JobKind(kind)


def state_of(connection: Connection, job_id: str) -> JobState:
    """Read what a training is doing.

    Raises:
        UnknownJob: there is none with this id.
    """
    query = select(jobs.c.state).where(mine(connection, jobs), jobs.c.id == job_id, jobs.c.kind == JobKind.TRAINING)
    state = connection.execute(query).scalar()
    if state is None:
        raise UnknownJob(job_id)
    return JobState(state)


def list_page(connection: Connection, wanted: JobFilter, page: pages.PageRequest) -> pages.Page[Job]:
    """List trainings, newest first."""
    rows, token = fetch_page(connection, _SELECT, wanted, page)
    return pages.Page(_jobs(connection, rows), token)


def fetch_page(
    connection: Connection, query: Select[Any], wanted: JobFilter, page: pages.PageRequest
) -> tuple[list[RowMapping], str | None]:
    """Run a query of jobs for one page of those that are wanted."""
    number: Any = jobs.c.number
    query = query.where(mine(connection, jobs))
    if wanted.state is not None:
        query = query.where(jobs.c.state == wanted.state)
    if wanted.model is not None:
        query = query.where(jobs.c.model_name == wanted.model)
    if wanted.dataset is not None:
        query = query.where(jobs.c.dataset_id == wanted.dataset)
    if wanted.tag is not None:
        # In the order of the tags' own index, so that nothing but the page is read.
        query, number = query.join(job_tags, job_tags.c.number == jobs.c.number), job_tags.c.number
        query = query.where(mine(connection, job_tags), job_tags.c.tag == wanted.tag)
    return pages.fetch(connection, query, number, page)


def add_epochs(connection: Connection, job_id: str, records: Sequence[EpochRecord]) -> None:
    """Add epochs to a job, and to its log."""
    if records:
        connection.execute(insert(epochs), [{"job_id": job_id, **asdict(measured)} for measured in records])
        news = [(EventKind.EPOCH, {"epoch": measured.epoch, **measured.metrics}) for measured in records]
        events.append_all(connection, job_id, news)


def epoch_records(connection: Connection, job_id: str) -> list[EpochRecord]:
    """Read every finished epoch of a job, in order."""
    query = select(epochs).where(epochs.c.job_id == my_job(connection, job_id)).order_by(epochs.c.epoch)
    return [
        EpochRecord(row["epoch"], row["metrics"], row["learning_rate"], row["seconds"])
        for row in connection.execute(query).mappings()
    ]


def request_cancel(connection: Connection, job_id: str, kind: JobKind = JobKind.TRAINING) -> None:
    """Cancel a job that nobody runs at once; ask the worker of a running one to stop.

    Raises:
        UnknownJob, UnknownPrediction: there is none with this id.
        JobIsFinal: it has succeeded or failed.
    """
    state = hold(connection, job_id, kind)["state"]
    if state == JobState.RUNNING:
        _change(connection, job_id, EventKind.CANCEL_REQUESTED, state=JobState.CANCELLING)
    elif state in (JobState.QUEUED, JobState.PAUSED):
        _change(connection, job_id, EventKind.CANCELLED, state=JobState.CANCELLED, finished_at=database_time())
        checkpoints.drop(connection, job_id)
    elif state not in (JobState.CANCELLED, JobState.CANCELLING):
        raise JobIsFinal(job_id, state, "cancelled")


def request_pause(connection: Connection, job_id: str) -> None:
    """Take a waiting job out of the line; ask the worker of a running one to store it and stop.

    Raises:
        UnknownJob: there is none with this id.
        JobIsFinal: it has ended.
        JobIsCancelling: somebody asked to cancel it.
    """
    job = _unfinished(connection, job_id, "paused")
    if job["state"] == JobState.QUEUED:
        _change(connection, job_id, EventKind.PAUSED, state=JobState.PAUSED)
    elif job["state"] == JobState.RUNNING and not job["pause_requested"]:
        _change(connection, job_id, EventKind.PAUSE_REQUESTED, pause_requested=True)


def resume(connection: Connection, job_id: str) -> None:
    """Put a paused job back in line, or take a request to pause back.

    Raises:
        UnknownJob: there is none with this id.
        JobIsFinal: it has ended.
        JobIsCancelling: somebody asked to cancel it.
    """
    job = _unfinished(connection, job_id, "resumed")
    if job["pause_requested"]:
        _change(connection, job_id, EventKind.RESUMED, pause_requested=False)
    elif job["state"] == JobState.PAUSED:
        _change(connection, job_id, EventKind.RESUMED, state=JobState.QUEUED, claimable_at=database_time())
        turns.join(connection)


def remove(connection: Connection, job_id: str) -> None:
    """Delete a training that has ended, with its epochs and events; its model stays.

    Raises:
        UnknownJob: there is none with this id.
        JobIsNotFinal: it has not ended.
        JobInComparison: a comparison needs it.
    """
    discard(connection, job_id, JobKind.TRAINING)


def discard(connection: Connection, job_id: str, kind: JobKind) -> None:
    """Delete a job of either kind that has ended, with everything that is stored of it alone.

    Raises:
        UnknownJob, UnknownPrediction: there is none with this id.
        JobIsNotFinal: it has not ended.
        JobInComparison: a comparison needs it.
    """
    state = JobState(hold(connection, job_id, kind)["state"])
    if not state.is_final:
        raise JobIsNotFinal(job_id, state)
    query = select(comparison_jobs.c.comparison_id).where(comparison_jobs.c.job_id == my_job(connection, job_id))
    if comparison_id := connection.execute(query).scalar():
        raise JobInComparison(job_id, comparison_id)
    checkpoints.drop(connection, job_id)
    files = (jobs.c.split_sha256, jobs.c.result_sha256)
    which = (mine(connection, jobs), jobs.c.id == job_id)
    gone = connection.execute(delete(jobs).where(*which).returning(*files)).one()
    for sha256 in gone:
        if sha256 is not None:
            blobs.delete_unused(connection, sha256)


def split(connection: Connection, job_id: str) -> bytes | None:
    """Read a job's stored split, one byte per row, compressed by zlib; None before it is drawn.

    Raises:
        UnknownJob: there is none with this id.
        CorruptBlob: it is damaged.
    """
    query = select(jobs.c.split_sha256).where(mine(connection, jobs), jobs.c.id == job_id)
    row = connection.execute(query).first()
    if row is None:
        raise UnknownJob(job_id)
    return None if row.split_sha256 is None else blobs.get(connection, row.split_sha256)


def count_active(connection: Connection, dataset_id: str) -> int:
    """Count the jobs of either kind on a data set that have not ended."""
    active = (jobs.c.dataset_id == dataset_id, jobs.c.state.in_(ACTIVE_STATES))
    query = select(func.count()).where(mine(connection, jobs), *active)
    return connection.execute(query).scalar_one()


def newest_for_model(connection: Connection, model_name: str) -> Job | None:
    """Return the newest unfinished training that will register this model, if there is one."""
    unfinished = (jobs.c.model_name == model_name, jobs.c.state.in_(ACTIVE_STATES))
    query = _SELECT.where(mine(connection, jobs), *unfinished)
    row = connection.execute(query.order_by(jobs.c.number.desc()).limit(1)).mappings().first()
    return _jobs(connection, [row])[0] if row else None


def hold(connection: Connection, job_id: str, kind: JobKind = JobKind.TRAINING) -> RowMapping:
    """Read what a job is doing, and keep its row until the transaction ends, so that no worker changes it meanwhile.

    Raises:
        UnknownJob, UnknownPrediction: there is none of this kind with this id.
    """
    query = select(jobs.c.state, jobs.c.pause_requested)
    query = query.where(mine(connection, jobs), jobs.c.id == job_id, jobs.c.kind == kind)
    row = connection.execute(query.with_for_update()).mappings().first()
    if row is None:
        raise UnknownJob(job_id) if kind is JobKind.TRAINING else UnknownPrediction(job_id)
    return row


def _unfinished(connection: Connection, job_id: str, wanted: str) -> RowMapping:
    job = hold(connection, job_id)
    state = JobState(job["state"])
    if state.is_final:
        raise JobIsFinal(job_id, state, wanted)
    if state is JobState.CANCELLING:
        raise JobIsCancelling(job_id, wanted)
    return job


def _change(connection: Connection, job_id: str, kind: EventKind, **values: Any) -> None:
    connection.execute(update(jobs).where(mine(connection, jobs), jobs.c.id == job_id).values(**values))
    events.append(connection, job_id, kind)


def _jobs(connection: Connection, rows: Sequence[RowMapping]) -> list[Job]:
    """Make jobs of rows; those that wait are told their place in the line."""
    places = places_of(connection, rows)
    return [_job(row, places.get(row["number"])) for row in rows]


def places_of(connection: Connection, rows: Sequence[RowMapping]) -> dict[int, int]:
    """Return the places of those rows that wait, by number, in the line of their owner; it is counted once for all.

    What others have in line tells its owner nothing: owners take turns.
    """
    numbers = [row["number"] for row in rows if row["state"] == JobState.QUEUED]
    if not numbers:
        return {}
    before = func.lag(jobs.c.number, 1, 0).over(order_by=jobs.c.number)
    asked = select(jobs.c.number, before.label("before")).where(mine(connection, jobs), jobs.c.number.in_(numbers))
    bounds = asked.subquery()
    between = (jobs.c.number > bounds.c.before) & (jobs.c.number <= bounds.c.number)
    line = and_(mine(connection, jobs), turns.is_in(jobs, JobState.QUEUED))
    count = select(func.count()).select_from(jobs).where(line, between).scalar_subquery()
    gaps = connection.execute(select(bounds.c.number, count.label("jobs")).order_by(bounds.c.number)).all()
    return dict(zip((row.number for row in gaps), accumulate(row.jobs for row in gaps), strict=True))


def _job(row: RowMapping, queue_position: int | None) -> Job:
    latest, best = row["latest_metrics"], row["best_metrics"]
    return Job(
        id=row["id"],
        number=row["number"],
        state=JobState(row["state"]),
        spec=row["spec"],
        dataset_id=row["dataset_id"],
        model_name=row["model_name"],
        tags=row["tags"],
        warnings=row["warnings"] or [],
        split_sha256=row["split_sha256"],
        attempts=row["fence"],
        epoch=row["epoch"],
        epochs=row["epochs"],
        rows_per_second=row["rows_per_second"],
        fraction=row["fraction"],
        eta_seconds=row["eta_seconds"],
        best_epoch=row["best_epoch"],
        test_metrics=row["test_metrics"],
        model_version=row["model_version"],
        error_code=row["error_code"],
        error_detail=row["error_detail"],
        pause_requested=row["pause_requested"],
        retry_of=row["retry_of"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        queue_position=queue_position,
        latest={"epoch": row["epoch"], **latest} if latest else None,
        best={"epoch": row["best_epoch"], **best} if best else None,
        verdict=row["verdict"],
    )
