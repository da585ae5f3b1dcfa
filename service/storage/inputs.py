"""What models were asked, as each API process counted it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select

from service.domain.counts import add
from service.storage.database import database_time, upsert
from service.storage.owners import mine
from service.storage.tables import input_statistics, model_versions

KEPT_SECONDS = 86_400.0
"""A process that has written nothing for so long has ended; what it counted is then added to the others'."""
ENDED = "ended"
"""The name under which the counts of processes that have ended are kept together."""


@dataclass(frozen=True, slots=True)
class InputRecord:
    """What one process counted of one version, and the moments of its last rows."""

    process: str
    counts: dict[str, Any]
    recent: dict[str, Any]
    updated_at: datetime


def record(
    connection: Connection,
    owner: str,
    name: str,
    version: int,
    process: str,
    counts: dict[str, Any],
    recent: dict[str, Any],
) -> None:
    """Add what a process has counted since it last did to what it stored; nothing for a version that is gone.

    Sums would be counted twice where those of a process that was asked nothing for a day have gone to the others'.
    """
    columns = input_statistics.c
    its = (model_versions.c.owner == owner, model_versions.c.name == name, model_versions.c.version == version)
    if connection.execute(select(model_versions.c.name).where(*its)).first() is None:
        return
    stored = select(columns.counts).where(*_of_process(owner, name, version, process))
    before = connection.execute(stored.with_for_update()).scalar() or {}
    values = {"counts": add(before, counts), "recent": recent, "updated_at": database_time()}
    keys = {"owner": owner, "name": name, "version": version, "process": process}
    new = upsert(connection, input_statistics).values(**keys, **values)
    connection.execute(new.on_conflict_do_update(index_elements=list(keys), set_=values))


def read(connection: Connection, name: str, version: int) -> list[InputRecord]:
    """Return what every process counted of a version."""
    columns = input_statistics.c
    query = select(columns.process, columns.counts, columns.recent, columns.updated_at)
    query = query.where(mine(connection, input_statistics), columns.name == name, columns.version == version)
    rows = connection.execute(query.order_by(columns.process))
    return [InputRecord(*row) for row in rows]


def purge(connection: Connection) -> None:
    """Add the counts of processes that have ended to each other's, so that the table does not grow with each start.

    This is done for everybody's models.
    """
    columns = input_statistics.c
    old = columns.updated_at < database_time(-KEPT_SECONDS)
    keys = (columns.owner, columns.name, columns.version, columns.process)
    query = select(*keys).where(old, columns.process != ENDED)
    for owner, name, version, process in connection.execute(query.with_for_update()).all():
        its = _of_process(owner, name, version, process)
        counts = connection.execute(select(columns.counts).where(*its)).scalar_one()
        record(connection, owner, name, version, ENDED, counts, {})
        connection.execute(delete(input_statistics).where(*its))


def _of_process(owner: str, name: str, version: int, process: str) -> tuple[ColumnElement[bool], ...]:
    columns = input_statistics.c
    return columns.owner == owner, columns.name == name, columns.version == version, columns.process == process
