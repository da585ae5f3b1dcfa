"""Saved states of trainings: the two newest of each job, as blobs."""

import logging
from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from service.domain.jobs import Checkpoint
from service.storage import blobs
from service.storage.database import database_time
from service.storage.faults import STATEMENT_REFUSED, is_damaged
from service.storage.owners import acting_for, my_job
from service.storage.tables import checkpoints, jobs

logger = logging.getLogger(__name__)

KEPT = 2
"""The one before the newest is for the day when the newest is damaged."""
KEPT_SECONDS = 7 * 86_400.0
"""Those of a failed job wait so long for a retry."""


def add(connection: Connection, job_id: str, new: Checkpoint) -> None:
    """Store where a state stands, whose blob is there, and forget all but the newest two."""
    connection.execute(insert(checkpoints).values(job_id=job_id, **asdict(new)))
    mine = checkpoints.c.job_id == my_job(connection, job_id)
    # Numbers have gaps where a damaged state was forgotten.
    kept = select(checkpoints.c.number).where(mine).order_by(checkpoints.c.number.desc()).limit(1).offset(KEPT - 1)
    _delete(connection, mine, checkpoints.c.number < kept.scalar_subquery())


def newest(connection: Connection, job_id: str) -> Checkpoint | None:
    """Return where the newest state of a job stands; None where there is none."""
    query = select(checkpoints).where(checkpoints.c.job_id == my_job(connection, job_id))
    query = query.order_by(checkpoints.c.number.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else Checkpoint(row["number"], row["sha256"], row["epoch"], row["step"])


def content(connection: Connection, checkpoint: Checkpoint) -> bytes:
    """Read a state.

    Raises:
        CorruptBlob: it is missing or damaged.
    """
    return blobs.get(connection, checkpoint.sha256)


def copy(connection: Connection, job_id: str, other_id: str) -> None:
    """Give another job the states of this one."""
    columns = (checkpoints.c.number, checkpoints.c.sha256, checkpoints.c.epoch, checkpoints.c.step)
    query = select(*columns).where(checkpoints.c.job_id == my_job(connection, job_id))
    rows = connection.execute(query).mappings().all()
    if rows:
        connection.execute(insert(checkpoints), [{**row, "job_id": other_id} for row in rows])


def remove(connection: Connection, job_id: str, number: int, *, keeps_bytes: bool = False) -> None:
    """Forget one state of a job; ``keeps_bytes`` leaves its bytes behind.

    SQLite commits nothing of a transaction that has met a damaged page: what cannot be read must not be touched.
    """
    which = checkpoints.c.job_id == my_job(connection, job_id), checkpoints.c.number == number
    if keeps_bytes:
        connection.execute(delete(checkpoints).where(*which))
    else:
        _delete(connection, *which)


def drop(connection: Connection, job_id: str) -> None:
    """Forget every state of a job."""
    _delete(connection, checkpoints.c.job_id == my_job(connection, job_id))


def old_jobs(connection: Connection) -> list[str]:
    """List everybody's jobs that ended long ago and still have states."""
    ended = jobs.c.finished_at < database_time(-KEPT_SECONDS)
    query = select(jobs.c.id).where(ended, jobs.c.id.in_(select(checkpoints.c.job_id)))
    return list(connection.execute(query).scalars())


def purge(connection: Connection, job_id: str) -> None:
    """Forget the states of a job that ended, unless somebody is about to try it again."""
    query = select(jobs.c.owner).where(jobs.c.id == job_id).with_for_update(skip_locked=True)
    owner = connection.execute(query).scalar()
    if owner is not None:
        with acting_for(connection, owner):
            drop(connection, job_id)


def _delete(connection: Connection, *which: ColumnElement[bool]) -> None:
    gone = connection.execute(delete(checkpoints).where(*which).returning(checkpoints.c.sha256)).scalars().all()
    for sha256 in sorted(set(gone)):
        _delete_bytes(connection, sha256)


def _delete_bytes(connection: Connection, sha256: str) -> None:
    """Delete a blob that no state needs any more; one that PostgreSQL finds on a damaged page is left behind.

    Else a job with such a state could neither store another one nor end.
    """
    try:
        with connection.begin_nested():
            blobs.delete_unused(connection, sha256)
    except STATEMENT_REFUSED as error:
        if not is_damaged(error):
            raise
        logger.critical("the bytes %s of a checkpoint stay behind, for the database is damaged: %s", sha256, error)
