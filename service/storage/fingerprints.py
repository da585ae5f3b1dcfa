"""What tells whether anything that is shown of a job or of a comparison has changed, without reading all of it.

Whatever is stored of a job adds an event in the same transaction, or changes one of the other columns here.
"""

from sqlalchemy import Connection, select

from service.domain.comparison_errors import UnknownComparison
from service.domain.errors import UnknownJob
from service.domain.jobs import JobKind
from service.storage.owners import mine
from service.storage.tables import comparison_jobs, jobs

Fingerprint = tuple[object, ...]
"""Equal ones show the same; its ``repr`` is the same in every process."""

_COLUMNS = (jobs.c.id, jobs.c.state, jobs.c.epoch, jobs.c.best_epoch, jobs.c.last_event, jobs.c.verdict)


def of_job(connection: Connection, job_id: str) -> Fingerprint:
    """Read that of a training.

    Raises:
        UnknownJob: there is none with this id.
    """
    its = (mine(connection, jobs), jobs.c.id == job_id, jobs.c.kind == JobKind.TRAINING)
    row = connection.execute(select(*_COLUMNS).where(*its)).first()
    if row is None:
        raise UnknownJob(job_id)
    return tuple(row)


def of_comparison(connection: Connection, comparison_id: str) -> Fingerprint:
    """Read that of a comparison.

    Raises:
        UnknownComparison: there is none with this id.
    """
    query = (
        select(*_COLUMNS)
        .join_from(comparison_jobs, jobs, jobs.c.id == comparison_jobs.c.job_id)
        .where(mine(connection, jobs), comparison_jobs.c.comparison_id == comparison_id)
        .order_by(comparison_jobs.c.position)
    )
    rows = connection.execute(query).all()
    if not rows:
        raise UnknownComparison(comparison_id)
    return (comparison_id, *map(tuple, rows))
