"""Fixtures: both databases, migrated by Alembic and stocked once, a fresh copy for every test; a real broker."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import text

from service.domain.owners import DEFAULT_OWNER
from service.storage import schema
from service.storage.database import Connection, Database
from service.storage.object_store import ObjectStore
from service.use_cases.datasets import add_builtin_datasets
from tests import ownership, servers

TEMPLATE = "stocked"
ROOM_BYTES = 8 * 2**30
COMPILED = "TF_XLA_FLAGS"
"""Tells TensorFlow where to keep compiled networks: compiling the same ones again takes longer than most tests."""

settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary files in memory where there is room, and there what is compiled, for every process of the run.

    A disk that others use too stands still for seconds now and then, and every commit waits for it. What is killed here
    are processes, never the machine, so that memory keeps what a disk would keep.
    """
    if _takes_programs(servers.MEMORY):
        os.environ["TMPDIR"] = tempfile.tempdir = str(servers.MEMORY)
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # for the trainings of tests themselves, several at once
    if COMPILED not in os.environ:  # else this is a process of a run, which has been told
        folder = tempfile.mkdtemp(prefix="selfnorm-compiled-")
        config.add_cleanup(lambda: shutil.rmtree(folder))
        os.environ[COMPILED] = f"--tf_xla_persistent_cache_directory={folder} --tf_xla_persistent_cache_prefix=network"


@pytest.fixture(autouse=True)
def owned() -> Iterator[None]:
    """No statement of this process forgets whose things it touches."""
    ownership.install()
    ownership.violations.clear()
    yield
    assert not ownership.violations, "\n\n".join(dict.fromkeys(ownership.violations))


def pytest_collection_finish() -> None:
    """Look for no garbage in the thousands of tests and in all that is loaded: none of it is ever any."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that another user can reach, for PostgreSQL does not run as root."""
    with tempfile.TemporaryDirectory(prefix="selfnorm-tests-", dir=servers.public_folder()) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgresql_server(server_folder: Path) -> Iterator[str]:
    folder = server_folder / "postgresql"
    folder.mkdir()
    with servers.postgresql(folder) as url:
        yield url


@pytest.fixture(scope="session")
def stocked_postgresql(postgresql_server: str) -> Iterator[Connection]:
    """A session that can copy the stocked database; only the first copy of a session is slow."""
    administration = Database(f"{postgresql_server}/postgres")
    with administration.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
        _stock(f"{postgresql_server}/{TEMPLATE}")
        yield connection
    administration.close()


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


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server with the bucket ``selfnorm``, for this process and those that it starts."""
    with servers.s3() as endpoint:
        yield endpoint


@pytest.fixture
def store(s3_endpoint: str, tmp_path: Path) -> ObjectStore:
    """An empty object store."""
    return ObjectStore(f"s3://selfnorm/{abs(hash(tmp_path))}?region=us-east-1&endpoint={s3_endpoint}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database with every migration and the built-in data sets, on each of the two systems."""
    if request.param == "sqlite":
        path = tmp_path / "selfnorm.db"
        shutil.copy(request.getfixturevalue("stocked_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    administration = request.getfixturevalue("stocked_postgresql")
    name = f"test_{abs(hash(tmp_path))}"
    faster = "STRATEGY FILE_COPY"  # by a third, for one as small as this
    administration.execute(text(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} {faster}"))
    yield f"{request.getfixturevalue('postgresql_server')}/{name}"
    administration.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url).owned_by(DEFAULT_OWNER)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(stocked_sqlite: Path, tmp_path: Path) -> Iterator[Database]:
    """A fresh stocked SQLite database, for tests that the kind of database cannot change."""
    path = tmp_path / "selfnorm.db"
    shutil.copy(stocked_sqlite, path)
    opened = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
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


def _takes_programs(folder: Path) -> bool:
    """Whether there is a folder with room for a server and its programs, which may be run from it."""
    if not os.access(folder, os.W_OK):
        return False
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize > ROOM_BYTES and not about.f_flag & os.ST_NOEXEC
