"""Fixtures: both databases, migrated by Alembic and stocked once, a fresh copy for every test; a real broker."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from service.storage import schema
from service.storage.database import Database
from service.use_cases.datasets import add_builtin_datasets
from tests import servers

TEMPLATE = "stocked"


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that another user can reach, for PostgreSQL does not run as root."""
    with tempfile.TemporaryDirectory(prefix="selfnorm-tests-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgresql_server(server_folder: Path) -> Iterator[str]:
    folder = server_folder / "postgresql"
    folder.mkdir()
    with servers.postgresql(folder) as url:
        _execute(f"{url}/postgres", f"CREATE DATABASE {TEMPLATE}")
        _stock(f"{url}/{TEMPLATE}")
        yield url


@pytest.fixture(scope="session")
def stocked_sqlite(server_folder: Path) -> Path:
    path = server_folder / "stocked.db"
    _stock(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def broker_url(server_folder: Path) -> Iterator[str]:
    folder = server_folder / "valkey"
    folder.mkdir()
    with servers.valkey(folder) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database with every migration and the built-in data sets, on each of the two systems."""
    if request.param == "sqlite":
        path = tmp_path / "selfnorm.db"
        shutil.copy(request.getfixturevalue("stocked_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgresql_server")
    name = f"test_{abs(hash(tmp_path))}"
    _execute(f"{server}/postgres", f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield f"{server}/{name}"
    _execute(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(stocked_sqlite: Path, tmp_path: Path) -> Iterator[Database]:
    """A fresh stocked SQLite database, for tests that the kind of database cannot change."""
    path = tmp_path / "selfnorm.db"
    shutil.copy(stocked_sqlite, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.close()


def _stock(url: str) -> None:
    database = Database(url)
    schema.upgrade(database)
    add_builtin_datasets(database)
    if database.dialect == "sqlite":
        with database.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def _execute(url: str, statement: str) -> None:
    database = Database(url)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(statement))
    database.close()
