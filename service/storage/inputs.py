"""What models were asked, as each API process counted it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from service.domain.counts import add
from service.storage.database import database_time, upsert
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
    connection: Connection, name: str, version: int, process: str, counts: dict[str, Any], recent: dict[str, Any]
) -> None:
    """Add what a process has counted since it last did to what it stored; nothing for a version that is gone.

    Sums would be counted twice where those of a process that was asked nothing for a day have gone to the others'.
    """
    columns = input_statistics.c
    exists = select(model_versions.c.name).where(model_versions.c.name == name, model_versions.c.version == version)
    if connection.execute(exists).first() is None:
        return
    mine = select(columns.counts).where(columns.name == name, columns.version == version, columns.process == process)
    before = connection.execute(mine.with_for_update()).scalar() or {}
    values = {"counts": add(before, counts), "recent": recent, "updated_at": database_time()}
    new = upsert(connection, input_statistics).values(name=name, version=version, process=process, **values)
    connection.execute(new.on_conflict_do_update(index_elements=["owner", "name", "version", "process"], set_=values))


def read(connection: Connection, name: str, version: int) -> list[InputRecord]:
    """Return what every process counted of a version."""
    columns = input_statistics.c
    query = select(columns.process, columns.counts, columns.recent, columns.updated_at)
    rows = connection.execute(query.where(columns.name == name, columns.version == version).order_by(columns.process))
    return [InputRecord(*row) for row in rows]


def purge(connection: Connection) -> None:
    """Add the counts of processes that have ended to each other's, so that the table does not grow with each start."""
    columns = input_statistics.c
    old = columns.updated_at < database_time(-KEPT_SECONDS)
    query = select(columns.name, columns.version, columns.process).where(old, columns.process != ENDED)
    for name, version, process in connection.execute(query.with_for_update()).all():
        mine = (columns.name == name, columns.version == version, columns.process == process)
        counts = connection.execute(select(columns.counts).where(*mine)).scalar_one()
        record(connection, name, version, ENDED, counts, {})
        connection.execute(delete(input_statistics).where(*mine))
