"""What the doctor asks the database: reads only, on connections that cannot write."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, create_engine, func, or_, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from service.domain.jobs import ACTIVE_STATES, HELD_STATES, EventKind, JobState
from service.storage.database import CONNECT_TIMEOUT_SECONDS, database_time
from service.storage.leases import LEASE_SECONDS
from service.storage.tables import blobs, events, jobs

LATE_SECONDS = 60.0
"""What has not happened by so much later than it should will not happen by itself."""
MOVED_SECONDS = 20.0
"""A worker may have been idle so long before it comes for the next job."""
STATEMENT_TIMEOUT_SECONDS = 3.0
BUSY_TIMEOUT_SECONDS = 2
MAX_NAMED = 5
WAL_VERSION = b"\x02"


class NoDatabase(ValueError):
    """A URL does not lead to a database; the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """Jobs of one kind: how many, and the ids of the oldest."""

    count: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """The jobs that wait for a worker."""

    waiting: int
    oldest_seconds: float
    """For how long the oldest of them could have been taken; 0 where none waits."""
    moves: bool
    """Whether a job has started or ended a moment ago."""


@dataclass(frozen=True, slots=True)
class FilesElsewhere:
    """The files that the database knows of and does not hold: how many, and the key of one."""

    count: int
    key: str | None


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """Open a session that cannot write, on a connection of its own.

    Raises:
        NoDatabase: the URL is none of SQLite or PostgreSQL, or there is no such file.
    """
    path = sqlite_file(url)
    if path is None:
        try:
            engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS})
        except (ArgumentError, ImportError) as error:
            raise NoDatabase(str(error)) from None
        engine = engine.execution_options(postgresql_readonly=True)
    else:
        engine = create_engine("sqlite://", poolclass=NullPool, creator=lambda: _connect(path))
    with engine.connect() as connection, connection.begin():
        if path is None:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {1000 * STATEMENT_TIMEOUT_SECONDS:.0f}")
        else:
            connection.exec_driver_sql("BEGIN")  # the driver says none by itself
            connection.exec_driver_sql("PRAGMA schema_version")  # BEGIN alone opens no file
        yield connection


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite URL; None for PostgreSQL.

    Raises:
        NoDatabase: the URL is none of the two, or there is no such file.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise NoDatabase("the URL cannot be read") from None
    if parsed.get_backend_name() == "postgresql":
        return None
    if parsed.get_backend_name() != "sqlite":
        raise NoDatabase("the URL is none of SQLite or PostgreSQL")
    path = Path(parsed.database or ":memory:")
    if not path.is_file():
        raise NoDatabase(f"there is no file {path}")
    return path


def is_writable(path: Path) -> bool:
    """Whether this user could write a SQLite file, and the files that SQLite makes beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def has_wal(path: Path) -> bool:
    """Whether a SQLite file is in the mode in which readers and writers do not wait for each other."""
    with path.open("rb") as file:
        return file.read(20)[18:19] == WAL_VERSION


def postgresql_version(connection: Connection) -> str:
    """Return the version of the server."""
    return str(connection.execute(text("SHOW server_version")).scalar_one())


def now(connection: Connection) -> datetime:
    """Read the database's clock."""
    return connection.execute(select(database_time())).scalar_one()


def quick_check(connection: Connection, seconds: float) -> list[str] | None:
    """Let SQLite look through its file; return what is damaged, or None where the time was too short."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    over = threading.Event()

    def interrupt() -> None:
        over.set()
        raw.interrupt()

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        lines = [str(line) for (line,) in raw.execute(f"PRAGMA quick_check({MAX_NAMED})")]
    except sqlite3.OperationalError:
        if over.is_set():
            return None
        raise
    finally:
        timer.cancel()
    return [] if lines == ["ok"] else lines


def queue(connection: Connection) -> Queue:
    """Look at the jobs that a worker could take."""
    claimable = (jobs.c.state == JobState.QUEUED, jobs.c.claimable_at <= database_time())
    oldest = func.min(jobs.c.claimable_at).label("oldest")
    waiting, since, time = connection.execute(select(func.count(), oldest, database_time()).where(*claimable)).one()
    seconds = 0.0 if since is None else (time - since).total_seconds()
    recently = database_time(-MOVED_SECONDS)
    moved = select(jobs.c.id).where(or_(jobs.c.started_at > recently, jobs.c.finished_at > recently)).limit(1)
    return Queue(waiting, seconds, seconds > 0 and connection.execute(moved).first() is not None)


def expired(connection: Connection) -> Found:
    """Find jobs whose worker was lost, and which nobody takes back."""
    return _find(connection, jobs.c.state.in_(HELD_STATES), jobs.c.lease_until < database_time(-LATE_SECONDS))


def far_ahead(connection: Connection) -> Found:
    """Find jobs with a time so far ahead that the clock must have been wrong when it was stored."""
    held = jobs.c.state.in_(HELD_STATES) & (jobs.c.lease_until > database_time(LEASE_SECONDS + LATE_SECONDS))
    waiting = (jobs.c.state == JobState.QUEUED) & (jobs.c.claimable_at > database_time(5 * LATE_SECONDS))
    return _find(connection, held | waiting)


def unheeded(connection: Connection) -> Found:
    """Find jobs that somebody asked to pause or to cancel, and whose worker does not stop."""
    asked = (
        select(func.max(events.c.created_at))
        .where(events.c.job_id == jobs.c.id)
        .where(events.c.kind.in_((EventKind.PAUSE_REQUESTED, EventKind.CANCEL_REQUESTED)))
        .scalar_subquery()
    )
    stopping = or_(jobs.c.state == JobState.CANCELLING, jobs.c.pause_requested)
    return _find(connection, jobs.c.state.in_(HELD_STATES), stopping, asked < database_time(-LATE_SECONDS))


def with_losses(connection: Connection) -> Found:
    """Find unfinished jobs that have cost a worker since their last checkpoint."""
    return _find(connection, jobs.c.state.in_(ACTIVE_STATES), jobs.c.losses >= 1)


def files_elsewhere(connection: Connection) -> FilesElsewhere:
    """Count the files that are in an object store, and name one."""
    is_there = blobs.c.object_key.is_not(None)
    query = select(func.count(), func.max(blobs.c.object_key)).where(is_there)
    count, key = connection.execute(query).one()
    return FilesElsewhere(count, key)


def _find(connection: Connection, *conditions: ColumnElement[bool]) -> Found:
    count = connection.execute(select(func.count()).select_from(jobs).where(*conditions)).scalar_one()
    oldest = select(jobs.c.id).where(*conditions).order_by(jobs.c.number).limit(MAX_NAMED)
    return Found(count, tuple(connection.execute(oldest).scalars()))


def _connect(path: Path) -> sqlite3.Connection:
    # A reader of a WAL file makes the files beside it and cannot remove them; where there are none, nobody writes.
    mode = "ro" if Path(f"{path}-wal").exists() else "ro&immutable=1"
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_SECONDS,
        isolation_level=None,  # we say BEGIN ourselves
    )
