"""Jobs that go on where a failed one ended."""

from sqlalchemy import Connection, select, update

from service.domain.errors import JobDidNotFail
from service.domain.jobs import Checkpoint, Job, JobState
from service.storage import checkpoints, diagnostics, jobs, turns
from service.storage.owners import mine, my_job
from service.storage.tables import comparison_jobs, comparisons
from service.storage.tables import jobs as table


def retry(connection: Connection, job_id: str, new_id: str) -> None:
    """Store a new job that goes on from the last checkpoint of a failed one, or from the beginning if it has none.

    In a comparison it takes the place of the failed one.

    Raises:
        UnknownJob: there is none with this id.
        JobDidNotFail: it has not failed.
    """
    # Its comparison first, as ``comparisons`` does: whoever cancels or deletes that must not miss the new job.
    its = select(comparisons.c.id).join(comparison_jobs, comparison_jobs.c.comparison_id == comparisons.c.id)
    its = its.where(mine(connection, comparisons), comparison_jobs.c.job_id == job_id)
    connection.execute(its.with_for_update(of=comparisons))
    jobs.hold(connection, job_id)
    failed = jobs.get(connection, job_id)
    if failed.state is not JobState.FAILED:
        raise JobDidNotFail(job_id, failed.state)
    lint = diagnostics.lint(connection, job_id)
    jobs.add(connection, new_id, failed.spec, failed.warnings, job_id, lint, joins=False)
    place = update(comparison_jobs).where(comparison_jobs.c.job_id == my_job(connection, job_id))
    connection.execute(place.values(job_id=new_id))
    newest = checkpoints.newest(connection, job_id)
    if newest is not None:
        _go_on(connection, failed, new_id, newest)
    turns.join(connection)


def _go_on(connection: Connection, failed: Job, new_id: str, newest: Checkpoint) -> None:
    """Give a new job what the failed one has done until its newest state."""
    job_id = failed.id
    checkpoints.copy(connection, job_id, new_id)
    diagnostics.copy(connection, job_id, new_id, until=newest.epoch)
    verdict = diagnostics.judged(connection, new_id)
    done = [measured for measured in jobs.epoch_records(connection, job_id) if measured.epoch <= newest.epoch]
    jobs.add_epochs(connection, new_id, done)
    best = failed.best_epoch if failed.best_epoch is not None and failed.best_epoch <= newest.epoch else None
    values = {"epoch": newest.epoch, "best_epoch": best, "last_checkpoint": newest.number}
    fraction = newest.epoch / failed.epochs
    new = update(table).where(mine(connection, table), table.c.id == new_id)
    connection.execute(new.values(fraction=fraction, verdict=verdict, **values))
