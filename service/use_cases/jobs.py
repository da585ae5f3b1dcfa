"""Jobs: submit, look at, cancel, delete."""

import secrets
import zlib

from service.domain.completion import CompletedSpec, complete_spec
from service.domain.errors import InvalidSpec, SplitNotDrawn, UnknownDataset, Violation
from service.domain.jobs import EpochRecord, Job, StoredSplit
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from service.storage import datasets, jobs, pages
from service.storage.database import Database


def submit_job(database: Database, spec: JobSpec, limits: Limits) -> Job:
    """Complete a spec and store it as a queued job; ring the doorbell after this returns.

    Raises:
        InvalidSpec: it does not fit its data set or the limits.
    """
    job_id = secrets.token_hex(10)
    with database.write() as connection:
        try:
            dataset = datasets.get(connection, spec.dataset, for_use=True)
        except UnknownDataset as error:
            raise InvalidSpec([Violation("#/dataset", str(error))]) from None
        completed = complete_spec(spec, dataset, limits)
        jobs.add(connection, job_id, completed.spec.model_dump(mode="json"), completed.warnings)
        return jobs.get(connection, job_id)


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
        return jobs.get(connection, job_id)


def delete_job(database: Database, job_id: str) -> None:
    """Delete a job that has ended; its model stays."""
    with database.write() as connection:
        jobs.remove(connection, job_id)
