"""Checkpoints that the database itself finds damaged: its files are overwritten while nobody uses them."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from service.domain.jobs import Checkpoint, EventKind, JobState
from service.domain.owners import DEFAULT_OWNER
from service.storage import checkpoints, jobs, schema
from service.storage.database import Database
from service.storage.tables import blobs
from service.storage.tables import checkpoints as checkpoint_table
from service.use_cases.datasets import add_builtin_datasets
from tests.factories import stored_job
from tests.patience import until
from tests.servers import PostgresqlServer, postgresql_server
from tests.training.attempts import ENDLESS, ask, epochs_of, finish, read, run_beside, start, told

LARGE: dict[str, Any] = {**ENDLESS, "network": {"hidden_layers": 3, "units": 64}}
"""Its state takes many pages."""
PAGE_BYTES = 8192
"""Of PostgreSQL."""

Damage = Callable[[Database, Checkpoint], None]


def damage_sqlite(database: Database, checkpoint: Checkpoint) -> None:
    """Let the number of the page on which the bytes go on be none.

    The page is found by bytes that no other page holds: curves repeat themselves, the other state has weights in
    common with this one, and free pages keep what was on them.
    """
    with database.read() as connection:
        content = checkpoints.content(connection, checkpoint)
        others = [checkpoints.content(connection, other) for other in kept(database) if other != checkpoint]
        page_bytes: int = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    database.close()
    path = Path(str(database.engine.url.database))
    with closing(sqlite3.connect(path)) as vacuuming:
        vacuuming.execute("VACUUM")
    file = bytearray(path.read_bytes())
    pieces = (content[place : place + 64] for place in range(page_bytes, len(content) - page_bytes, 100))
    own = (piece for piece in pieces if not any(piece in other for other in others))
    place = next(file.index(piece) for piece in own if file.count(piece) == 1)
    page = place // page_bytes * page_bytes
    file[page : page + 4] = b"\xff" * 4
    path.write_bytes(file)


def damage_postgresql(server: PostgresqlServer, database: Database, checkpoint: Checkpoint) -> None:
    """Change bytes in a page, whose checksum is wrong then."""
    with database.read() as connection:
        query = (
            "SELECT reltoastrelid::regclass, pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = :name"
        )
        table, file = connection.execute(text(query), {"name": "blob_parts"}).one()
        query = f"""
            SELECT (ctid::text::point)[0]::int FROM {table}
            WHERE chunk_id = (SELECT pg_column_toast_chunk_id(data) FROM blob_parts WHERE sha256 = :sha256)
            ORDER BY chunk_seq
        """
        pages = list(connection.execute(text(query), {"sha256": checkpoint.sha256}).scalars())
    database.close()
    server.stop()
    with (server.folder / "data" / file).open("r+b") as opened:
        opened.seek(pages[len(pages) // 2] * PAGE_BYTES + PAGE_BYTES // 2)
        opened.write(b"damaged")
    server.start()


@pytest.fixture(scope="module")
def own_server(server_folder: Path) -> Iterator[PostgresqlServer]:
    folder = server_folder / "damaged"
    folder.mkdir()
    with postgresql_server(folder) as server:
        yield server


@pytest.fixture
def own_postgresql(own_server: PostgresqlServer) -> Iterator[Database]:
    administration = Database(f"{own_server.url}/postgres")
    with administration.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS damaged WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE damaged"))
    administration.close()
    database = Database(f"{own_server.url}/damaged").owned_by(DEFAULT_OWNER)
    schema.upgrade(database)
    add_builtin_datasets(database)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def breakable(request: pytest.FixtureRequest) -> tuple[Database, Damage]:
    """A database, and how its files are damaged where a checkpoint lies."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_database"), damage_sqlite
    server: PostgresqlServer = request.getfixturevalue("own_server")
    return request.getfixturevalue("own_postgresql"), partial(damage_postgresql, server)


def trained(database: Database) -> tuple[Checkpoint, Checkpoint]:
    """Train until two states are left, and return them, the older one first."""
    stored_job(database, **LARGE)
    while True:
        stopping = threading.Event()
        thread = run_beside(database, stopping=stopping)
        stopping.set()
        finish(thread, 60)
        assert read(database).state == JobState.QUEUED
        older, newest = kept(database)
        if older.sha256 != newest.sha256:  # equal where it was saved just before validation, and stopped just after
            return older, newest


def kept(database: Database) -> list[Checkpoint]:
    with database.read() as connection:
        which = checkpoint_table.c
        query = select(which.number, which.sha256, which.epoch, which.step).order_by(which.number)
        return [Checkpoint(*row) for row in connection.execute(query)]


def is_stored(database: Database, sha256: str) -> bool:
    with database.read() as connection:
        return connection.execute(select(blobs).where(blobs.c.sha256 == sha256)).first() is not None


def train_until(database: Database, condition: Callable[[], object]) -> None:
    """Let another attempt train until something is so, then cancel its job."""
    thread = start(database)
    try:
        until(condition)
    finally:
        ask(database, jobs.request_cancel)
        finish(thread, 120)


def test_newest_state_on_a_damaged_page_costs_the_way_from_the_one_before(
    breakable: tuple[Database, Damage], caplog: pytest.LogCaptureFixture
) -> None:
    database, damage = breakable
    older, newest = trained(database)
    damage(database, newest)
    train_until(database, lambda: kept(database)[-1].number > newest.number)
    [said] = told(database, EventKind.CHECKPOINT_DAMAGED)
    assert said["epoch"] == older.epoch
    assert newest.sha256 in said["reason"]
    job = read(database)
    assert job.state == JobState.CANCELLED
    assert epochs_of(database) == list(range(1, job.epoch + 1))
    assert is_stored(database, newest.sha256)
    assert any("stay behind" in entry.message for entry in caplog.records)


def test_older_state_on_a_damaged_page_keeps_nobody_from_storing_another(
    own_server: PostgresqlServer, own_postgresql: Database
) -> None:
    database = own_postgresql
    older, newest = trained(database)
    damage_postgresql(own_server, database, older)
    train_until(database, lambda: kept(database)[-1].number > newest.number)
    assert told(database, EventKind.CHECKPOINT_DAMAGED) == []
    assert (read(database).state, kept(database)) == (JobState.CANCELLED, [])
    assert is_stored(database, older.sha256)


def test_job_whose_state_lies_on_a_damaged_page_can_be_cancelled(
    own_server: PostgresqlServer, own_postgresql: Database
) -> None:
    damage_postgresql(own_server, own_postgresql, trained(own_postgresql)[-1])
    ask(own_postgresql, jobs.request_cancel)
    assert (read(own_postgresql).state, kept(own_postgresql)) == (JobState.CANCELLED, [])
