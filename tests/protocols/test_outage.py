"""The protocols while the database is down: what is in memory is served, the rest refused in each one's words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from sqlalchemy import text

from service.domain.owners import DEFAULT_OWNER
from service.storage import schema
from service.storage.database import Database
from tests.api_process import api_process
from tests.patience import until
from tests.protocols.models import houses, register_one
from tests.servers import PostgresqlServer, postgresql_server

ROWS = houses(2)
INFER = {"inputs": [{"name": "x", "shape": [2, 13], "datatype": "FP32", "data": ROWS}]}
REQUESTS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v1/models/{}:predict", {"instances": ROWS}),
    ("GET", "/v1/models/{}", None),
    ("GET", "/v1/models/{}/metadata", None),
    ("POST", "/v2/models/{}/infer", INFER),
    ("GET", "/v2/models/{}", None),
    ("GET", "/v2/models/{}/ready", None),
    ("GET", "/v2/models/{}/stats", None),
    ("POST", "/invocations?model={}", {"instances": ROWS}),
)


@pytest.fixture
def server(server_folder: Path) -> Iterator[PostgresqlServer]:
    folder = server_folder / "protocols"
    folder.mkdir()
    with postgresql_server(folder) as running:
        administration = Database(f"{running.url}/postgres")
        with administration.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("CREATE DATABASE selfnorm"))
        administration.close()
        database = Database(f"{running.url}/selfnorm").owned_by(DEFAULT_OWNER)
        schema.upgrade(database)
        register_one(database, "houses")
        register_one(database, "cottages")
        database.close()
        yield running


def ask(client: httpx.Client, name: str) -> list[httpx.Response]:
    return [client.request(method, path.format(name), json=body) for method, path, body in REQUESTS]


def wait_for_ping(client: httpx.Client, status: int) -> None:
    until(lambda: client.get("/ping").status_code == status)


def test_what_is_in_memory_is_served(server: PostgresqlServer, tmp_path: Path) -> None:
    with api_process(f"{server.url}/selfnorm", tmp_path) as api:
        client = api.client
        server.kill()
        wait_for_ping(client, 503)  # nothing is in memory yet
        assert client.get("/v2/health/ready").json() == {"ready": False}
        assert client.get("/v2/health/live").status_code == 200
        server.start()
        wait_for_ping(client, 200)
        before = ask(client, "houses")
        assert [answer.status_code for answer in before] == [200] * len(REQUESTS)
        server.kill()
        after = ask(client, "houses")
        stats = 6  # which count on
        assert [answer.json() for answer in after[:stats]] == [answer.json() for answer in before[:stats]]
        assert after[-1].json() == before[-1].json()
        for (method, path, _), answer in zip(REQUESTS, ask(client, "cottages"), strict=True):
            assert answer.status_code == 503, (method, path)
            assert answer.headers["retry-after"] == "5"
            assert answer.headers["content-type"] == "application/json"
            key = "message" if path.startswith("/invocations") else "error"
            assert answer.json()[key].startswith("the database does not answer"), (method, path)
        index = client.post("/v2/repository/index", json={})
        assert (index.status_code, index.headers["retry-after"]) == (503, "5")
        assert client.get("/ping").status_code == 200
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get("/v2").status_code == 200
        assert [stats["name"] for stats in client.get("/v2/models/stats").json()["model_stats"]] == ["houses"]
        server.start()
