"""What happened to a job, in order: a log that is only ever added to, in the transaction of what it tells."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, literal_column, select, union_all, update

from service.domain.jobs import Event, EventKind, JobKind
from service.storage import outbox
from service.storage.owners import mine, my_job
from service.storage.tables import events, jobs

EVENTS_AT_ONCE = 1000
COUNTED = (jobs.c.last_event, jobs.c.kind, outbox.SOMEBODY_LISTENS.label("is_heard"))
"""What a statement that counts a job's events returns of it."""


def begin(connection: Connection, job_id: str, kind: EventKind, **data: Any) -> None:
    """Write the first event of a job that is stored with ``last_event`` 1."""
    connection.execute(insert(events).values(job_id=job_id, number=1, kind=kind, data=data))


def begun_with(connection: Connection, job_id: str) -> dict[str, Any]:
    """Read what the first event of a job says; nothing where there is none."""
    query = select(events.c.data).where(events.c.job_id == my_job(connection, job_id), events.c.number == 1)
    return dict(connection.execute(query).scalar() or {})


def append(connection: Connection, job_id: str, kind: EventKind, **data: Any) -> None:
    """Add one event."""
    append_all(connection, job_id, [(kind, data)])


def append_all(connection: Connection, job_id: str, news: Sequence[tuple[EventKind, dict[str, Any]]]) -> None:
    """Add events.

    Counting the job's number up holds its row until the end of the transaction, so that nobody ever sees an event
    before one with a lower number.
    """
    counted = update(jobs).where(mine(connection, jobs), jobs.c.id == job_id)
    counted = counted.values(last_event=jobs.c.last_event + len(news)).returning(*COUNTED)
    add_counted(connection, job_id, connection.execute(counted).mappings().one(), news)


def add_counted(
    connection: Connection, job_id: str, counted: RowMapping, news: Sequence[tuple[EventKind, dict[str, Any]]]
) -> None:
    """Add events after a statement that has counted them in ``last_event`` of their job, and has returned ``COUNTED``.

    For what happens often, where one statement changes the job and counts.
    """
    first = counted["last_event"] - len(news) + 1
    rows = [
        {"job_id": job_id, "number": number, "kind": kind, "data": data}
        for number, (kind, data) in enumerate(news, first)
    ]
    connection.execute(insert(events), rows)
    if counted["is_heard"]:
        outbox.tell(connection, job_id, JobKind(counted["kind"]), [kind for kind, _ in news])


def has(connection: Connection, job_id: str, kind: EventKind) -> bool:
    """Say whether an event of this kind was told of a job."""
    query = select(events.c.number).where(events.c.job_id == my_job(connection, job_id), events.c.kind == kind).limit(1)
    return connection.execute(query).first() is not None


def read(connection: Connection, job_id: str, after: int = 0, limit: int = EVENTS_AT_ONCE) -> list[Event]:
    """Read the events of a job that follow number ``after``, in order; at most ``limit`` of them."""
    query = select(events).where(events.c.job_id == my_job(connection, job_id), events.c.number > after)
    rows = connection.execute(query.order_by(events.c.number).limit(limit)).mappings()
    return [_event(row) for row in rows]


def read_log(connection: Connection, job_id: str, epochs: int, limit: int = EVENTS_AT_ONCE) -> list[Event]:
    """Read what happened to a job, newest first: of its last events all, of those before them all but the epochs."""
    last = select(jobs.c.last_event).where(mine(connection, jobs), jobs.c.id == job_id).scalar_subquery()
    its = select(events).where(events.c.job_id == my_job(connection, job_id))
    newest_first = its.order_by(events.c.number.desc()).limit(limit)
    # Written out, for a database cannot tell that an index leaves the epochs out where a parameter says which kind.
    others = newest_first.where(events.c.kind != literal_column(f"'{EventKind.EPOCH}'")).subquery()
    latest = newest_first.where(events.c.number > last - epochs, events.c.kind == EventKind.EPOCH).subquery()
    both = union_all(select(others), select(latest)).subquery()
    query = select(both).order_by(both.c.number.desc()).limit(limit)
    return [_event(row) for row in connection.execute(query).mappings()]


def _event(row: RowMapping) -> Event:
    return Event(row["number"], EventKind(row["kind"]), row["data"], row["created_at"])
