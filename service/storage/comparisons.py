"""Comparisons: added, read, listed, cancelled, deleted; their state is that of their jobs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select

from service.domain.comparison_errors import ComparisonIsFinal, ComparisonIsNotFinal, UnknownComparison
from service.domain.comparisons import ComparedJob, Comparison, Ground
from service.domain.jobs import JobKind, JobState
from service.storage import jobs, pages, turns
from service.storage.owners import mine, my_job, owner_of
from service.storage.tables import comparison_jobs, comparisons
from service.storage.tables import jobs as job_table

_OWN_JOB = job_table.c.id == comparison_jobs.c.job_id


def add(
    connection: Connection,
    comparison_id: str,
    spec: dict[str, Any],
    ground: Ground,
    warnings: Sequence[str],
    members: Sequence[ComparedJob],
) -> None:
    """Store a comparison of jobs that are stored, and let their owner wait for turns.

    ``spec`` is complete, ``members`` are by arm, then by seed.
    """
    stored = {"spec": spec, "ground": asdict(ground), "warnings": list(warnings)}
    row = {"id": comparison_id, "owner": owner_of(connection), "spec": stored, "dataset_id": spec["dataset"]}
    connection.execute(insert(comparisons).values(row))
    rows = [
        {
            "comparison_id": comparison_id,
            "position": position,
            "arm": member.arm,
            "seed": member.seed,
            "job_id": member.id,
        }
        for position, member in enumerate(members)
    ]
    connection.execute(insert(comparison_jobs), rows)
    turns.join(connection)


def get(connection: Connection, comparison_id: str) -> Comparison:
    """Read one comparison.

    Raises:
        UnknownComparison: there is none with this id.
    """
    query = select(comparisons).where(mine(connection, comparisons), comparisons.c.id == comparison_id)
    rows = connection.execute(query).mappings().all()
    found = _comparisons(connection, rows)
    if not found:
        raise UnknownComparison(comparison_id)
    return found[0]


def list_page(connection: Connection, page: pages.PageRequest) -> pages.Page[Comparison]:
    """List comparisons, newest first; one that is deleted meanwhile is left out, so that a page may hold fewer."""
    query = select(comparisons).where(mine(connection, comparisons))
    rows, token = pages.fetch(connection, query, comparisons.c.number, page)
    return pages.Page(_comparisons(connection, rows), token)


def members(connection: Connection, comparison_id: str) -> list[ComparedJob]:
    """Read which job trains which arm with which seed, by arm, then by seed."""
    columns = (comparison_jobs.c.arm, comparison_jobs.c.seed, job_table.c.id, job_table.c.state, job_table.c.epoch)
    rows = connection.execute(_in_order(connection, comparison_id, *columns))
    return [ComparedJob(row.arm, row.seed, row.id, JobState(row.state), row.epoch) for row in rows]


def of_job(connection: Connection, job_id: str) -> str | None:
    """Return the comparison that a job belongs to; None where it is one by itself."""
    query = select(comparison_jobs.c.comparison_id).where(comparison_jobs.c.job_id == my_job(connection, job_id))
    found: str | None = connection.execute(query).scalar()
    return found


def request_cancel(connection: Connection, comparison_id: str) -> bool:
    """Cancel the jobs that nobody runs at once, and ask the workers of the others to stop; say whether there were any.

    Raises:
        UnknownComparison: there is none with this id.
        ComparisonIsFinal: all of its jobs have ended, and none was cancelled.
    """
    found = _hold(connection, comparison_id)
    unfinished = [job_id for job_id, state in found.items() if not state.is_final]
    for job_id in unfinished:
        jobs.request_cancel(connection, job_id)
    if not unfinished and JobState.CANCELLED not in found.values():
        raise ComparisonIsFinal(comparison_id, get(connection, comparison_id).state)
    return bool(unfinished)


def remove(connection: Connection, comparison_id: str) -> None:
    """Delete a comparison whose jobs have ended, together with them; their models stay.

    Raises:
        UnknownComparison: there is none with this id.
        ComparisonIsNotFinal: a job has not ended.
    """
    found = _hold(connection, comparison_id)
    unfinished = sum(not state.is_final for state in found.values())
    if unfinished:
        raise ComparisonIsNotFinal(comparison_id, unfinished)
    connection.execute(delete(comparisons).where(mine(connection, comparisons), comparisons.c.id == comparison_id))
    for job_id in found:
        jobs.discard(connection, job_id, JobKind.TRAINING)


def _hold(connection: Connection, comparison_id: str) -> dict[str, JobState]:
    """Read the states of a comparison's jobs, and keep their rows until the transaction ends.

    The comparison's row comes first, so that two who want the same wait for each other there, and so does a retry,
    which puts another job in: which jobs there are is read after it, when nobody changes that any more.
    """
    held = select(comparisons.c.id).where(mine(connection, comparisons), comparisons.c.id == comparison_id)
    if connection.execute(held.with_for_update()).first() is None:
        raise UnknownComparison(comparison_id)
    query = _in_order(connection, comparison_id, job_table.c.id, job_table.c.state)
    query = query.with_for_update(of=[comparison_jobs, job_table])
    return {row.id: JobState(row.state) for row in connection.execute(query)}


def _in_order(connection: Connection, comparison_id: str, *columns: Any) -> Select[Any]:
    """Select from a comparison's jobs, by arm, then by seed."""
    joined = select(*columns).join_from(comparison_jobs, job_table, _OWN_JOB)
    its = joined.where(mine(connection, job_table), comparison_jobs.c.comparison_id == comparison_id)
    return its.order_by(comparison_jobs.c.position)


def _comparisons(connection: Connection, rows: Sequence[RowMapping]) -> list[Comparison]:
    """Make comparisons of rows; the jobs of all of them are counted at once.

    One without jobs was deleted after its row was read, which on PostgreSQL the next statement sees: it is left out.
    """
    query = (
        select(
            comparison_jobs.c.comparison_id,
            job_table.c.state,
            func.count().label("jobs"),
            func.min(job_table.c.started_at).label("started_at"),
            func.max(job_table.c.finished_at).label("finished_at"),
        )
        .join_from(comparison_jobs, job_table, _OWN_JOB)
        .where(mine(connection, job_table), comparison_jobs.c.comparison_id.in_([row["id"] for row in rows]))
        .group_by(comparison_jobs.c.comparison_id, job_table.c.state)
    )
    counted: dict[str, list[RowMapping]] = {}
    for group in connection.execute(query).mappings():
        counted.setdefault(group["comparison_id"], []).append(group)
    return [_comparison(row, counted[row["id"]]) for row in rows if row["id"] in counted]


def _comparison(row: RowMapping, groups: Sequence[RowMapping]) -> Comparison:
    counts = {JobState(group["state"]): group["jobs"] for group in groups}
    started = [group["started_at"] for group in groups if group["started_at"] is not None]
    finished = [group["finished_at"] for group in groups if group["finished_at"] is not None]
    stored = row["spec"]
    return Comparison(
        id=row["id"],
        number=row["number"],
        spec=stored["spec"],
        ground=Ground(**stored["ground"]),
        warnings=stored["warnings"],
        counts=counts,
        created_at=row["created_at"],
        started_at=min(started, default=None),
        finished_at=max(finished, default=None) if all(state.is_final for state in counts) else None,
    )
