"""Sessions of one process that write to SQLite: in turn, several to a commit, each undone for itself."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from service.storage.database import Connection, Database
from service.storage.faults import DATABASE_DOWN, DatabaseDown
from service.storage.write_queue import MOST_TOGETHER
from tests.patience import until

THREADS = 16


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'queue.db'}", patience_seconds=60)
    with opened.write() as connection:
        connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE)"))
    yield opened
    opened.close()


def add(connection: Connection, word: str) -> None:
    connection.execute(text("INSERT INTO notes (word) VALUES (:word)"), {"word": word})


def words(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(text("SELECT word FROM notes")).scalars())


@contextmanager
def commits(database: Database) -> Iterator[list[float]]:
    """Note when commits happen."""
    seen: list[float] = []

    def note(_: object) -> None:
        seen.append(time.monotonic())

    event.listen(database.engine, "commit", note)
    yield seen
    event.remove(database.engine, "commit", note)


def wait_until_in_line(database: Database, count: int) -> None:
    queue = database._queue
    assert queue is not None
    until(lambda: len(queue._waiting) >= count)


def together(database: Database, tasks: list[tuple[str, bool]], *, alone: bool = False) -> list[BaseException | None]:
    """Let sessions write their word while a first one holds the turn, so that all of them wait in line behind it."""
    first_may_end = threading.Event()

    def one(word: str, fails: bool) -> None:
        with database.write(alone=alone) as connection:
            add(connection, word)
            if fails:
                raise KeyError(word)

    with ExitStack() as stack, ThreadPoolExecutor(len(tasks)) as pool:
        stack.callback(first_may_end.set)
        connection = stack.enter_context(database.write())
        add(connection, "first")
        waiting = [pool.submit(one, word, fails) for word, fails in tasks]
        wait_until_in_line(database, len(tasks))
        stack.close()
        return [future.exception() for future in waiting]


def test_sessions_that_wait_share_a_commit(database: Database) -> None:
    with commits(database) as seen:
        errors = together(database, [(f"w{number}", False) for number in range(THREADS)])
    assert errors == [None] * THREADS
    assert words(database) == {"first", *(f"w{number}" for number in range(THREADS))}
    assert len(seen) <= 3


def test_session_that_fails_takes_only_its_own_work_along(database: Database) -> None:
    errors = together(database, [(f"w{number}", number % 3 == 0) for number in range(THREADS)])
    assert [isinstance(error, KeyError) for error in errors] == [number % 3 == 0 for number in range(THREADS)]
    assert words(database) == {"first", *(f"w{number}" for number in range(THREADS) if number % 3)}


def test_sessions_that_want_to_be_alone_are(database: Database) -> None:
    with commits(database) as seen:
        together(database, [(f"w{number}", False) for number in range(4)], alone=True)
    assert len(seen) == 5


def test_group_is_bounded(database: Database) -> None:
    with commits(database) as seen:
        together(database, [(f"w{number}", False) for number in range(2 * MOST_TOGETHER)])
    assert 3 <= len(seen) <= 5


def test_what_a_session_wrote_is_durable_when_it_ends(database: Database) -> None:
    """Another connection sees it at once, whoever committed it."""

    def write_and_look(number: int) -> bool:
        with database.write() as connection:
            add(connection, f"w{number}")
        return f"w{number}" in words(database)

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(write_and_look, range(20 * THREADS)))


def test_transaction_that_sqlite_takes_back_fails_every_session_of_it(database: Database) -> None:
    """A full disk may end the whole transaction; a commit would then say nothing and store nothing."""
    may_go, has_begun = threading.Event(), threading.Event()

    def first() -> None:
        with database.write() as connection:
            add(connection, "lost")
            has_begun.set()
            may_go.wait(60)

    def second() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("ROLLBACK")  # what SQLite does by itself on SQLITE_FULL
            raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        has_begun.wait(60)
        other = pool.submit(second)
        wait_until_in_line(database, 1)
        may_go.set()
        assert isinstance(other.exception(), OperationalError)
        assert isinstance(one.exception(), DatabaseDown)
    assert words(database) == set()
    with database.write() as connection:
        add(connection, "after")
    assert words(database) == {"after"}


def test_commit_that_fails_is_told_to_every_session(database: Database) -> None:
    def fail(_: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    event.listen(database.engine, "commit", fail)
    with pytest.raises(OperationalError), database.write() as connection:
        add(connection, "x")
    event.remove(database.engine, "commit", fail)
    with database.write() as connection:
        add(connection, "y")
    assert words(database) == {"y"}


def test_many_sessions_of_every_kind_leave_exactly_what_they_said(database: Database) -> None:
    done: set[str] = set()

    def one(number: int) -> None:
        word = f"w{number // 2 if number % 10 == 3 else number}"  # some words come twice
        try:
            with database.write(alone=number % 17 == 0) as connection:
                add(connection, word)
                if number % 5 == 0:
                    raise KeyError
        except (KeyError, IntegrityError, *DATABASE_DOWN):
            return
        done.add(word)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(600)))
    assert words(database) == done
