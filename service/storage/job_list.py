"""What a list of jobs shows beside the jobs, and what tells cheaply whether one of those that it shows has changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, or_, select

from service.domain.jobs import JobKind
from service.storage import jobs as stored
from service.storage.database import database_time
from service.storage.owners import mine_or_builtin
from service.storage.pages import PageRequest
from service.storage.tables import datasets, jobs

_MARKS = select(jobs.c.number, jobs.c.id, jobs.c.state, jobs.c.last_event, jobs.c.fraction).where(
    jobs.c.kind == JobKind.TRAINING
)
"""Whatever is stored of a job adds an event in the same transaction, but for how far it is within an epoch."""


@dataclass(frozen=True, slots=True)
class Marks:
    """A page of a list at a moment: its jobs in order, each with what changes whenever the job does."""

    at: datetime
    """By the database's clock; whatever was stored by then is in the marks."""
    jobs: dict[str, tuple[Any, ...]]
    next_token: str | None


def marks(connection: Connection, wanted: stored.JobFilter, page: PageRequest) -> Marks:
    """Read the marks of a page."""
    at = connection.execute(select(database_time())).scalar_one()
    rows, token = stored.fetch_page(connection, _MARKS, wanted, page)
    return Marks(at, {row["id"]: tuple(row.values()) for row in rows}, token)


def dataset_names(connection: Connection, dataset_ids: Iterable[str]) -> dict[str, str]:
    """Read what data sets are called, by id; one that has been deleted is left out."""
    query = select(datasets.c.id, datasets.c.name)
    query = query.where(mine_or_builtin(connection), datasets.c.id.in_(set(dataset_ids)))
    return {row.id: row.name for row in connection.execute(query)}


def dataset_choices(connection: Connection, most: int) -> list[tuple[str, str]]:
    """Read the ids and names of the newest data sets, and of those that are built in, newest first."""
    theirs = mine_or_builtin(connection)
    newest = select(datasets.c.number).where(theirs).order_by(datasets.c.number.desc()).limit(most)
    query = select(datasets.c.id, datasets.c.name)
    query = query.where(theirs, or_(datasets.c.builtin, datasets.c.number.in_(newest)))
    return [(row.id, row.name) for row in connection.execute(query.order_by(datasets.c.number.desc()))]


def count_datasets(connection: Connection) -> int:
    """Count the data sets that there are to choose from."""
    query = select(func.count()).select_from(datasets).where(mine_or_builtin(connection))
    return connection.execute(query).scalar_one()
