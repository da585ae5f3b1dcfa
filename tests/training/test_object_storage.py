"""Trainings whose data, checkpoints and models are in an object store: from the upload to the last deletion."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast
from unittest import mock

import pytest
from sqlalchemy import select

from service.domain.jobs import JobState
from service.domain.limits import TableLimits
from service.domain.owners import DEFAULT_OWNER
from service.storage import jobs, models
from service.storage.database import Database
from service.storage.object_store import ObjectStore, ObjectStoreDown
from service.storage.tables import blobs, loose_objects
from service.tables.importer import TableReader
from service.tables.request import ImportRequest
from service.use_cases.datasets import add_dataset, delete_dataset
from service.use_cases.serving import Serving
from tests.chaos.proxy import Proxy
from tests.factories import stored_job
from tests.patience import until
from tests.servers import free_port
from tests.training.attempts import ENDLESS, SMALL, claimed, finish, newest, read, run, run_beside
from tests.training.support import PLATEAU_AND_SAMPLE_WEIGHTS, case
from workers.epochs import ChunkEnd
from workers.lease import Lease
from workers.recorder import Recorder

CSV = b"a,b,y\n" + b"".join(b"%d,%d,%s\n" % (n % 7, n % 5, b"yes" if n % 7 > 3 else b"no") for n in range(200))


@contextmanager
def opened(database: Database, store: ObjectStore) -> Iterator[Database]:
    beside = Database(database.engine.url.render_as_string(hide_password=False), store=store)
    try:
        yield beside.owned_by(DEFAULT_OWNER)
    finally:
        beside.close()


def keys(database: Database) -> dict[str, str | None]:
    """Return where every blob is in the store, by its hash; None for those in the database."""
    with database.read() as connection:
        return {row.sha256: row.object_key for row in connection.execute(select(blobs.c.sha256, blobs.c.object_key))}


def test_data_training_and_model_are_in_the_store_until_they_are_deleted(
    database: Database, store: ObjectStore
) -> None:
    with opened(database, store) as stored:
        before = keys(stored)
        with tempfile.TemporaryFile() as file, TableReader(TableLimits()) as reader:
            file.write(CSV)
            file.flush()
            table = add_dataset(stored, "t", cast("BinaryIO", file), ImportRequest("csv"), reader)
        stored_job(stored, dataset=table.id, target="y", model="m", **SMALL)
        run(stored)
        assert read(stored).state == JobState.SUCCEEDED, read(stored).error_detail
        made = keys(stored).items() - before.items()
        assert len(made) >= 5, "data, split, weights, graph and Keras file"
        assert all(key is not None for _, key in made)
        serving = Serving(stored)
        served = serving.find(DEFAULT_OWNER, "m")
        assert len(serving.weights(served.version)) > 0
        with stored.write() as connection:
            models.remove(connection, "m", 1)
            jobs.remove(connection, "job-1")
        delete_dataset(stored, table.id)
        assert keys(stored) == before
        with stored.read() as connection:
            assert len(connection.execute(select(loose_objects.c.key)).all()) >= 5, "all are on their way out"


def test_worker_that_ends_while_the_store_is_down_leaves_its_state_in_the_database(
    sqlite_database: Database, store: ObjectStore, s3_endpoint: str
) -> None:
    with Proxy(int(s3_endpoint.rpartition(":")[2])) as proxy:
        through = ObjectStore(store.url.replace(s3_endpoint, f"http://127.0.0.1:{proxy.port}"), request_seconds=0.5)
        with opened(sqlite_database, through) as stored:
            stored_job(stored, **ENDLESS)
            stopping = threading.Event()
            thread = run_beside(stored, stopping=stopping)
            first = newest(stored)
            proxy.refuse()
            with mock.patch.object(through, "put", wraps=through.put) as put:
                until(lambda: put.called)  # so there is something newer
            stopping.set()
            finish(thread)
            last = newest(stored)
            assert first is not None
            assert last is not None
            assert last.epoch > first.epoch
            found = keys(stored)
            assert (found[first.sha256] is None, found[last.sha256] is None) == (False, True)
            assert read(stored).state == JobState.QUEUED


def test_training_goes_on_while_no_checkpoint_can_be_put(sqlite_database: Database) -> None:
    nowhere = ObjectStore(f"s3://selfnorm/x?region=us-east-1&endpoint=http://127.0.0.1:{free_port()}")
    held = claimed(sqlite_database)
    with opened(sqlite_database, nowhere) as stored:
        recorder = Recorder(stored, Lease(stored, held))
        ends: list[ChunkEnd] = []

        def take(end: ChunkEnd) -> None:
            recorder.take_chunk(end)
            ends.append(end)

        case(PLATEAU_AND_SAMPLE_WEIGHTS).run(on_chunk=take)
        assert len(ends) > 1
        assert newest(stored, held.job_id) is None


def test_graph_that_cannot_be_read_now_is_no_damage(
    sqlite_database: Database, store: ObjectStore, s3_endpoint: str
) -> None:
    with Proxy(int(s3_endpoint.rpartition(":")[2])) as proxy:
        through = ObjectStore(store.url.replace(s3_endpoint, f"http://127.0.0.1:{proxy.port}"), request_seconds=0.5)
        with opened(sqlite_database, through) as stored:
            stored_job(stored, model="m", **SMALL)
            run(stored)
            loaded = Serving(stored)
            served = loaded.find(DEFAULT_OWNER, "m")
            proxy.refuse()
            with pytest.raises(ObjectStoreDown):
                Serving(stored).find(DEFAULT_OWNER, "m")
            assert loaded.find(DEFAULT_OWNER, "m") is served, "what is loaded goes on answering"
            proxy.accept()
            assert Serving(stored).find(DEFAULT_OWNER, "m").version.version == 1
