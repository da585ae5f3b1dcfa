"""The audit log: who did what, written in the transaction of what was done; only ever added to, until it is old."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select

from service.domain.audit import Action, Actor, Entry
from service.storage import pages
from service.storage.database import ACTOR, database_time
from service.storage.owners import mine, owner_of
from service.storage.tables import audit_log

DAY_SECONDS = 24 * 3600.0
PURGED_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries a list shows; None means any."""

    action: Action | None = None
    since: datetime | None = None


def record(connection: Connection, action: Action, target: str, *, owner: str | None = None, **details: Any) -> None:
    """Write that whom this session was opened for did something; who it was in person, the session knows.

    ``owner`` is whose thing it was, where the session was opened for nobody: by the service itself, or an operator.
    ``details`` are small, and hold no secret.
    """
    actor: Actor = connection.get_execution_options().get(ACTOR) or Actor()
    who = {"key_id": actor.key_id, "request_id": actor.request_id, "address": actor.address}
    whose = owner_of(connection) if owner is None else owner
    connection.execute(insert(audit_log).values(owner=whose, action=action, target=target, details=details, **who))


def list_page(connection: Connection, wanted: EntryFilter, page: pages.PageRequest) -> pages.Page[Entry]:
    """List what was done to the things of whom this session was opened for, newest first."""
    query = _wanted(wanted).where(mine(connection, audit_log))
    rows, token = pages.fetch(connection, query, audit_log.c.number, page)
    return pages.Page([_entry(row) for row in rows], token)


def newest(connection: Connection, owner: str | None, wanted: EntryFilter, limit: int) -> list[Entry]:
    """Read what was done to the things of one owner, or of everybody, newest first: for operators."""
    query = _wanted(wanted)
    if owner is not None:
        query = query.where(audit_log.c.owner == owner)
    rows = connection.execute(query.order_by(audit_log.c.number.desc()).limit(limit)).mappings()
    return [_entry(row) for row in rows]


def purge(connection: Connection, days: int) -> None:
    """Forget the oldest entries of those that are older than so many days; 0 keeps all."""
    if not days:
        return
    is_old = audit_log.c.at < database_time(-days * DAY_SECONDS)
    first = connection.execute(select(func.min(audit_log.c.number)).where(is_old)).scalar()
    if first is not None:
        connection.execute(delete(audit_log).where(is_old, audit_log.c.number < first + PURGED_AT_ONCE))


def _wanted(wanted: EntryFilter) -> Select[Any]:
    query = select(audit_log)
    if wanted.action is not None:
        query = query.where(audit_log.c.action == wanted.action)
    if wanted.since is not None:
        query = query.where(audit_log.c.at >= wanted.since)
    return query


def _entry(row: RowMapping) -> Entry:
    return Entry(
        number=row["number"],
        at=row["at"],
        owner=row["owner"],
        action=Action(row["action"]),
        target=row["target"],
        actor=Actor(row["key_id"], row["request_id"], row["address"]),
        details=row["details"],
    )
