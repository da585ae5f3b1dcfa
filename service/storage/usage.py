"""How much an owner has of what quotas bound."""

from sqlalchemy import Connection, func, select, text

from service.domain.jobs import JobKind, JobState
from service.storage.owners import mine, owner_of
from service.storage.tables import blobs, datasets, jobs, model_versions

WAITING = (JobState.QUEUED, JobState.PAUSED)


def hold(connection: Connection, what: str) -> None:
    """Let no other session of this owner count the same until this one ends, so that two at once do not exceed it.

    To be called after the last statement that waits for a row. SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        key = f"{what} of {owner_of(connection)}"
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


def waiting_jobs(connection: Connection) -> int:
    """Count the jobs that wait, or would if they were resumed."""
    query = select(func.count()).select_from(jobs).where(mine(connection, jobs), jobs.c.state.in_(WAITING))
    return connection.execute(query).scalar_one()


def count_datasets(connection: Connection) -> int:
    """Count the uploads."""
    return connection.execute(select(func.count()).select_from(datasets).where(mine(connection, datasets))).scalar_one()


def stored_bytes(connection: Connection) -> int:
    """Add up data sets, files of models and results of predictions; what a job needs while it runs is not counted."""
    uploads = select(func.sum(datasets.c.size_bytes)).where(mine(connection, datasets))
    results = (
        select(func.sum(blobs.c.size_bytes))
        .join(jobs, jobs.c.result_sha256 == blobs.c.sha256)
        .where(mine(connection, jobs), jobs.c.kind == JobKind.PREDICTION)
    )
    files = (model_versions.c.weights_sha256, model_versions.c.onnx_sha256, model_versions.c.keras_sha256)
    versions = [
        select(func.sum(blobs.c.size_bytes))
        .join(model_versions, sha256 == blobs.c.sha256)
        .where(mine(connection, model_versions))
        for sha256 in files
    ]
    return sum(int(connection.execute(query).scalar() or 0) for query in (uploads, results, *versions))
