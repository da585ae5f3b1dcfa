"""What happened to a job, in order: a log that is only ever added to, in the transaction of what it tells."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, or_, select, update

from service.domain.jobs import Event, EventKind
from service.storage.tables import events, jobs

EVENTS_AT_ONCE = 1000


def begin(connection: Connection, job_id: str, kind: EventKind) -> None:
    """Write the first event of a job that is stored with ``last_event`` 1."""
    connection.execute(insert(events).values(job_id=job_id, number=1, kind=kind, data={}))


def append(connection: Connection, job_id: str, kind: EventKind, **data: Any) -> None:
    """Add one event."""
    append_all(connection, job_id, [(kind, data)])


def append_all(connection: Connection, job_id: str, news: Sequence[tuple[EventKind, dict[str, Any]]]) -> None:
    """Add events.

    Counting the job's number up holds its row until the end of the transaction, so that nobody ever sees an event
    before one with a lower number.
    """
    counted = update(jobs).where(jobs.c.id == job_id).values(last_event=jobs.c.last_event + len(news))
    last = connection.execute(counted.returning(jobs.c.last_event)).scalar_one()
    first = last - len(news) + 1
    rows = [
        {"job_id": job_id, "number": number, "kind": kind, "data": data}
        for number, (kind, data) in enumerate(news, first)
    ]
    connection.execute(insert(events), rows)


def has(connection: Connection, job_id: str, kind: EventKind) -> bool:
    """Say whether an event of this kind was told of a job."""
    query = select(events.c.number).where(events.c.job_id == job_id, events.c.kind == kind).limit(1)
    return connection.execute(query).first() is not None


def read(connection: Connection, job_id: str, after: int = 0, limit: int = EVENTS_AT_ONCE) -> list[Event]:
    """Read the events of a job that follow number ``after``, in order; at most ``limit`` of them."""
    query = select(events).where(events.c.job_id == job_id, events.c.number > after)
    rows = connection.execute(query.order_by(events.c.number).limit(limit)).mappings()
    return [_event(row) for row in rows]


def read_log(connection: Connection, job_id: str, epochs: int, limit: int = EVENTS_AT_ONCE) -> list[Event]:
    """Read what happened to a job, newest first: of its last events all, of those before them all but the epochs."""
    last = select(jobs.c.last_event).where(jobs.c.id == job_id).scalar_subquery()
    query = select(events).where(
        events.c.job_id == job_id, or_(events.c.number > last - epochs, events.c.kind != EventKind.EPOCH)
    )
    return [_event(row) for row in connection.execute(query.order_by(events.c.number.desc()).limit(limit)).mappings()]


def _event(row: RowMapping) -> Event:
    return Event(row["number"], EventKind(row["kind"]), row["data"], row["created_at"])
