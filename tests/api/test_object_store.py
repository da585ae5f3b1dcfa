"""What a client hears when large files are in an object store: the same as ever, and 503 while it is down."""

from collections.abc import Iterator

import obstore
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from service.api.app import create_app
from service.api.services import Services
from service.storage.database import Database
from service.storage.object_store import ObjectStore
from service.storage.tables import blobs
from service.task_queue import Doorbell
from tests.api.support import problem
from tests.chaos.proxy import Proxy

CSV = "a,b\n" + "".join(f"{n},{n % 3}\n" for n in range(50))
HEADERS = {"Content-Type": "text/csv"}


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    with Proxy(int(s3_endpoint.rpartition(":")[2])) as opened:
        yield opened


@pytest.fixture
def stored(sqlite_database: Database, store: ObjectStore, s3_endpoint: str, proxy: Proxy) -> Database:
    through = ObjectStore(store.url.replace(s3_endpoint, f"http://127.0.0.1:{proxy.port}"), request_seconds=0.5)
    return Database(sqlite_database.engine.url.render_as_string(), patience_seconds=1.5, store=through)


@pytest.fixture
def client(stored: Database, broker_url: str) -> Iterator[TestClient]:
    with TestClient(create_app(Services(stored, Doorbell(broker_url))), raise_server_exceptions=False) as opened:
        yield opened


def key_of(database: Database) -> str:
    with database.read() as connection:
        key: str = connection.execute(select(blobs.c.object_key).where(blobs.c.object_key.is_not(None))).scalar_one()
    return key


def test_store_that_is_down_is_503_with_retry_after_and_recovers(client: TestClient, proxy: Proxy) -> None:
    dataset = client.post("/datasets?name=t", content=CSV, headers=HEADERS).json()
    rows = client.get(f"/datasets/{dataset['id']}/rows").json()
    assert rows["items"][1] == {"a": 1, "b": 1}
    for trouble, over in ((proxy.refuse, proxy.accept), (proxy.freeze, proxy.thaw)):
        trouble()
        for answer in (
            client.get(f"/datasets/{dataset['id']}/rows"),
            client.post("/datasets?name=u", content=CSV + "1,2\n", headers=HEADERS),
        ):
            assert problem(answer, 503)["code"] == "object_store_down"
            assert answer.headers["retry-after"]
        assert client.get("/readyz").status_code == 200, "what needs no large file goes on"
        assert client.post("/jobs", json={"dataset": dataset["id"], "target": "b"}).status_code == 202
        over()
        assert client.get(f"/datasets/{dataset['id']}/rows").json() == rows
    assert client.post("/datasets?name=u", content=CSV + "1,2\n", headers=HEADERS).status_code == 201


def test_store_that_no_setting_names_is_told_from_one_that_is_down(
    client: TestClient, sqlite_database: Database, broker_url: str
) -> None:
    dataset = client.post("/datasets?name=t", content=CSV, headers=HEADERS).json()
    without = Database(sqlite_database.engine.url.render_as_string())
    with TestClient(create_app(Services(without, Doorbell(broker_url))), raise_server_exceptions=False) as other:
        found = problem(other.get(f"/datasets/{dataset['id']}/rows"), 503)
    assert found["code"] == "object_store_unset"
    assert "SELFNORM_BLOB_URL" in found["detail"]


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damaged_object_is_503_and_never_content(client: TestClient, stored: Database, damage: str) -> None:
    dataset = client.post("/datasets?name=t", content=CSV, headers=HEADERS).json()
    assert stored.objects is not None
    held = stored.objects.store._opened()
    key = key_of(stored)
    content = bytearray(bytes(obstore.get(held, key).bytes()))
    content[len(content) // 2] ^= 1
    if damage == "changed":
        obstore.put(held, key, bytes(content))
    else:
        obstore.delete(held, key)
    answer = client.get(f"/datasets/{dataset['id']}/rows")
    assert problem(answer, 503)["code"] == "corrupt_blob"
    assert "items" not in answer.json()
    assert client.post("/datasets?name=again", content=CSV, headers=HEADERS).status_code == 201
    assert client.get(f"/datasets/{dataset['id']}/rows").status_code == 200, "the same bytes were stored again"


def test_key_that_is_forgotten_is_an_alarm(client: TestClient, stored: Database) -> None:
    dataset = client.post("/datasets?name=t", content=CSV, headers=HEADERS).json()
    with stored.write() as connection:
        connection.execute(update(blobs).where(blobs.c.object_key.is_not(None)).values(object_key=None))
    assert problem(client.get(f"/datasets/{dataset['id']}/rows"), 503)["code"] == "corrupt_blob"
