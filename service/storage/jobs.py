"""Jobs as users see them: added, read, listed, cancelled, deleted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, String, case, cast, delete, func, insert, select, update

from service.domain.errors import JobIsFinal, JobIsNotFinal, UnknownJob
from service.domain.jobs import ACTIVE_STATES, EpochRecord, Job, JobState
from service.storage import blobs, pages
from service.storage.database import database_time
from service.storage.tables import epochs, jobs


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows; None means any."""

    state: JobState | None = None
    tag: str | None = None
    model: str | None = None
    dataset: str | None = None


def add(connection: Connection, job_id: str, spec: dict[str, Any], warnings: Sequence[str] = ()) -> None:
    """Store a new job as queued; ``spec`` is complete."""
    connection.execute(
        insert(jobs).values(
            id=job_id,
            state=JobState.QUEUED,
            spec=spec,
            dataset_id=spec["dataset"],
            model_name=spec["model"],
            tags=spec["tags"],
            warnings=list(warnings),
            epochs=spec["training"]["epochs"],
            rung_at=database_time(),
        )
    )


def get(connection: Connection, job_id: str) -> Job:
    """Read one job.

    Raises:
        UnknownJob: there is none with this id.
    """
    row = connection.execute(_select_jobs().where(jobs.c.id == job_id)).mappings().first()
    if row is None:
        raise UnknownJob(job_id)
    return _job(row)


def list_page(connection: Connection, wanted: JobFilter, page: pages.PageRequest) -> pages.Page[Job]:
    """List jobs, newest first."""
    query = _select_jobs()
    if wanted.state is not None:
        query = query.where(jobs.c.state == wanted.state)
    if wanted.model is not None:
        query = query.where(jobs.c.model_name == wanted.model)
    if wanted.dataset is not None:
        query = query.where(jobs.c.dataset_id == wanted.dataset)
    if wanted.tag is not None:
        # Tags hold no quotes (their format forbids them), so the quoted word in the JSON text is the tag itself.
        query = query.where(cast(jobs.c.tags, String).contains(f'"{wanted.tag}"', autoescape=True))
    rows, token = pages.fetch(connection, query, jobs.c.number, page)
    return pages.Page([_job(row) for row in rows], token)


def epoch_records(connection: Connection, job_id: str) -> list[EpochRecord]:
    """Read every finished epoch of a job, in order."""
    query = select(epochs).where(epochs.c.job_id == job_id).order_by(epochs.c.epoch)
    return [
        EpochRecord(row["epoch"], row["metrics"], row["learning_rate"], row["seconds"])
        for row in connection.execute(query).mappings()
    ]


def request_cancel(connection: Connection, job_id: str) -> None:
    """Cancel a queued job at once; ask the worker of a running one to stop.

    Raises:
        UnknownJob: there is none with this id.
        JobIsFinal: it has succeeded or failed.
    """
    # One statement: between two, a worker could hand the job back and neither would find it.
    queued = jobs.c.state == JobState.QUEUED
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING)))
        .values(
            state=case((queued, JobState.CANCELLED.value), else_=JobState.CANCELLING.value),
            finished_at=case((queued, database_time()), else_=None),
        )
    )
    state = _state(connection, job_id)
    if state not in (JobState.CANCELLED, JobState.CANCELLING):
        raise JobIsFinal(job_id, state)


def remove(connection: Connection, job_id: str) -> None:
    """Delete a job that has ended, with its epochs; its model stays.

    Raises:
        UnknownJob: there is none with this id.
        JobIsNotFinal: it has not ended.
    """
    state = _state(connection, job_id)
    if not state.is_final:
        raise JobIsNotFinal(job_id, state)
    split = connection.execute(delete(jobs).where(jobs.c.id == job_id).returning(jobs.c.split_sha256)).scalar()
    if split is not None:
        blobs.delete_unused(connection, split)


def split(connection: Connection, job_id: str) -> bytes | None:
    """Read a job's stored split, one byte per row, compressed by zlib; None before it is drawn.

    Raises:
        UnknownJob: there is none with this id.
        CorruptBlob: it is damaged.
    """
    _state(connection, job_id)
    sha256 = connection.execute(select(jobs.c.split_sha256).where(jobs.c.id == job_id)).scalar()
    return None if sha256 is None else blobs.get(connection, sha256)


def count_active(connection: Connection, dataset_id: str) -> int:
    """Count the jobs on a data set that have not ended."""
    query = select(func.count()).where(jobs.c.dataset_id == dataset_id, jobs.c.state.in_(ACTIVE_STATES))
    return connection.execute(query).scalar_one()


def newest_for_model(connection: Connection, model_name: str) -> Job | None:
    """Return the newest unfinished job that will register this model, if there is one."""
    query = _select_jobs().where(jobs.c.model_name == model_name, jobs.c.state.in_(ACTIVE_STATES))
    row = connection.execute(query.order_by(jobs.c.number.desc()).limit(1)).mappings().first()
    return _job(row) if row else None


def _state(connection: Connection, job_id: str) -> JobState:
    state = connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar()
    if state is None:
        raise UnknownJob(job_id)
    return JobState(state)


def _select_jobs() -> Select[Any]:
    latest, best, earlier = epochs.alias("latest"), epochs.alias("best"), jobs.alias("earlier")
    ahead = (
        select(func.count())
        .select_from(earlier)
        .where(earlier.c.state == JobState.QUEUED, earlier.c.number < jobs.c.number)
        .scalar_subquery()
    )
    return (
        select(
            jobs, latest.c.metrics.label("latest_metrics"), best.c.metrics.label("best_metrics"), ahead.label("ahead")
        )
        .outerjoin(latest, (latest.c.job_id == jobs.c.id) & (latest.c.epoch == jobs.c.epoch))
        .outerjoin(best, (best.c.job_id == jobs.c.id) & (best.c.epoch == jobs.c.best_epoch))
    )


def _job(row: RowMapping) -> Job:
    state = JobState(row["state"])
    latest, best = row["latest_metrics"], row["best_metrics"]
    return Job(
        id=row["id"],
        number=row["number"],
        state=state,
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
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        queue_position=row["ahead"] + 1 if state == JobState.QUEUED else None,
        latest={"epoch": row["epoch"], **latest} if latest else None,
        best={"epoch": row["best_epoch"], **best} if best else None,
    )
