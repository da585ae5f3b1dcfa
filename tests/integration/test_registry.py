from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import delete, select, update

from service.domain.encoders import BooleanEncoder, NumericEncoder
from service.domain.errors import CorruptBlob, DatasetInUse, DatasetIsBuiltin, UnknownDataset
from service.domain.model_errors import UnknownModel, UnknownVersion
from service.domain.models import Inputs, NewVersion, Outputs
from service.storage import blobs, datasets, models, pages
from service.storage.database import Database
from service.storage.datasets import NewDataset
from service.storage.tables import blob_parts
from service.storage.tables import blobs as blob_table
from service.storage.tables import datasets as dataset_table
from service.use_cases.datasets import add_builtin_datasets
from tests.factories import numeric, stored_job

NEW = NewVersion(
    name="m",
    job_id="j1",
    spec={"dataset": "iris"},
    data_sha256="0" * 64,
    inputs=Inputs((NumericEncoder("a"), BooleanEncoder("b")), (0.5, 0.0), (2.0, 1.0)),
    outputs=Outputs("classification", "y", ("no", "yes")),
    metrics={"best": {"epoch": 1}, "test": None},
    parity={"max_difference": 1e-7},
    parameters=10,
    environment={"keras": "3"},
    weights=b"weights",
    onnx=b"onnx" * 1_000_000,
    keras=b"keras",
    calibration={"part": "test"},
)


def register(database: Database, job_id: str) -> int:
    with database.write() as connection:
        return models.register(connection, replace(NEW, job_id=job_id))


def test_versions_count_from_one_and_newest_is_the_default(database: Database) -> None:
    assert [register(database, "j1"), register(database, "j2")] == [1, 2]
    with database.read() as connection:
        newest = models.get_version(connection, "m")
        assert newest.version == 2
        assert (newest.inputs, newest.outputs) == (NEW.inputs, NEW.outputs)
        assert newest.calibration == NEW.calibration
        assert [version.version for version in models.get_model(connection, "m").versions] == [2, 1]
        assert models.onnx_file(connection, newest.onnx_sha256) == NEW.onnx


def test_versions_registered_at_once_all_differ(database: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(lambda number: register(database, f"j{number}"), range(12)))
    assert sorted(versions) == list(range(1, 13))


def test_unknown_names_and_versions(database: Database) -> None:
    register(database, "j1")
    with database.read() as connection:
        with pytest.raises(UnknownModel):
            models.get_version(connection, "nothing")
        with pytest.raises(UnknownVersion, match="no version 9"):
            models.get_version(connection, "m", 9)


def test_large_content_is_stored_in_parts_and_once(database: Database) -> None:
    content = bytes(range(256)) * 10_000
    with database.write() as connection:
        first, second = blobs.put(connection, content), blobs.put(connection, content)
    assert first == second
    with database.read() as connection:
        assert blobs.get(connection, first) == content
        assert len(connection.execute(select(blob_parts).where(blob_parts.c.sha256 == first)).all()) == 3


def test_damaged_byte_is_an_alarm_and_never_content(database: Database) -> None:
    with database.write() as connection:
        sha256 = blobs.put(connection, b"right")
        connection.execute(update(blob_parts).where(blob_parts.c.sha256 == sha256).values(data=b"wrong"))
    with database.read() as connection, pytest.raises(CorruptBlob):
        blobs.get(connection, sha256)


def test_upload_can_be_deleted_when_no_unfinished_job_needs_it(database: Database) -> None:
    new = NewDataset("up", "up", False, 3, (numeric("a"), numeric("y")), b"parquet")
    with database.write() as connection:
        datasets.add(connection, new)
        datasets.add(connection, replace(new, id="twin"))
    stored_job(database, dataset="up", target="y", training={"validation_fraction": 0})
    with pytest.raises(DatasetInUse), database.write() as connection:
        datasets.remove(connection, "up")
    with database.write() as connection:
        datasets.remove(connection, "twin")
    with database.read() as connection:
        shared = datasets.get(connection, "up").sha256
        assert shared is not None
        assert datasets.content(connection, shared) == b"parquet", "the same content is still needed"


def test_content_goes_with_its_last_data_set(database: Database) -> None:
    with database.write() as connection:
        sha256 = datasets.add(connection, NewDataset("up", "up", False, 1, (), b"rows")).sha256
        datasets.remove(connection, "up")
    with database.read() as connection:
        assert connection.execute(select(blob_table).where(blob_table.c.sha256 == sha256)).first() is None


def test_upload_and_delete_of_the_same_content_at_once(database: Database) -> None:
    def once(number: int) -> None:
        with database.write() as connection:
            datasets.add(connection, NewDataset(f"d{number}", "up", False, 1, (), b"the same rows"))
        if number % 2:
            with database.write() as connection:
                datasets.remove(connection, f"d{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(60)))
    with database.read() as connection:
        sha256 = datasets.get(connection, "d0").sha256
        assert sha256 is not None
        assert datasets.content(connection, sha256) == b"the same rows"


def test_database_can_be_brought_up_to_date_by_many_at_once(database: Database) -> None:
    with database.write() as connection:
        connection.execute(delete(dataset_table))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: add_builtin_datasets(database), range(4)))
    with database.read() as connection:
        assert len(datasets.builtin_ids(connection)) == 8


def test_builtin_data_sets_stay(database: Database) -> None:
    with pytest.raises(DatasetIsBuiltin), database.write() as connection:
        datasets.remove(connection, "iris")
    with pytest.raises(UnknownDataset), database.write() as connection:
        datasets.remove(connection, "nothing")


def test_pages_show_everything_once_newest_first(database: Database) -> None:
    seen: list[str] = []
    token: str | None = None
    while True:
        with database.read() as connection:
            page = datasets.list_page(connection, pages.PageRequest(3, token))
        seen += [dataset.id for dataset in page.items]
        token = page.next_token
        if token is None:
            break
    assert seen[:2] == ["iris", "wine"]
    assert sorted(seen) == sorted({*seen})
    assert len(seen) == 8
