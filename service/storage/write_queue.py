"""Lets the threads of one process write to SQLite one after the other, and commits several of their sessions at once.

SQLite's own lock knows no order: whoever waits for it sleeps and looks again, so that some of forty threads come too
late. And a commit takes as long as the disk needs to make it durable, some milliseconds, whatever it holds.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from service.storage.faults import DatabaseDown

LOCKED = "another process keeps the SQLite file locked"
MOST_TOGETHER = 32
"""So many sessions share a commit at most, so that the first of them does not wait for long."""


@dataclass(eq=False)
class Turn:
    """Somebody's place in the line; ``came`` is done when it is its turn."""

    alone: bool
    came: Future[None] = field(default_factory=Future)


class SharedTransaction:
    """One transaction of several sessions: each is undone for itself where it fails; all become durable, or none."""

    def __init__(self, engine: Engine, deadline: float, *, alone: bool) -> None:
        self._done: Future[None] = Future()
        self._room = 1 if alone else MOST_TOGETHER
        self._is_lost = False
        self._connection = engine.connect()
        try:
            self._connection.execution_options(writes=True, deadline=deadline)
            self._transaction = self._connection.begin()
        except BaseException:
            self._connection.close()
            raise

    @property
    def is_full(self) -> bool:
        """Whether no other session may join."""
        return self._room == 0 or self._is_lost

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Open a session whose work goes where its block raises."""
        self._room -= 1
        savepoint = self._connection.begin_nested()
        try:
            yield self._connection
            savepoint.commit()
        except BaseException:
            try:
                savepoint.rollback()
            except DBAPIError:
                self._is_lost = True
            # On some errors, such as a full disk, SQLite itself takes the whole transaction back.
            self._is_lost = self._is_lost or not self._is_open()
            raise

    def end(self) -> None:
        """Commit, and tell every session how that went."""
        try:
            if self._is_lost or not self._is_open():
                raise DatabaseDown("a session that shared its transaction with others made SQLite take it back")
            self._transaction.commit()
        except BaseException as error:  # noqa: BLE001  # it is raised in each session
            self._done.set_exception(error)
            self._connection.invalidate()  # SQLite may have kept the transaction open
        else:
            self._done.set_result(None)
        finally:
            self._connection.close()

    def wait(self) -> None:
        """Return once the work is durable."""
        self._done.result()

    def _is_open(self) -> bool:
        raw: Any = self._connection.connection.dbapi_connection
        return bool(raw.in_transaction)


class WriteQueue:
    """Whose turn it is to write. Where another process keeps the file, one thread waits and all others are refused."""

    def __init__(self, engine: Engine, patience_seconds: float) -> None:
        self._engine = engine
        self._patience_seconds = patience_seconds
        self._lock = Lock()
        self._waiting: deque[Turn] = deque()
        self._is_taken = False
        self._is_hopeless = False
        self._shared: SharedTransaction | None = None

    @contextmanager
    def session(self, *, alone: bool) -> Iterator[Connection]:
        """Open a session in one's turn; its work is durable when its block has ended.

        Raises:
            DatabaseDown: the turn did not come in time.
        """
        deadline = time.monotonic() + self._patience_seconds
        self._take(Turn(alone), deadline)
        try:
            if self._shared is None:
                self._shared = SharedTransaction(self._engine, deadline, alone=alone)
            shared = self._shared
            with shared.session() as connection:
                yield connection
        finally:
            self._leave()
        shared.wait()

    def begin(self, connection: Connection, deadline: float) -> None:
        """Take SQLite's own lock, in one's turn."""
        left = max(0.0, deadline - time.monotonic())
        connection.exec_driver_sql(f"PRAGMA busy_timeout={left * 1000:.0f}")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except OperationalError:
            self._give_up()
            raise
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={self._patience_seconds * 1000:.0f}")
        self._is_hopeless = False

    def _take(self, mine: Turn, deadline: float) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            if self._is_hopeless:
                raise DatabaseDown(LOCKED)
            self._waiting.append(mine)
        try:
            mine.came.result(deadline - time.monotonic())
        except TimeoutError:
            if mine.came.cancel():
                raise DatabaseDown("others have written to the SQLite file for too long") from None
            mine.came.result()  # it came at the last moment

    def _leave(self) -> None:
        """Let the next one go on in the same transaction, or after it has been committed."""
        while True:
            with self._lock:
                following = self._next()
                if following is None and self._shared is None:
                    self._is_taken = False
                    return
            shared = self._shared
            if shared is not None and (following is None or following.alone or shared.is_full):
                self._shared = None
                shared.end()
            if following is not None:
                following.came.set_result(None)
                return
            # Somebody may have come while this was committed.

    def _next(self) -> Turn | None:
        while self._waiting:
            following = self._waiting.popleft()
            if following.came.set_running_or_notify_cancel():  # else it has not waited so long
                return following
        return None

    def _give_up(self) -> None:
        with self._lock:
            self._is_hopeless = True
            while following := self._next():
                following.came.set_exception(DatabaseDown(LOCKED))
