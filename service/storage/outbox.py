"""Tells webhooks of what happens to jobs: stored in the transaction in which it happens, so that none of it is lost."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, exists, func, select

from service.domain.comparisons import state_of
from service.domain.jobs import EventKind, JobKind, JobState
from service.domain.webhooks import COMPARISON_FINISHED, TOLD_KINDS, event_of
from service.domain.wording import utc
from service.storage import deliveries
from service.storage.owners import mine, my_job
from service.storage.tables import comparison_jobs, comparisons, epochs, jobs, webhooks

_ENDS = {EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELLED}
_latest, _best = epochs.alias("latest"), epochs.alias("best")
_JOB = (
    select(jobs, _latest.c.metrics.label("latest_metrics"), _best.c.metrics.label("best_metrics"))
    .outerjoin(_latest, (_latest.c.job_id == jobs.c.id) & (_latest.c.epoch == jobs.c.epoch))
    .outerjoin(_best, (_best.c.job_id == jobs.c.id) & (_best.c.epoch == jobs.c.best_epoch))
)
SOMEBODY_LISTENS = exists().where(webhooks.c.owner == jobs.c.owner, webhooks.c.enabled)
"""Says, beside a statement on a job, whether its owner has webhooks: most have none to be asked for.

Where SQLite returns it from a statement, names of tables are left out, and it says whether anybody has: ``tell`` looks.
"""


def tell(connection: Connection, job_id: str, job_kind: JobKind, kinds: Sequence[EventKind]) -> None:
    """Store for the webhooks of a job's owner, for whom the session is open, what has happened to it."""
    notable = [kind for kind in kinds if kind in TOLD_KINDS]
    if not notable:
        return
    query = select(webhooks.c.id, webhooks.c.events).where(mine(connection, webhooks), webhooks.c.enabled)
    wanted = {row.id: set(row.events) for row in connection.execute(query)}
    for kind in notable:
        event = event_of(job_kind, kind)
        listening = [webhook_id for webhook_id, events in wanted.items() if event in events]
        if event is not None and listening:
            deliveries.add(connection, listening, event, _job(connection, job_id))
    listening = [webhook_id for webhook_id, events in wanted.items() if COMPARISON_FINISHED in events]
    if listening and job_kind is JobKind.TRAINING and not _ENDS.isdisjoint(notable):
        _tell_of_comparison(connection, job_id, listening)


def _tell_of_comparison(connection: Connection, job_id: str, listening: Sequence[str]) -> None:
    """Say that a comparison has ended, where this was the last of its jobs to end."""
    query = select(comparison_jobs.c.comparison_id).where(comparison_jobs.c.job_id == my_job(connection, job_id))
    comparison_id = connection.execute(query).scalar()
    if comparison_id is None:
        return
    if connection.dialect.name == "postgresql":
        # Of two jobs that end at once, neither would see the end of the other. The comparison's row is not to be held
        # for that: whoever cancels it takes that row first and its jobs then, which is the other way round.
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(comparison_id, 0))))
    of_state = (
        select(
            jobs.c.state,
            func.count().label("jobs"),
            func.min(jobs.c.started_at).label("started_at"),
            func.max(jobs.c.finished_at).label("finished_at"),
        )
        .join(comparison_jobs, comparison_jobs.c.job_id == jobs.c.id)
        .where(mine(connection, jobs), comparison_jobs.c.comparison_id == comparison_id)
        .group_by(jobs.c.state)
    )
    groups = connection.execute(of_state).mappings().all()
    if all(JobState(group["state"]).is_final for group in groups):
        deliveries.add(connection, listening, COMPARISON_FINISHED, _comparison(connection, comparison_id, groups))


def _job(connection: Connection, job_id: str) -> dict[str, Any]:
    """Return what the API shows of a job, but for its spec and warnings, which may be large."""
    row = connection.execute(_JOB.where(mine(connection, jobs), jobs.c.id == job_id)).mappings().one()
    shown = _training(row) if row["kind"] == JobKind.TRAINING else _prediction(row)
    code = row["error_code"]
    error = None if code is None else {"code": code, "detail": row["error_detail"] or ""}
    model = None if row["model_version"] is None else {"name": row["model_name"], "version": row["model_version"]}
    about = {"id": row["id"], "kind": row["kind"], "state": row["state"], "dataset": row["dataset_id"], "model": model}
    return {**about, **shown, "error": error, "attempts": row["fence"], "tags": row["tags"], **_times(row)}


def _training(row: RowMapping) -> dict[str, Any]:
    latest, best, done = row["latest_metrics"], row["best_metrics"], row["state"] == JobState.SUCCEEDED
    fraction = 1.0 if done else row["fraction"] or 0.0
    pace = {"rows_per_second": row["rows_per_second"], "eta_seconds": row["eta_seconds"]}
    return {
        "progress": {"epoch": row["epoch"], "epochs": row["epochs"], "fraction": fraction, **pace},
        "metrics": {
            "latest": {"epoch": row["epoch"], **latest} if latest else None,
            "best": {"epoch": row["best_epoch"], **best} if best else None,
            "test": row["test_metrics"],
        },
        "verdict": row["verdict"],
        "retry_of": row["retry_of"],
    }


def _prediction(row: RowMapping) -> dict[str, Any]:
    made = row["result"]
    result = None
    if made is not None:
        evaluation = made.get("evaluation") or {}
        told = {name: evaluation[name] for name in ("target", "rows", "metrics") if name in evaluation}
        sizes = {name: made[name] for name in ("rows", "unanswered", "size_bytes")}
        result = {**sizes, "sha256": row["result_sha256"], "evaluation": told or None}
    return {"result": result}


def _comparison(connection: Connection, comparison_id: str, groups: Sequence[RowMapping]) -> dict[str, Any]:
    query = select(comparisons).where(mine(connection, comparisons), comparisons.c.id == comparison_id)
    row = connection.execute(query).mappings().one()
    counts = {JobState(group["state"]): group["jobs"] for group in groups}
    total = sum(counts.values())
    started = [group["started_at"] for group in groups if group["started_at"] is not None]
    ended = [group["finished_at"] for group in groups if group["finished_at"] is not None]
    times = {"started_at": min(started, default=None), "finished_at": max(ended, default=None)}
    return {
        "id": comparison_id,
        "kind": "comparison",
        "state": state_of(counts, has_started=bool(started)),
        "dataset": row["dataset_id"],
        "progress": {"finished_jobs": total, "total": total},
        "jobs": dict(sorted(counts.items())),
        "tags": row["spec"]["spec"]["tags"],
        **_times({"created_at": row["created_at"], **times}),
    }


def _times(row: Any) -> dict[str, Any]:
    names = ("created_at", "started_at", "finished_at")
    return {name: None if row[name] is None else utc(row[name]) for name in names}
