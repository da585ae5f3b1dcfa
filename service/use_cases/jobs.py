"""Jobs: submit, look at, cancel, delete."""

import secrets
import zlib
from collections.abc import Callable

from service.domain.audit import Action
from service.domain.completion import CompletedSpec, complete_spec
from service.domain.errors import DatasetIsGone, InvalidSpec, SplitNotDrawn, UnknownDataset, Violation
from service.domain.jobs import EpochRecord, Event, Job, JobState, StoredSplit
from service.domain.limits import Limits
from service.domain.quotas import NO_QUOTAS, Quotas
from service.domain.spec import JobSpec
from service.storage import audit, datasets, events, jobs, pages, retries
from service.storage.database import Connection, Database
from service.use_cases.idempotency import KeyedRequest, Outcome, StoredAnswer, once
from service.use_cases.quotas import with_room


def submit_job(database: Database, spec: JobSpec, limits: Limits) -> Job:
    """Complete a spec and store it as a queued job; ring the doorbell after this returns.

    Raises:
        InvalidSpec: it does not fit its data set or the limits.
    """
    with database.write() as connection:
        return _submit(connection, spec, limits)


def submit_job_once(
    database: Database,
    spec: JobSpec,
    limits: Limits,
    request: KeyedRequest | None,
    answer: Callable[[Job], StoredAnswer],
    quotas: Quotas = NO_QUOTAS,
) -> Outcome[Job]:
    """Submit a job, unless this request has been answered before.

    Raises:
        InvalidSpec: it does not fit its data set or the limits.
        QuotaExceeded: its owner has no room for one more.
        IdempotencyKeyReused: another request came under this key.
    """
    return once(database, request, with_room(quotas, lambda connection: _submit(connection, spec, limits)), answer)


def _submit(connection: Connection, spec: JobSpec, limits: Limits) -> Job:
    try:
        dataset = datasets.get(connection, spec.dataset, for_use=True)
    except UnknownDataset as error:
        raise InvalidSpec([Violation("#/dataset", str(error))]) from None
    completed = complete_spec(spec, dataset, limits)
    job_id = secrets.token_hex(10)
    lint = [finding.to_dict() for finding in completed.findings]
    jobs.add(connection, job_id, completed.spec.model_dump(mode="json"), completed.warnings, lint=lint)
    submitted = jobs.get(connection, job_id)
    audit.record(connection, Action.JOB_SUBMITTED, job_id, dataset=submitted.dataset_id, model=submitted.model_name)
    return submitted


def validate_job(database: Database, spec: JobSpec, limits: Limits) -> CompletedSpec:
    """Answer as ``submit_job`` would, without making anything.

    Raises:
        InvalidSpec: it does not fit its data set or the limits.
    """
    with database.read() as connection:
        try:
            dataset = datasets.get(connection, spec.dataset)
        except UnknownDataset as error:
            raise InvalidSpec([Violation("#/dataset", str(error))]) from None
    return complete_spec(spec, dataset, limits)


def get_job(database: Database, job_id: str) -> Job:
    """Read one job."""
    with database.read() as connection:
        return jobs.get(connection, job_id)


def list_jobs(database: Database, wanted: jobs.JobFilter, page: pages.PageRequest) -> pages.Page[Job]:
    """List jobs, newest first."""
    with database.read() as connection:
        return jobs.list_page(connection, wanted, page)


def job_metrics(database: Database, job_id: str) -> list[EpochRecord]:
    """Read every finished epoch of a job."""
    with database.read() as connection:
        jobs.get(connection, job_id)
        return jobs.epoch_records(connection, job_id)


def job_split(database: Database, job_id: str) -> StoredSplit:
    """Read which row went to which part.

    Raises:
        SplitNotDrawn: no worker has begun with the job.
    """
    with database.read() as connection:
        job = jobs.get(connection, job_id)
        content = jobs.split(connection, job_id)
    if content is None or job.split_sha256 is None:
        raise SplitNotDrawn(job_id, job.state)
    return StoredSplit(job.spec["training"], zlib.decompress(content), job.split_sha256)


def cancel_job(database: Database, job_id: str) -> Job:
    """Ask that a job ends without a model; one that is cancelled already stays so."""
    with database.write() as connection:
        jobs.request_cancel(connection, job_id)
        audit.record(connection, Action.JOB_CANCELLED, job_id)
        return jobs.get(connection, job_id)


def pause_job(database: Database, job_id: str) -> Job:
    """Ask that a job stops for a while; its training goes on where it was when it is resumed."""
    with database.write() as connection:
        jobs.request_pause(connection, job_id)
        audit.record(connection, Action.JOB_PAUSED, job_id)
        return jobs.get(connection, job_id)


def resume_job(database: Database, job_id: str) -> Job:
    """Put a paused job back in line; ring the doorbell after this returns."""
    with database.write() as connection:
        jobs.resume(connection, job_id)
        audit.record(connection, Action.JOB_RESUMED, job_id)
        return jobs.get(connection, job_id)


def retry_job_once(
    database: Database,
    job_id: str,
    request: KeyedRequest | None,
    answer: Callable[[Job], StoredAnswer],
    quotas: Quotas = NO_QUOTAS,
) -> Outcome[Job]:
    """Store a new job that goes on where a failed one was, unless this request has been answered before.

    Raises:
        UnknownJob: there is none with this id.
        JobDidNotFail: it has not failed.
        DatasetIsGone: the data set that it needs has been deleted.
        QuotaExceeded: its owner has no room for one more.
        IdempotencyKeyReused: another request came under this key.
    """

    def retry(connection: Connection) -> Job:
        new_id = secrets.token_hex(10)
        failed = jobs.get(connection, job_id)
        try:
            datasets.get(connection, failed.dataset_id, for_use=True)
        except UnknownDataset:
            raise DatasetIsGone(job_id, failed.dataset_id) from None
        retries.retry(connection, job_id, new_id)
        audit.record(connection, Action.JOB_RETRIED, new_id, retry_of=job_id)
        return jobs.get(connection, new_id)

    return once(database, request, with_room(quotas, retry), answer)


def delete_job(database: Database, job_id: str) -> None:
    """Delete a job that has ended; its model stays."""
    with database.write() as connection:
        jobs.remove(connection, job_id)
        audit.record(connection, Action.JOB_DELETED, job_id)


def job_events(database: Database, job_id: str, after: int, limit: int) -> tuple[JobState, list[Event]]:
    """Read the events of a job that follow number ``after``, in order, and the state that it was in before.

    The state is read first, so whoever reads a final one, and fewer events than ``limit``, has the last of them.
    """
    with database.read() as connection:
        state = jobs.state_of(connection, job_id)
        return state, events.read(connection, job_id, after, limit)
