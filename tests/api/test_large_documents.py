"""JSON that is small enough and holds far too much: it is refused before it takes memory or time."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.api.strict_bodies import MAX_FIELDS, MAX_VALUES
from service.storage.database import Database
from service.task_queue import Doorbell
from tests.api.support import JSON, problem

ROUTES = ("/jobs", "/comparisons", "/predictions", "/probe")


@pytest.fixture
def client(sqlite_database: Database) -> Any:
    services = Services(sqlite_database, Doorbell("redis://127.0.0.1:1/0"))
    with TestClient(create_app(services), raise_server_exceptions=False) as opened:
        yield opened


def values(count: int, value: str = "1") -> bytes:
    return b'{"tags": [%b]}' % ",".join([value] * count).encode()


def fields(count: int) -> bytes:
    return b"{%b}" % b",".join(b'"k%d":1' % number for number in range(count))


@pytest.mark.parametrize("path", ROUTES)
def test_document_may_hold_so_many_values_and_no_more(client: TestClient, path: str) -> None:
    assert client.post(path, content=values(MAX_VALUES), headers=JSON).status_code == 422
    for value in ("1", "{}", "[]", '"a"', "1e9"):
        refused = problem(client.post(path, content=values(MAX_VALUES + 1, value), headers=JSON), 413)
        assert refused["detail"] == f"the body holds {MAX_VALUES + 1:,} values; at most {MAX_VALUES:,} are taken here"


@pytest.mark.parametrize("path", [*ROUTES, "/predict"])
def test_document_may_have_so_many_fields_and_no_more(client: TestClient, path: str) -> None:
    assert client.post(path, content=fields(MAX_FIELDS), headers=JSON).status_code == 422
    refused = problem(client.post(path, content=fields(MAX_FIELDS + 1), headers=JSON), 413)
    assert refused["detail"] == f"the body holds {MAX_FIELDS + 1:,} fields; at most {MAX_FIELDS:,} are taken here"


def test_rows_may_hold_more_values_than_a_document(client: TestClient) -> None:
    for row in (b"[1]", b'{"a":1}'):
        body = b'{"model": "m", "instances": [%b]}' % b",".join([row] * (MAX_VALUES + 1))
        assert client.post("/predict", content=body, headers=JSON).status_code == 404


def test_flags_of_a_protocol_are_few(client: TestClient) -> None:
    for path in ("/v2/repository/index", "/v2/repository/models/m/load"):
        answer = client.post(path, content=b'{"ready": [%b]}' % b",".join([b"[]"] * 30_000))
        assert answer.status_code == 413
        assert "at most 65,536 are read at once" in answer.json()["error"]
