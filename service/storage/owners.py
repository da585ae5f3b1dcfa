"""Whose rows a session may see: every query of a user's things has its owner in its WHERE."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, ScalarSelect, Select, or_, select

from service.storage.database import OWNER
from service.storage.tables import datasets, jobs


def owner_of(connection: Connection) -> str:
    """Return for whom a session was opened, by ``Database.owned_by``.

    Raises:
        LookupError: for nobody; what is somebody's cannot be asked for in it, which is a mistake of the program.
    """
    owner: str | None = connection.get_execution_options().get(OWNER)
    if owner is None:
        raise LookupError("this session was opened for no owner; open it on database.owned_by(owner)")
    return owner


@contextmanager
def acting_for(connection: Connection, owner: str) -> Iterator[None]:
    """Let a session of the service itself act for an owner, of whose things it has found one that needs it."""
    before = connection.get_execution_options().get(OWNER)
    connection.execution_options(**{OWNER: owner})
    try:
        yield
    finally:
        connection.execution_options(**{OWNER: before})


def mine(connection: Connection, table: FromClause) -> ColumnElement[bool]:
    """Return the condition that a row belongs to whom the session was opened for."""
    condition: ColumnElement[bool] = table.c.owner == owner_of(connection)
    return condition


def mine_or_builtin(connection: Connection) -> ColumnElement[bool]:
    """Return the condition that a data set is one that whom the session was opened for may read."""
    return or_(mine(connection, datasets), datasets.c.owner.is_(None))


def my_job(connection: Connection, job_id: str) -> ScalarSelect[Any]:
    """Return the id of a job for what is stored of it elsewhere to be compared with: nothing where it is another's."""
    return select(jobs.c.id).where(mine(connection, jobs), jobs.c.id == job_id).scalar_subquery()


def my_jobs(connection: Connection, job_ids: Collection[str]) -> Select[Any]:
    """Do so for several."""
    return select(jobs.c.id).where(mine(connection, jobs), jobs.c.id.in_(job_ids))
