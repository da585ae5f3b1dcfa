"""What the doctor finds of an object store: not named, without its bucket, silent, another one, and well."""

from pathlib import Path

import pytest

from service.doctor.checks import Check, Status
from service.doctor.report import examine
from service.settings import Settings
from service.storage import blobs
from service.storage.database import Database
from service.storage.object_store import ObjectStore
from tests.chaos.proxy import Proxy
from tests.servers import free_port

CONTENT = b"a network" * 100


@pytest.fixture
def url(sqlite_database: Database) -> str:
    """The database, none of whose files is in a store."""
    return sqlite_database.engine.url.render_as_string()


@pytest.fixture
def stocked(url: str, store: ObjectStore) -> str:
    """The database, one of whose files is in the store."""
    put(url, store)
    return url


def put(url: str, store: ObjectStore) -> None:
    database = Database(url, store=store)
    with blobs.writing(database, CONTENT) as connection:
        blobs.put(connection, CONTENT)
    database.close()


def found(url: str, blob_url: str | None) -> Check:
    settings = Settings(database_url=url, blob_url=blob_url, broker_url="nonsense://somewhere")
    return next(check for check in examine(settings) if check.name == "store")


def test_files_that_are_in_the_database_need_no_store(url: str) -> None:
    assert found(url, None) == Check("store", Status.OK, "every file is in the database")


def test_store_that_answers_and_has_what_it_should_is_well(stocked: str, store: ObjectStore) -> None:
    check = found(stocked, store.url)
    assert (check.status, check.detail) == (Status.OK, f"{store.url} answers, 1 file lies there")


def test_new_store_is_well(url: str, store: ObjectStore) -> None:
    assert found(url, store.url).status is Status.OK


def test_missing_setting_is_a_problem_where_files_lie_in_a_store(stocked: str) -> None:
    check = found(stocked, None)
    assert (check.status, check.detail) == (Status.PROBLEM, "1 file lies in an object store, and no setting names one")
    assert check.advice.startswith("set SELFNORM_BLOB_URL")


def test_missing_bucket_is_a_problem(url: str, s3_endpoint: str) -> None:
    check = found(url, f"s3://another-bucket/x?region=us-east-1&endpoint={s3_endpoint}")
    assert check.status is Status.PROBLEM
    assert "no such bucket" in check.detail


def test_another_prefix_is_a_problem(stocked: str, store: ObjectStore) -> None:
    check = found(stocked, store.url.replace("?", "-other?"))
    assert check.status is Status.PROBLEM
    assert "answers and lacks a file" in check.detail


def test_store_where_nobody_listens_is_a_problem(stocked: str) -> None:
    check = found(stocked, f"s3://selfnorm/x?region=us-east-1&endpoint=http://127.0.0.1:{free_port()}")
    assert check.status is Status.PROBLEM
    assert "does not answer" in check.detail


def test_store_that_never_answers_is_a_problem(stocked: str, store: ObjectStore, s3_endpoint: str) -> None:
    with Proxy(int(s3_endpoint.rpartition(":")[2])) as proxy:
        proxy.freeze()
        check = found(stocked, store.url.replace(s3_endpoint, f"http://127.0.0.1:{proxy.port}"))
        proxy.thaw()
    assert check.status is Status.PROBLEM


def test_folder_that_is_not_there_is_named_and_not_made(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    check = found(url, f"file://{folder}")
    assert (check.status, folder.exists()) == (Status.WARNING, False)
    put(url, ObjectStore(f"file://{folder}"))
    assert found(url, f"file://{folder}").status is Status.OK
    folder.rename(tmp_path / "elsewhere")
    check = found(url, f"file://{folder}")
    assert (check.status, folder.exists()) == (Status.PROBLEM, False)
    assert "there is no such folder" in check.detail
