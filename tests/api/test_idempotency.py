"""The same key, from any number of connections, processes and threads, makes exactly one thing."""

import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from service.api.app import create_app
from service.api.imports import ImportQueue
from service.api.services import RunningRequests, Services
from service.domain.owners import DEFAULT_OWNER
from service.storage import idempotency
from service.storage.database import Connection, Database, database_time
from service.storage.idempotency import KEPT_SECONDS, StoredAnswer
from service.storage.tables import datasets, idempotency_keys, jobs
from service.task_queue import Doorbell
from service.use_cases.idempotency import KeyedRequest, Outcome, once, replay
from tests.api.support import problem
from tests.api_process import api_process

KEY = {"Idempotency-Key": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}
JSON_KEY = {**KEY, "Content-Type": "application/json"}
CSV_KEY = {**KEY, "Content-Type": "text/csv"}
SPEC = {"dataset": "iris", "model": "flowers"}
CSV = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i % 7) for i in range(40))


class Heard(Doorbell):
    """A doorbell that remembers whom it was rung for."""

    def __init__(self, broker_url: str) -> None:
        super().__init__(broker_url)
        self.rung: list[str] = []

    def ring(self, job_id: str) -> Any:
        self.rung.append(job_id)
        return super().ring(job_id)


@contextmanager
def serving(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def other_client(client: TestClient, services: Services, database_url: str, broker_url: str) -> Iterator[TestClient]:
    """The application once more, as another process would run it: of the first it sees the database alone."""
    doorbell = Doorbell(broker_url)
    other = replace(services, database=Database(database_url), doorbell=doorbell, running=RunningRequests())
    with serving(replace(other, imports=ImportQueue())) as opened:
        for one in (client, opened):
            # FastAPI builds routes when they are first needed, under filters of warnings, which threads share.
            assert one.get("/openapi.json").status_code == 200
        yield opened


@contextmanager
def nobody_can_submit(database: Database) -> Iterator[None]:
    """Hold what a submit needs: the write lock of SQLite, the row of the data set on PostgreSQL."""
    with database.write() as connection:
        connection.execute(select(datasets.c.id).where(datasets.c.id == "iris").with_for_update())
        yield


def count(database: Database, table: Any = jobs) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def check_replayed(first: Any, again: Any) -> None:
    assert first.status_code == again.status_code, again.text
    assert again.content == first.content
    for name in ("location", "retry-after", "content-type", "content-length"):
        assert again.headers.get(name) == first.headers.get(name)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


def test_job_is_made_once_and_its_answer_given_again(services: Services, database: Database, broker_url: str) -> None:
    doorbell = Heard(broker_url)
    with serving(replace(services, doorbell=doorbell)) as client:
        first = client.post("/jobs", json=SPEC, headers=KEY)
        assert first.status_code == 202
        assert first.json() == client.get(first.headers["location"]).json()
        client.post(f"{first.headers['location']}/cancel")
        for _ in range(3):
            check_replayed(first, client.post("/jobs", json=SPEC, headers=KEY))
        assert client.delete(first.headers["location"]).status_code == 204
        check_replayed(first, client.post("/jobs", json=SPEC, headers=KEY))
    assert count(database) == 0
    assert doorbell.rung == [first.json()["id"]]


def test_requests_without_a_key_and_with_others_are_all_new(client: TestClient, database: Database) -> None:
    for headers in ({}, {}, KEY, {"Idempotency-Key": "another"}):
        answer = client.post("/jobs", json=SPEC, headers=headers)
        assert answer.status_code == 202
        assert "idempotent-replayed" not in answer.headers
    assert count(database) == 4


@pytest.mark.parametrize(
    ("address", "body", "kind"),
    [
        ("/jobs", b'{"dataset":"wine"}', "application/json"),
        ("/jobs", b'{"dataset": "iris"}', "application/json"),
        ("/jobs?validate_only=false", b'{"dataset":"iris"}', "application/json"),
        ("/datasets", b'{"dataset":"iris"}', "application/json"),
        ("/datasets", CSV, "text/csv"),
    ],
)
def test_key_is_not_taken_for_another_request(
    client: TestClient, database: Database, address: str, body: bytes, kind: str
) -> None:
    first = client.post("/jobs", content=b'{"dataset":"iris"}', headers=JSON_KEY)
    before = count(database, datasets)
    refused = problem(client.post(address, content=body, headers={**KEY, "Content-Type": kind}), 422)
    assert refused["code"] == "idempotency_key_reused"
    assert refused["errors"][0]["pointer"] == "header/Idempotency-Key"
    assert (count(database), count(database, datasets)) == (1, before)
    check_replayed(first, client.post("/jobs", content=b'{"dataset":"iris"}', headers=JSON_KEY))


def test_validate_only_takes_no_key(client: TestClient, database: Database) -> None:
    def validated() -> None:
        answer = client.post("/jobs?validate_only=true", json=SPEC, headers=KEY)
        assert (answer.status_code, answer.headers.get("idempotent-replayed")) == (200, None)

    validated()
    validated()
    assert count(database, idempotency_keys) == 0
    assert "idempotent-replayed" not in client.post("/jobs", json=SPEC, headers=KEY).headers
    validated()


@pytest.mark.parametrize(
    "keys",
    [[b""], [b"x" * 256], ["ü".encode()], ["ü".encode("latin-1")], [b"a\tb"], [b"a\x7f"], [b"a", b"b"], [b"a"] * 2],
)
@pytest.mark.parametrize("address", ["/jobs", "/datasets"])
def test_key_that_cannot_be_is_refused(client: TestClient, database: Database, address: str, keys: list[bytes]) -> None:
    kind = b"application/json" if address == "/jobs" else b"text/csv"
    body = b'{"dataset": "iris"}' if address == "/jobs" else CSV
    before = count(database, datasets)
    headers = [(b"Content-Type", kind), *((b"Idempotency-Key", key) for key in keys)]
    assert problem(client.post(address, content=body, headers=headers), 400)["code"] == "invalid_idempotency_key"
    assert (count(database), count(database, datasets)) == (0, before)


def test_large_body_is_told_from_another(client: TestClient) -> None:
    def submit(size: int) -> Any:
        return client.post("/jobs", content=b'{"dataset": "iris"}' + b" " * size, headers=JSON_KEY)

    first = submit(100_000)
    check_replayed(first, submit(100_000))
    assert problem(submit(100_001), 422)["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("key", ["x" * 255, "0", 'a b, "{}"; ~!', "'; DROP TABLE jobs; --"])
def test_odd_keys_are_taken(client: TestClient, key: str) -> None:
    first, again = (client.post("/jobs", json=SPEC, headers={"Idempotency-Key": key}) for _ in range(2))
    check_replayed(first, again)


def test_refusals_are_not_kept(client: TestClient, database: Database) -> None:
    for body in ({"dataset": "iris", "target": "nothing"}, {"dataset": "nothing"}, {"dataset": "iris", "x": 1}):
        problem(client.post("/jobs", json=body, headers=KEY), 422)
    problem(client.post("/jobs", content=b"{", headers=JSON_KEY), 400)
    problem(client.post("/datasets", content=b"", headers=CSV_KEY), 422)
    assert count(database, idempotency_keys) == 0
    assert client.post("/jobs", json=SPEC, headers=KEY).status_code == 202


def test_what_fails_after_the_making_makes_nothing(database: Database) -> None:
    request = KeyedRequest(DEFAULT_OWNER, "key", "a" * 64)

    answer = StoredAnswer(201, {"Location": "/x"}, b"\0\xff")

    def make(_connection: Connection) -> str:
        return "made"

    def fail(_made: str) -> StoredAnswer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        once(database, request, make, fail)
    assert replay(database, request) is None
    assert once(database, request, make, lambda _made: answer) == Outcome(answer, "made")
    assert once(database, request, make, fail) == replay(database, request) == Outcome(answer, None)


@pytest.mark.parametrize(
    "upload",
    [
        {"content": CSV, "headers": CSV_KEY},
        {"content": b'[{"a": 1}, {"a": 2}]', "headers": JSON_KEY},
        {"files": {"file": ("mine.csv", CSV, "text/csv")}, "headers": KEY},
        {"files": {"file": ("mine.csv", b"a\n" + b"1\n" * 400_000, "text/csv")}, "headers": KEY},
    ],
)
def test_upload_is_stored_once_and_not_even_read_again(
    services: Services, database: Database, upload: dict[str, Any]
) -> None:
    imports = ImportQueue(at_once=1)
    before = count(database, datasets)
    with serving(replace(services, imports=imports)) as client:
        first = client.post("/datasets", **upload)
        assert first.status_code == 201, first.text
        assert first.json() == client.get(first.headers["location"]).json()
        assert client.portal is not None
        client.portal.call(imports.running.acquire_on_behalf_of, "the test")  # from now on nothing can be read
        check_replayed(first, client.post("/datasets", **upload))
        client.portal.call(imports.running.release_on_behalf_of, "the test")
    assert count(database, datasets) == before + 1


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("/datasets", ("mine.csv", CSV + b"1,1\n", "text/csv")),
        ("/datasets", ("yours.csv", CSV, "text/csv")),
        ("/datasets", ("mine.csv", CSV, "application/x-ndjson")),
        ("/datasets?name=other", ("mine.csv", CSV, "text/csv")),
        ("/datasets?kinds=a:id", ("mine.csv", CSV, "text/csv")),
    ],
)
def test_key_is_not_taken_for_another_upload(client: TestClient, address: str, file: tuple[str, bytes, str]) -> None:
    first = client.post("/datasets", files={"file": ("mine.csv", CSV, "text/csv")}, headers=KEY)
    refused = problem(client.post(address, files={"file": file}, headers=KEY), 422)
    assert refused["code"] == "idempotency_key_reused"
    problem(client.post("/datasets", content=CSV, headers=CSV_KEY), 422)
    problem(client.post("/jobs", json=SPEC, headers=KEY), 422)
    check_replayed(first, client.post("/datasets", files={"file": ("mine.csv", CSV, "text/csv")}, headers=KEY))


def test_second_request_is_refused_while_the_first_one_runs(client: TestClient, database: Database) -> None:
    def submit() -> Any:
        return client.post("/jobs", json=SPEC, headers=KEY)

    with ThreadPoolExecutor(2) as pool:
        with nobody_can_submit(database):
            asked = [pool.submit(submit), pool.submit(submit)]
            refused = one_of(asked)
            [running] = (answer for answer in asked if answer is not refused)
            assert problem(refused.result(), 409)["code"] == "request_still_running"
            assert refused.result().headers["retry-after"] == "1"
            assert problem(submit(), 409)["code"] == "request_still_running"
            assert not running.done()
        check_replayed(running.result(), submit())
    assert count(database) == 1


def test_second_upload_is_refused_while_the_first_one_is_read(services: Services, database: Database) -> None:
    imports = ImportQueue(at_once=1)
    before = count(database, datasets)
    with serving(replace(services, imports=imports)) as client, ThreadPoolExecutor(2) as pool:

        def upload() -> Any:
            return client.post("/datasets", content=CSV, headers=CSV_KEY)

        assert client.portal is not None
        client.portal.call(imports.running.acquire_on_behalf_of, "the test")
        asked = [pool.submit(upload), pool.submit(upload)]
        refused = one_of(asked)
        assert problem(refused.result(), 409)["code"] == "request_still_running"
        client.portal.call(imports.running.release_on_behalf_of, "the test")
        [running] = (answer for answer in asked if answer is not refused)
        check_replayed(running.result(), upload())
    assert count(database, datasets) == before + 1


def one_of(asked: "list[Future[Any]]") -> "Future[Any]":
    """Wait for the first of two answers."""
    done, _ = wait(asked, timeout=30, return_when=FIRST_COMPLETED)
    [first] = done
    return first


def test_second_process_waits_for_the_first_and_gives_its_answer(
    client: TestClient, other_client: TestClient, database: Database
) -> None:
    with ThreadPoolExecutor(2) as pool:
        with nobody_can_submit(database):
            asked = [pool.submit(one.post, "/jobs", json=SPEC, headers=KEY) for one in (client, other_client)]
            assert not wait(asked, timeout=0.5).done
        first, again = sorted((answer.result() for answer in asked), key=is_replayed)
    check_replayed(first, again)
    assert count(database) == 1


def test_second_process_makes_what_the_first_could_not(
    client: TestClient, other_client: TestClient, database: Database
) -> None:
    body = {"dataset": "iris", "target": "nothing"}
    with ThreadPoolExecutor(2) as pool:
        with nobody_can_submit(database):
            asked = [pool.submit(one.post, "/jobs", json=body, headers=KEY) for one in (client, other_client)]
            assert not wait(asked, timeout=0.2).done
        for answer in asked:
            assert problem(answer.result(), 422)["code"] == "invalid_spec"
    assert (count(database), count(database, idempotency_keys)) == (0, 0)


def is_replayed(answer: Any) -> bool:
    return "idempotent-replayed" in answer.headers


def check_one_was_made(answers: list[Any], status: int) -> None:
    """Check that of all answers to one request one is fresh, and the others are its copies or say that it runs."""
    given = [answer for answer in answers if answer.status_code == status]
    refused = [answer for answer in answers if answer.status_code != status]
    [fresh] = (answer for answer in given if not is_replayed(answer))
    assert {answer.content for answer in given} == {fresh.content}
    assert all(problem(answer, 409)["code"] == "request_still_running" for answer in refused)


def test_many_threads_in_two_processes_make_one_job(
    client: TestClient, other_client: TestClient, database: Database
) -> None:
    with ThreadPoolExecutor(20) as pool:
        for turn in range(5):
            headers = {"Idempotency-Key": f"turn {turn}"}
            asked = [
                pool.submit((client, other_client)[number % 2].post, "/jobs", json=SPEC, headers=headers)
                for number in range(20)
            ]
            check_one_was_made([answer.result() for answer in asked], 202)
            assert count(database) == turn + 1


def test_many_threads_in_two_processes_make_one_data_set(
    client: TestClient, other_client: TestClient, database: Database
) -> None:
    before = count(database, datasets)
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit((client, other_client)[number % 2].post, "/datasets", content=CSV, headers=CSV_KEY)
            for number in range(8)
        ]
        check_one_was_made([answer.result() for answer in asked], 201)
    assert count(database, datasets) == before + 1


@pytest.mark.parametrize(("path", "kind"), [("/jobs", b"application/json"), ("/datasets", b"text/csv")])
def test_body_that_is_cut_makes_nothing(client: TestClient, database: Database, path: str, kind: bytes) -> None:
    sent = []

    async def ask() -> None:
        piece = {"type": "http.request", "body": b'{"dataset": "iris"}', "more_body": True}
        messages = iter([piece, {"type": "http.disconnect"}])

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", kind), (b"idempotency-key", KEY["Idempotency-Key"].encode())]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        await client.app(scope, receive, send)

    before = count(database, datasets)
    assert client.portal is not None
    client.portal.call(ask)
    assert sent[0]["status"] == 400
    assert (count(database), count(database, datasets), count(database, idempotency_keys)) == (0, before, 0)
    assert client.post("/jobs", json=SPEC, headers=KEY).status_code == 202


def test_connections_cut_anywhere_make_one_job_and_one_data_set(stocked_sqlite: Path, tmp_path: Path) -> None:
    shutil.copy(stocked_sqlite, tmp_path / "selfnorm.db")
    with api_process(tmp_path / "selfnorm.db", tmp_path) as api, ThreadPoolExecutor(8) as pool:
        answers = {}
        for path, headers, body, cuts in (
            ("/jobs", {**JSON_KEY, "Idempotency-Key": "job"}, b'{"dataset": "iris"}', 60),
            ("/datasets", {**CSV_KEY, "Idempotency-Key": "table"}, CSV, 20),
        ):
            head = {"Host": "x", "Content-Length": str(len(body)), **headers}
            lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
            request = "\r\n".join(lines).encode() + body
            ends = [len(request) * number // cuts for number in range(1, cuts)] + [len(request)] * cuts
            for _ in pool.map(partial(send_and_go, api.port, request), ends):
                pass
            answers[path] = ask_until_served(partial(api.client.post, path, content=body, headers=headers))
            again = ask_until_served(partial(api.client.post, path, content=body, headers=headers))
            assert is_replayed(again)
            assert again.content == answers[path].content
        for path, answer in answers.items():
            made = [item for item in api.client.get(f"{path}?page_size=100").json()["items"] if not item.get("builtin")]
            assert [item["id"] for item in made] == [answer.json()["id"]]
        assert "Traceback" not in api.log()


def send_and_go(port: int, request: bytes, end: int) -> None:
    """Send a request up to some byte and go away without an answer, every second time rudely."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request[:end])
        if end % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ask_until_served(ask: Callable[[], Any]) -> Any:
    """Repeat a request until no earlier one under its key runs any more."""
    while (answer := ask()).status_code == 409:
        assert answer.json()["code"] == "request_still_running"
    assert answer.status_code in (201, 202), answer.text
    return answer


def test_keys_are_kept_for_a_week(database: Database) -> None:
    with database.write() as connection:
        for key, age in (("old", KEPT_SECONDS + 60), ("young", KEPT_SECONDS - 60), ("new", 0.0)):
            assert idempotency.reserve(connection, key, "a" * 64)
            idempotency.keep(connection, key, StoredAnswer(202, {}, b"{}"))
            aged = update(idempotency_keys).where(idempotency_keys.c.key == key)
            connection.execute(aged.values(created_at=database_time(-age)))
    with database.write() as connection:
        idempotency.purge(connection)
        found = {key: idempotency.find(connection, key) is not None for key in ("old", "young", "new")}
        assert found == {"old": False, "young": True, "new": True}
        assert idempotency.reserve(connection, "old", "b" * 64)
        assert not idempotency.reserve(connection, "young", "b" * 64)


@pytest.mark.parametrize("path", ["/jobs", "/datasets"])
def test_schema_describes_the_key(client: TestClient, path: str) -> None:
    parameters = client.get("/openapi.json").json()["paths"][path]["post"]["parameters"]
    [key] = (parameter for parameter in parameters if parameter["in"] == "header")
    assert (key["name"], key["required"]) == ("Idempotency-Key", False)
    said = {name: value for name, value in key["schema"].items() if name != "title"}
    assert said == {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
