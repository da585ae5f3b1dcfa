"""Whether the database answers: one thread asks it all the time, and while it does not, nobody waits for it in vain."""

import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from service.storage.faults import DatabaseDown, is_damaged

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

ASK_SECONDS = 0.25
"""The pause between an answer and the next question."""
ANSWER_SECONDS = 1.5
"""A database that has not answered a question after so long is down: requests are to be refused within 2 s, and one
that is only busy is not to be taken for it."""
LOOKS = 15
"""So often somebody looks for the answer in that time."""


class DatabaseWatch:
    """Asks the database whether it answers; when it does not, cuts every connection and refuses new sessions.

    libpq waits for an answer without end, and a server whose processes are frozen, or behind a network that swallows
    everything, keeps its connections open: without this, every thread of the process would soon hang in one of them.
    Until it is started, the watch changes nothing.
    """

    def __init__(self, engine: Engine, asking: Engine, question: str, patience_seconds: float | None = None) -> None:
        """Watch over the connections of ``engine``; ``asking`` is another one, for one connection to put the question.

        Nobody waits longer than ``patience_seconds`` for a new connection; None leaves it to libpq.
        """
        self._asking = asking
        self._question = question
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._is_down = False
        self._lines: dict[int, socket.socket] = {}
        self._attempts: set[Future[DBAPIConnection]] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if engine.dialect.name == "postgresql":
            event.listen(engine, "do_connect", self._connect)
            event.listen(asking, "do_connect", self._open)
            for watched in (engine, asking):
                event.listen(watched, "close", self._forget)

    def start(self) -> None:
        """Begin to ask."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="database watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Cut every connection that is in use, so that no thread outlives this one in it, and ask no more."""
        if self._thread is None:
            return
        self._stop.set()
        self._cut()
        self._thread.join(2 * ANSWER_SECONDS)
        self._thread = None
        self._is_down = False
        self._asking.dispose()

    def check(self) -> None:
        """Return at once where the database answers.

        Raises:
            DatabaseDown: it does not.
        """
        if self._is_down:
            raise DatabaseDown("the database did not answer when it was asked last")

    def _run(self) -> None:
        asked: Future[None] | None = None
        while not self._stop.is_set():
            try:
                # One that is stuck, as in the look-up of a name, is waited for: threads would pile up behind it.
                if asked is None or asked.done():
                    asked = _in_thread(self._ask)
                trouble = self._trouble(asked)
                if trouble is None:
                    self._restore()
                elif not self._stop.is_set():
                    self._cut(trouble)
            except Exception:  # such as a thread that cannot be started; without this one nobody would ask again
                logger.exception("the database could not be watched; trying again")
            self._stop.wait(ASK_SECONDS)
        if asked is not None:
            wait([asked], ANSWER_SECONDS)

    def _ask(self) -> None:
        with self._asking.connect() as connection:
            connection.exec_driver_sql(self._question)

    def _trouble(self, asked: "Future[None]") -> str | None:
        """Return what is wrong with the database; None where it has answered."""
        # Looks are counted, not seconds: a process that was itself held up must not blame the database for it.
        for _ in range(LOOKS):
            if wait([asked], ANSWER_SECONDS / LOOKS).done or self._stop.is_set():
                break
        if not asked.done():
            return f"no answer after {ANSWER_SECONDS:g} s"
        error = asked.exception()
        # A damaged file is there: whoever needs it is to hear what is wrong with it.
        return None if error is None or is_damaged(error) else str(error)

    def _cut(self, trouble: str | None = None) -> None:
        """Refuse new sessions, and end every wait for an answer with the error of a lost connection."""
        with self._lock:
            if trouble is not None and not self._is_down:
                logger.error("the database is down; requests that need it are refused until it answers: %s", trouble)
            self._is_down = True
            for line in self._lines.values():
                with suppress(OSError):  # it may be closed already
                    line.shutdown(socket.SHUT_RDWR)
            for attempt in self._attempts:
                with suppress(InvalidStateError):  # it has just succeeded
                    attempt.set_exception(DatabaseDown("the database did not take a new connection"))

    def _restore(self) -> None:
        with self._lock:
            if self._is_down and not self._stop.is_set():
                logger.warning("the database answers again")
                self._is_down = False

    def _connect(
        self, dialect: Dialect, _entry: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
    ) -> DBAPIConnection:
        """Open a connection in a thread that can be left behind: libpq gives every address at least two seconds."""
        if self._thread is None:
            return self._open(dialect, _entry, arguments, options)
        attempt: Future[DBAPIConnection] = Future()
        with self._lock:
            self.check()
            self._attempts.add(attempt)
        try:
            _in_thread(lambda: self._open(dialect, _entry, arguments, options), attempt, self._discard)
            return attempt.result(self._patience_seconds)
        except TimeoutError:
            if attempt.cancel():
                raise DatabaseDown("the database did not take a new connection in time") from None
            return attempt.result()
        finally:
            with self._lock:
                self._attempts.remove(attempt)

    def _open(
        self, dialect: Dialect, _entry: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
    ) -> DBAPIConnection:
        """Open a connection and keep a handle on its socket.

        It is one of our own: the number of libpq's may belong to somebody else's connection by the time it is cut.
        """
        connection: Any = dialect.connect(*arguments, **options)  # SQLAlchemy's type has no fileno
        line = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with self._lock:
            self._lines[id(connection)] = line
        opened: DBAPIConnection = connection
        return opened

    def _discard(self, connection: DBAPIConnection) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry | None = None) -> None:
        with self._lock:
            line = self._lines.pop(id(connection), None)
        if line is not None:
            line.close()


def _in_thread(
    work: Callable[[], Result],
    future: "Future[Result] | None" = None,
    discard: Callable[[Result], object] = lambda _: None,
) -> "Future[Result]":
    """Run a function in a thread of its own; a result for which nobody waits any more is discarded."""
    outcome: Future[Result] = Future() if future is None else future

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is awaited
            with suppress(InvalidStateError):
                outcome.set_exception(error)
            return
        try:
            outcome.set_result(result)
        except InvalidStateError:
            discard(result)

    threading.Thread(target=run, name="database question", daemon=True).start()
    return outcome
