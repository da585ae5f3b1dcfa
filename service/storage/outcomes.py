"""What the jobs of a comparison have come to."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, select

from service.domain.comparisons import JobOutcome
from service.domain.jobs import JobState
from service.storage import curves
from service.storage.owners import mine
from service.storage.tables import comparison_jobs, epochs, jobs

_OF_JOB = comparison_jobs.c.job_id == epochs.c.job_id


def read(connection: Connection, comparison_id: str, metrics: Sequence[str] = ()) -> list[JobOutcome]:
    """Read what every job has come to, by arm, then by seed; of those that have not succeeded, the state.

    Of the epochs only the best one is read, how long all took together, and the curves of some metrics.
    """
    is_best = (epochs.c.job_id == jobs.c.id) & (epochs.c.epoch == jobs.c.best_epoch)
    columns = (jobs.c.id, jobs.c.state, jobs.c.best_epoch, jobs.c.test_metrics, jobs.c.verdict)
    query = (
        select(comparison_jobs.c.arm, comparison_jobs.c.seed, *columns, epochs.c.metrics.label("best"))
        .join_from(comparison_jobs, jobs, jobs.c.id == comparison_jobs.c.job_id)
        .outerjoin(epochs, is_best & (jobs.c.state == JobState.SUCCEEDED))
        .where(mine(connection, jobs), comparison_jobs.c.comparison_id == comparison_id)
        .order_by(comparison_jobs.c.position)
    )
    rows = connection.execute(query).mappings().all()
    seconds = _seconds(connection, comparison_id)
    drawn = _curves(connection, comparison_id, metrics) if metrics else {}
    return [
        JobOutcome(
            arm=row["arm"],
            seed=row["seed"],
            state=JobState(row["state"]),
            best_epoch=row["best_epoch"],
            best=row["best"],
            test=row["test_metrics"],
            curves=drawn.get(row["id"]),
            seconds=seconds.get(row["id"], 0.0),
            verdict=row["verdict"],
        )
        for row in rows
    ]


def _seconds(connection: Connection, comparison_id: str) -> dict[str, float]:
    query = _of_succeeded(connection, select(epochs.c.job_id, func.sum(epochs.c.seconds)), comparison_id)
    return {row[0]: row[1] for row in connection.execute(query.group_by(epochs.c.job_id))}


def _curves(
    connection: Connection, comparison_id: str, metrics: Sequence[str]
) -> dict[str, dict[str, list[float | None]]]:
    found = {}
    query = _of_succeeded(connection, curves.columns(metrics), comparison_id)
    query = query.order_by(epochs.c.job_id, epochs.c.epoch)
    for job_id, rows in curves.by_job(connection, query):
        values = list(zip(*(row[2:] for row in rows), strict=True))
        found[job_id] = {name: list(of_metric) for name, of_metric in zip(metrics, values, strict=True)}
    return found


def _of_succeeded(connection: Connection, query: Select[Any], comparison_id: str) -> Select[Any]:
    joined = query.join(comparison_jobs, _OF_JOB).join(jobs, jobs.c.id == epochs.c.job_id)
    wanted = (comparison_jobs.c.comparison_id == comparison_id, jobs.c.state == JobState.SUCCEEDED)
    return joined.where(mine(connection, jobs), *wanted)
