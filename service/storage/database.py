"""The connection to the database: one form of session for SQLite and PostgreSQL, and the database's own clock."""

import copy
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, DateTime, Engine, Float, Table, create_engine, event, literal
from sqlalchemy import Connection as Connection
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from service.domain.audit import Actor
from service.storage.object_store import ObjectStore
from service.storage.trouble import Trouble
from service.storage.watch import DatabaseWatch
from service.storage.write_queue import WriteQueue

BUSY_TIMEOUT_SECONDS = 30
CONNECT_TIMEOUT_SECONDS = 2
LIBPQ_OPTIONS = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    # A server whose machine has gone, or behind a network that has, is noticed after half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
"""What a URL says of them counts more."""
OWNER = "owner"
"""The option of a connection that says whose rows it may see."""
ACTOR = "actor"
"""The option of a writing connection that says who changes something, for the audit log."""
OBJECTS = "objects"
"""The option of a connection that says where blobs are that are not in the database."""
SERVER_OPTIONS = {
    # Whoever is frozen, or has gone without a word, in the middle of a session keeps the locks of its rows: a worker
    # those of its job, which nobody could then take from it or cancel.
    "idle_in_transaction_session_timeout": "20s",
    "jit": "off",  # to compile a query takes longer than any of ours
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}
"""What the server is told when a session begins."""


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file, whatever characters its path holds."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def make_folder(url: str) -> None:
    """Make the folder of a SQLite file that is not there yet."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite database; None for any other."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC: timestamptz on PostgreSQL, text on SQLite, always timezone-aware in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store in UTC."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class database_time(FunctionElement[datetime]):  # noqa: N801  # reads as the SQL function that it is
    """The database's clock, ``seconds`` from now: the only clock that decides who holds a job."""

    type = UtcTime()
    inherit_cache = True
    name = "database_time"

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(literal(float(seconds), Float))


@compiles(database_time)
def _written_time(element: database_time, compiler: SQLCompiler, **options: Any) -> str:
    """Write it for whoever prints a statement."""
    return f"database_time({compiler.process(element.clauses, **options)})"


@compiles(database_time, "sqlite")
def _sqlite_time(element: database_time, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"


@compiles(database_time, "postgresql")
def _postgresql_time(element: database_time, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


@dataclass(frozen=True, slots=True)
class Objects:
    """The store of blobs that are not in the database, and what was put into it for the sessions to come."""

    store: ObjectStore
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of objects, by the hash of what they hold."""


class Database:
    """Sessions on one database; every writing session takes the write lock at its start.

    SQLite's default deferred BEGIN lost two thirds of concurrent updates or failed with "database is locked";
    BEGIN IMMEDIATE lost none.
    """

    def __init__(
        self,
        url: str,
        patience_seconds: float | None = None,
        store: ObjectStore | None = None,
        statement_seconds: float | None = None,
    ) -> None:
        """Open nothing yet.

        Blobs are kept in ``store``; without one, in the database itself.

        Nobody waits longer than ``patience_seconds`` for a connection or a lock; None is what a worker needs, which
        would rather wait half a minute, or on PostgreSQL as long as it takes, than lose what it has done.

        PostgreSQL ends a statement after ``statement_seconds``, also one that was sent before the client went. SQLite
        works in this very process, on statements that an index bounds, and has no such bound.
        """
        parsed = make_url(url)
        self.dialect = parsed.get_backend_name()
        longest = BUSY_TIMEOUT_SECONDS if patience_seconds is None else patience_seconds
        self._queue = None
        if self.dialect == "sqlite":
            engines = _sqlite_engines(parsed, longest)
            event.listen(engines.working, "begin", self._begin_sqlite)
            if patience_seconds is not None:
                self._queue = WriteQueue(engines.working, patience_seconds)
        else:
            engines = _postgresql_engines(parsed, longest, _libpq_options(parsed, patience_seconds, statement_seconds))
        self.engine: Engine = engines.working
        self.owner: str | None = None
        """Whose rows its sessions may see; None for the service itself, which looks after everybody's."""
        self.actor: Actor | None = None
        """Who changes something in them, for the audit log."""
        self.objects = None if store is None else Objects(store)
        self.watch = DatabaseWatch(engines.working, engines.asking, engines.question, patience_seconds)
        """Started by an API process, so that none of its threads waits for a database that does not answer."""
        self.trouble = Trouble()
        """What threads that try again and again say of it."""

    def owned_by(self, owner: str, actor: Actor | None = None) -> "Database":
        """Return the same database, whose sessions see only what belongs to an owner; ``actor`` says who asks."""
        owned = copy.copy(self)
        owned.owner, owned.actor = owner, actor
        return owned

    def for_everybody(self) -> "Database":
        """Return the same database for the service itself, which looks after everybody's things."""
        everybody = copy.copy(self)
        everybody.owner = everybody.actor = None
        return everybody

    def with_keys(self, keys: Mapping[str, str]) -> "Database":
        """Return the same database, whose sessions know of objects that were put into the store."""
        assert self.objects is not None
        informed = copy.copy(self)
        informed.objects = Objects(self.objects.store, keys)
        return informed

    @contextmanager
    def read(self, *, steady: bool = False) -> Iterator[Connection]:
        """Open a session that only reads.

        On PostgreSQL each of its statements sees what others have committed by then, on SQLite none does what they
        commit after the first one. ``steady``: also on PostgreSQL, for what takes several statements to tell.

        Raises:
            DatabaseDown: the database does not answer at the moment.
        """
        self.watch.check()
        with self.engine.connect() as connection:
            connection.execution_options(**{OWNER: self.owner, OBJECTS: self.objects})
            if steady and self.dialect == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, *, alone: bool = False) -> Iterator[Connection]:
        """Open a session that commits when its block ends and leaves nothing behind when it raises.

        In an API process on SQLite, sessions that come at once share a commit. One that writes for long is to be alone,
        so that nobody else waits for its end.

        Raises:
            DatabaseDown: the database does not answer at the moment, or others have written to it for too long.
        """
        self.watch.check()
        if self._queue is not None:
            with self._queue.session(alone=alone) as connection:
                yield connection.execution_options(**self._options())
            return
        with self.engine.connect() as connection:
            connection.execution_options(writes=True, **self._options())
            with connection.begin():
                yield connection

    def connections(self) -> tuple[int, int]:
        """Return how many connections of the pool are in use, and how many are idle."""
        pool = self.engine.pool
        return (pool.checkedout(), pool.checkedin()) if isinstance(pool, QueuePool) else (0, 0)

    def close(self) -> None:
        """Close every connection of the pool."""
        self.watch.stop()
        self.engine.dispose()

    def _options(self) -> dict[str, Any]:
        return {OWNER: self.owner, ACTOR: self.actor, OBJECTS: self.objects}

    def _begin_sqlite(self, connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("writes", False):
            connection.exec_driver_sql("BEGIN")
        elif self._queue is None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            self._queue.begin(connection, options["deadline"])


def upsert(connection: Connection, table: Table) -> Any:
    """Return this database's INSERT that knows ON CONFLICT; both dialects spell it alike."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite  # a process needs one of the two

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # a process needs one of the two

    return postgresql.insert(table)


@dataclass(frozen=True, slots=True)
class _Engines:
    """A database's connections: those that work, and the one on which it is asked whether it answers."""

    working: Engine
    asking: Engine
    question: str


def _sqlite_engines(url: URL, longest_seconds: float) -> _Engines:
    working = create_engine(url, connect_args={"timeout": longest_seconds}, pool_timeout=longest_seconds)
    event.listen(working, "connect", _configure_sqlite)
    asking = create_engine(url, connect_args={"timeout": 0.5}, pool_size=1, max_overflow=0)
    return _Engines(working, asking, "PRAGMA schema_version")  # which SQLite cannot answer without the file


def _postgresql_engines(url: URL, longest_seconds: float, options: dict[str, Any]) -> _Engines:
    working = create_engine(url, connect_args=options, pool_pre_ping=True, pool_timeout=longest_seconds)
    # The ping is for a connection that was closed while nothing was asked, which is no sign of trouble.
    asking = create_engine(
        url, connect_args=options, pool_pre_ping=True, pool_size=1, max_overflow=0, isolation_level="AUTOCOMMIT"
    )
    return _Engines(working, asking, "SELECT 1")


def _configure_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    # Pages of 16 KiB, which only a new file takes, store the parts of blobs in two thirds of the time.
    for pragma in ("page_size=16384", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _libpq_options(url: URL, patience_seconds: float | None, statement_seconds: float | None) -> dict[str, Any]:
    options = {name: value for name, value in LIBPQ_OPTIONS.items() if name not in url.query}
    server = dict(SERVER_OPTIONS)
    if patience_seconds is not None:
        server["lock_timeout"] = f"{patience_seconds * 1000:.0f}"
    if statement_seconds is not None:
        server["statement_timeout"] = f"{statement_seconds * 1000:.0f}"
    ours = " ".join(f"-c {name}={value}" for name, value in server.items())
    return {**options, "options": f"{ours} {url.query.get('options', '')}".strip()}
