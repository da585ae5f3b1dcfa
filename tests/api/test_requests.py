import os
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.storage.database import Database
from service.storage.watch import ASK_SECONDS
from service.task_queue import Doorbell
from tests.api.support import JSON, problem


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 422),
        (b"[]", 422),
        (b"1", 422),
        (b'{"dataset": NaN}', 400),
        (b'{"dataset": "iris", "training": {"learning_rate": 1e400}}', 400),
        (b'{"dataset": "\\ud800"}', 400),
        (b'{"dataset": "a\\u0000b"}', 400),
        (b'{"dataset": "iris", "dataset": "wine"}', 400),
        (b"[" * 100_000, 400),
        ('{"dataset": "iris"}'.encode("utf-16"), 400),
        (b'{"dataset": "iris", "features": null}', 202),
        (b'{"dataset": "iris\\r\\n\\u001b\\u202e<img src=x onerror=1>"}', 422),
        (b'{"dataset": "' + b"x" * 250_000 + b'"}', 413),
    ],
)
def test_hostile_bodies_get_an_answer(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/jobs", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    if status >= 400:
        problem(answer, status)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "???"])
def test_other_content_types_are_refused_with_what_to_send(client: TestClient, kind: str) -> None:
    body = problem(client.post("/jobs", content=b"{}", headers={"Content-Type": kind}), 415)
    assert "Content-Type: application/json" in body["detail"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("page_size=-1", 200),
        ("page_size=100000", 200),
        ("page_size=1e9", 200),
        ("page_size=NaN", 422),
        ("page_token=x", 400),
        ("page_token=%00", 400),
        ("tag=%00", 400),
        ('tag=a", "c', 422),
        ("state=lost", 422),
    ],
)
def test_hostile_queries_get_an_answer(client: TestClient, query: str, status: int) -> None:
    answer = client.get(f"/jobs?{query}")
    assert answer.status_code == status
    if status >= 400:
        problem(answer, status)


@pytest.mark.parametrize("path", ["/nothing", "/nothing/..%2fjobs", "/jobs/" + "x" * 2000, "/models/%F0%9F%92%A9"])
def test_unknown_paths_are_problems(client: TestClient, path: str) -> None:
    problem(client.get(path), 404)


def test_body_of_unsaid_length_is_counted(client: TestClient) -> None:
    pieces = (b" " * 50_000 for _ in range(6))
    body = problem(client.post("/jobs", content=pieces, headers=JSON), 413)
    assert "200,000 bytes" in body["detail"]


def test_nul_in_a_path_is_refused(client: TestClient) -> None:
    problem(client.get("/jobs/%00"), 400)


def test_wrong_method_is_a_problem(client: TestClient) -> None:
    problem(client.put("/jobs"), 405)


def test_operations(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert client.get("/version").json()["name"] == "selfnorm"


def test_schema_and_reference_need_no_other_host(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {
        "/jobs",
        "/jobs/{job_id}",
        "/jobs/{job_id}/metrics",
        "/jobs/{job_id}/cancel",
        "/datasets",
        "/models",
        "/predict",
    } <= schema["paths"].keys()
    units = schema["components"]["schemas"]["SnnSpec"]["properties"]["units"]
    assert units["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 65536}
    answers = schema["paths"]["/jobs"]["post"]["responses"]
    assert answers.keys() == {"200", "202", "default"}
    reference = {"$ref": "#/components/schemas/ProblemView"}
    assert answers["default"]["content"] == {"application/problem+json": {"schema": reference}}
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page


def test_bug_is_named_by_its_request(services: Services) -> None:
    app = create_app(services)

    @app.get("/bug")
    def bug() -> None:
        raise ZeroDivisionError

    with TestClient(app, raise_server_exceptions=False) as client:
        assert problem(client.get("/bug"), 500)["code"] == "internal_error"


def test_refused_statement_is_a_bug_with_one_id(services: Services) -> None:
    app = create_app(services)

    @app.get("/bug")
    def bug() -> None:
        with services.database.write() as connection:
            connection.exec_driver_sql("INSERT INTO jobs (id) VALUES (NULL)")

    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/bug")
        assert problem(answer, 500)["code"] == "internal_error"
        assert len(answer.headers.get_list("x-request-id")) == 1


def test_database_down_is_503_with_retry_after(broker_url: str) -> None:
    down = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with TestClient(create_app(Services(down, Doorbell(broker_url))), raise_server_exceptions=False) as client:
        for answer in (client.get("/jobs"), client.post("/jobs", json={"dataset": "iris"})):
            assert problem(answer, 503)["code"] == "database_down"
            assert answer.headers["retry-after"]
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("missing", ["ALTER TABLE jobs DROP COLUMN retry_of", "DROP TABLE jobs CASCADE"])
def test_database_at_another_migration_is_503_that_says_so(
    client: TestClient, database: Database, missing: str
) -> None:
    with database.write() as connection:
        for index in ("ix_jobs_retry_of",) if database.dialect == "sqlite" else ():
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index}")
        connection.exec_driver_sql(missing.removesuffix(" CASCADE") if database.dialect == "sqlite" else missing)
    for answer in (client.get("/jobs"), client.get("/jobs/x"), client.post("/jobs", json={"dataset": "iris"})):
        assert problem(answer, 503)["code"] == "database_unmigrated"
        assert "selfnorm migrate" in answer.json()["detail"]
        assert answer.headers["retry-after"]


@pytest.mark.parametrize("first_page", [0, 1])
def test_damaged_database_is_503_and_not_ready(
    stocked_sqlite: Path, tmp_path: Path, broker_url: str, first_page: int
) -> None:
    path = tmp_path / "damaged.db"
    content = bytearray(stocked_sqlite.read_bytes())
    for page in range(first_page, len(content) // 16384):
        content[page * 16384 : page * 16384 + 100] = os.urandom(100)
    path.write_bytes(content)
    services = Services(Database(f"sqlite:///{path}"), Doorbell(broker_url))
    with TestClient(create_app(services), raise_server_exceptions=False) as client:
        time.sleep(2 * ASK_SECONDS)  # in which the watch has looked whether it answers
        for answer in (client.get("/jobs"), client.post("/jobs", json={"dataset": "iris"})):
            assert problem(answer, 503)["code"] == "database_damaged"
        assert client.get("/readyz").status_code == 503
