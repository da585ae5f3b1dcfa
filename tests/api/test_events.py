"""What happened to a job: as pages, and as a stream that nothing is lost from."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import delete, text, update

from service.api.app import create_app
from service.api.dependencies import Services
from service.api.events import EVENTS_AT_ONCE, MAX_NUMBER
from service.domain.jobs import EventKind, JobState
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from service.storage import events, pages, tables
from service.storage.database import Database
from service.task_queue import Doorbell
from service.use_cases import jobs
from tests.api.support import problem
from tests.api_process import api_process

STREAM = {"Accept": "text/event-stream"}
PATIENCE_SECONDS = 30
WRITERS = 8
EVENTS_EACH = 50

Fields = dict[str, str]


def submitted(database: Database) -> str:
    """Store a job; its first event says so."""
    return jobs.submit_job(database, JobSpec(dataset="iris"), Limits()).id


def tell(database: Database, job_id: str, count: int) -> None:
    """Add events in a transaction."""
    with database.write() as connection:
        events.append_all(connection, job_id, [(EventKind.EPOCH, {"epoch": epoch}) for epoch in range(1, count + 1)])


def end(database: Database, job_id: str, kind: EventKind = EventKind.SUCCEEDED) -> None:
    """End a job, as every way to end does: its state and its event in a transaction."""
    with database.write() as connection:
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job_id).values(state=JobState(kind.value)))
        events.append(connection, job_id, kind)


def ended(database: Database, count: int) -> str:
    """Store a job that has ended with this many events."""
    job_id = submitted(database)
    for _ in range(count - 2):
        tell(database, job_id, 1)
    end(database, job_id)
    return job_id


@dataclass
class Server:
    """An application behind a real server, for the client of FastAPI gives an answer only when it has ended."""

    uvicorn: uvicorn.Server
    client: httpx.Client

    @contextmanager
    def stream(self, job_id: str, after: int | None = None) -> Iterator[Iterator[Fields]]:
        with stream(self.client, job_id, after) as blocks:
            yield blocks


@contextmanager
def served(services: Services) -> Iterator[Server]:
    server = uvicorn.Server(uvicorn.Config(create_app(services), port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
            yield Server(server, client)
    finally:
        services.stopping.set()
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


@pytest.fixture
def server(services: Services) -> Iterator[Server]:
    with served(services) as running:
        yield running


@pytest.fixture
def sqlite_client(sqlite_database: Database, broker_url: str) -> Iterator[TestClient]:
    """The application on one database, for what the other would answer just so."""
    app = create_app(Services(sqlite_database, Doorbell(broker_url)))
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


@contextmanager
def stream(client: httpx.Client, job_id: str, after: int | None = None) -> Iterator[Iterator[Fields]]:
    headers = STREAM if after is None else {**STREAM, "Last-Event-ID": str(after)}
    with client.stream("GET", f"/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        found = blocks(answer.iter_bytes())
        assert next(found) == {"retry": "1000"}
        yield found


def blocks(content: Iterator[bytes]) -> Iterator[Fields]:
    """Take a stream apart at its empty lines; a comment is the field without a name."""
    pending = b""
    for piece in content:
        *complete, pending = (pending + piece).split(b"\n\n")
        for block in complete:
            # A line that Python knows and the format does not would be torn here, as some clients tear it.
            fields = [line.split(": ", 1) for line in block.decode().splitlines()]
            assert len({name for name, _ in fields}) == len(fields)
            yield {name: value for name, value in fields if name} or {"comment": fields[0][1]}
    assert pending == b""


def items(found: Iterator[Fields]) -> Iterator[dict[str, Any]]:
    """The events of a stream, as a list has them."""
    for fields in found:
        if "comment" in fields:
            continue
        assert fields.keys() == {"id", "event", "data"}
        item = json.loads(fields["data"])
        assert (str(item["id"]), item["event"]) == (fields["id"], fields["event"])
        yield item


def numbers(found: Iterator[Fields]) -> list[int]:
    return [item["id"] for item in items(found)]


def listed(client: Any, job_id: str) -> list[dict[str, Any]]:
    """Every event, by way of the pages."""
    found: list[dict[str, Any]] = []
    query = {"page_size": "100"}
    while True:
        page = client.get(f"/jobs/{job_id}/events", params=query).json()
        found += page["items"]
        if page["next_page_token"] is None:
            return found
        query["page_token"] = page["next_page_token"]


def eventually(is_so: Callable[[], object]) -> None:
    never = threading.Event()
    for _ in range(PATIENCE_SECONDS * 100):
        if is_so():
            return
        never.wait(0.01)
    raise AssertionError("it did not come true")


@contextmanager
def outage(database: Database) -> Iterator[None]:
    """Make the database fail whoever reads events."""
    url = database.engine.url
    if database.dialect == "sqlite":
        aside, stop, resume = url, ["ALTER TABLE events RENAME TO hidden"], "ALTER TABLE hidden RENAME TO events"
    else:
        aside, allow = url.set(database="postgres"), f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS"
        end_all = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.database}'"
        stop, resume = [f"{allow} false", end_all], f"{allow} true"
    other = Database(aside.render_as_string(hide_password=False))
    for statement in stop:
        with other.write() as connection:
            connection.execute(text(statement))
    yield
    with other.write() as connection:
        connection.execute(text(resume))
    other.close()


def test_events_are_listed_oldest_first(client: TestClient, database: Database) -> None:
    job_id = submitted(database)
    tell(database, job_id, 2)
    end(database, job_id)
    answer = client.get(f"/jobs/{job_id}/events")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"
    body = answer.json()
    assert body["next_page_token"] is None
    assert [(item["id"], item["event"], item["data"]) for item in body["items"]] == [
        (1, "submitted", {}),
        (2, "epoch", {"epoch": 1}),
        (3, "epoch", {"epoch": 2}),
        (4, "succeeded", {}),
    ]
    assert all(item["created_at"].endswith("Z") for item in body["items"])


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
def test_pages_hold_every_event_once(client: TestClient, database: Database, size: int) -> None:
    job_id = ended(database, 6)
    found, token = [], None
    for start in range(0, 6, size):
        address = f"/jobs/{job_id}/events?page_size={size}" + (f"&page_token={token}" if start else "")
        page = client.get(address).json()
        assert len(page["items"]) == min(size, 6 - start)
        found += page["items"]
        token = page["next_page_token"]
    assert token is None
    assert [item["id"] for item in found] == [1, 2, 3, 4, 5, 6]


def test_page_after_the_newest_event_is_empty_until_there_is_more(client: TestClient, database: Database) -> None:
    job_id = submitted(database)
    address = f"/jobs/{job_id}/events?page_token={pages.offset_token(1)}"
    assert client.get(address).json() == {"items": [], "next_page_token": None}
    tell(database, job_id, 1)
    assert [item["id"] for item in client.get(address).json()["items"]] == [2]


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "%F0%9F%92%A9",
        "YmVmb3JlOjU",
        pages.offset_token(-1),
        pages.offset_token(MAX_NUMBER + 1),
        "ZnJvbTo5OTk5OTk5OTk5OTk5OTk5OTk",
    ],
)
def test_forged_page_token_is_refused(client: TestClient, database: Database, token: str) -> None:
    answer = client.get(f"/jobs/{submitted(database)}/events?page_token={token}")
    assert problem(answer, 400)["code"] == "invalid_page_token"


@pytest.mark.parametrize("headers", [{}, STREAM, {**STREAM, "Last-Event-ID": "3"}])
def test_unknown_job_has_no_events(client: TestClient, headers: dict[str, str]) -> None:
    assert problem(client.get("/jobs/nothing/events", headers=headers), 404)["code"] == "unknown_job"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/event-stream", "text/event-stream; charset=utf-8"),
        ("TEXT/Event-Stream", "text/event-stream; charset=utf-8"),
        ("application/json, text/event-stream", "text/event-stream; charset=utf-8"),
        ("text/html;q=0.9,text/event-stream;q=0.001", "text/event-stream; charset=utf-8"),
        ("text/event-stream;charset=utf-8; q=1.0", "text/event-stream; charset=utf-8"),
        ("text/event-stream;q=0", "application/json"),
        ("text/event-stream; Q=0.000, */*", "application/json"),
        ("*/*", "application/json"),
        ("text/*", "application/json"),
        ("application/json", "application/json"),
        ("text/event-streams", "application/json"),
        (",;=,", "application/json"),
        ("", "application/json"),
    ],
)
def test_accept_chooses_the_form(
    sqlite_client: TestClient, sqlite_database: Database, accept: str, expected: str
) -> None:
    answer = sqlite_client.get(f"/jobs/{ended(sqlite_database, 2)}/events", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"], answer.headers["vary"]) == (200, expected, "Accept")


def test_accept_may_come_in_several_headers(sqlite_client: TestClient, sqlite_database: Database) -> None:
    headers = [("Accept", "application/json"), ("Accept", "text/event-stream")]
    answer = sqlite_client.get(f"/jobs/{ended(sqlite_database, 2)}/events", headers=headers)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    "last", ["", "x", "-1", "+1", "1.0", "1e3", "0x1", "1 2", "1_0", "²", "2147483648", "9" * 5000, "1,2"]
)
def test_last_event_id_that_is_no_number_is_refused(
    sqlite_client: TestClient, sqlite_database: Database, last: str
) -> None:
    headers = {b"Accept": b"text/event-stream", b"Last-Event-ID": last.encode("latin-1")}
    body = problem(sqlite_client.get(f"/jobs/{submitted(sqlite_database)}/events", headers=headers), 400)
    assert "Last-Event-ID must be a whole number from 0 to 2147483647; got " in body["detail"]
    assert len(body["detail"]) < 300


def test_stream_holds_what_the_list_holds_and_closes_after_the_end(client: TestClient, database: Database) -> None:
    job_id = submitted(database)
    odd = 'two\r\nlines, \u2028 \u0085 \x1c "quoted" \\ 世界: \ud83d\ude00'.encode("utf-16", "surrogatepass").decode(
        "utf-16"
    )
    with database.write() as connection:
        events.append(connection, job_id, EventKind.STARTED, worker=odd, nested={"a": [1, None, 0.1, True]})
    end(database, job_id, EventKind.FAILED)
    answer = client.get(f"/jobs/{job_id}/events", headers=STREAM)
    retry, *rest = blocks(iter([answer.content]))
    assert retry == {"retry": "1000"}
    found = list(items(iter(rest)))
    assert found == client.get(f"/jobs/{job_id}/events").json()["items"]
    assert found[1]["data"]["worker"] == odd


@pytest.mark.parametrize("kind", [EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELLED])
def test_client_is_told_not_to_come_back_after_the_end(client: TestClient, database: Database, kind: EventKind) -> None:
    job_id = submitted(database)
    end(database, job_id, kind)
    for last in (2, 3, MAX_NUMBER):
        answer = client.get(f"/jobs/{job_id}/events", headers={**STREAM, "Last-Event-ID": str(last)})
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("count", [EVENTS_AT_ONCE - 1, EVENTS_AT_ONCE, EVENTS_AT_ONCE + 1, 2 * EVENTS_AT_ONCE])
def test_long_log_is_sent_whole(client: TestClient, database: Database, count: int) -> None:
    job_id = submitted(database)
    tell(database, job_id, count - 2)
    end(database, job_id)
    _, *rest = blocks(iter([client.get(f"/jobs/{job_id}/events", headers=STREAM).content]))
    assert numbers(iter(rest)) == list(range(1, count + 1))
    assert [item["id"] for item in listed(client, job_id)] == list(range(1, count + 1))


def test_stream_cut_after_any_event_is_resumed_without_gap_or_double(server: Server, database: Database) -> None:
    count = 7
    job_id = ended(database, count)
    log = listed(server.client, job_id)
    for cut in range(count):
        with server.stream(job_id) as found:
            before = list(islice(items(found), cut))
        with server.stream(job_id, after=cut) as found:
            assert before + list(items(found)) == log


def test_events_arrive_while_they_happen(server: Server, database: Database) -> None:
    job_id = submitted(database)
    with ThreadPoolExecutor(1) as pool, server.stream(job_id) as found:
        arriving = items(found)
        assert next(arriving)["event"] == "submitted"

        def write() -> None:
            for count in (1, 3, 1, 1, 40, 2):
                tell(database, job_id, count)
            end(database, job_id)

        writing = pool.submit(write)
        rest = [item["id"] for item in arriving]
        writing.result()
    assert rest == list(range(2, 51))


def test_live_stream_that_is_cut_again_and_again_loses_nothing(server: Server, database: Database) -> None:
    job_id = submitted(database)

    def write() -> None:
        for _ in range(30):
            tell(database, job_id, 2)
        end(database, job_id)

    arrived: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while len(arrived) < 62:
            with server.stream(job_id, after=len(arrived)) as found:
                arrived += [item["id"] for item in islice(items(found), 5)]
        writing.result()
    assert arrived == list(range(1, 63))


def test_silence_is_broken_by_comments(services: Services, database: Database) -> None:
    job_id = submitted(database)
    with served(replace(services, comment_seconds=0.1)) as server, server.stream(job_id) as found:
        assert next(found)["event"] == "submitted"
        assert [next(found).keys() for _ in range(5)] == [{"comment"}] * 5
        tell(database, job_id, 1)
        assert next(items(found))["id"] == 2
        assert next(found).keys() == {"comment"}
        end(database, job_id)
        assert numbers(found) == [3]


def test_number_beyond_the_newest_event_waits_for_the_end(services: Services, database: Database) -> None:
    job_id = submitted(database)
    with (
        served(replace(services, comment_seconds=0.1)) as server,
        server.stream(job_id, after=3) as found,
        server.stream(job_id, after=MAX_NUMBER) as far,
    ):
        for waiting in (found, far):
            assert next(waiting).keys() == {"comment"}
        tell(database, job_id, 2)
        tell(database, job_id, 1)
        assert next(items(found))["id"] == 4
        end(database, job_id)
        assert numbers(found) == [5]
        assert numbers(far) == []


def test_stream_closes_when_the_job_is_deleted(server: Server, database: Database) -> None:
    job_id = submitted(database)
    with server.stream(job_id) as found:
        assert next(items(found))["id"] == 1
        with database.write() as connection:
            connection.execute(delete(tables.jobs).where(tables.jobs.c.id == job_id))
        assert list(found) == []
    problem(server.client.get(f"/jobs/{job_id}/events", headers=STREAM), 404)


def test_stream_closes_when_the_process_is_asked_to_end(server: Server, services: Services, database: Database) -> None:
    job_id = submitted(database)
    with server.stream(job_id) as found:
        assert next(items(found))["id"] == 1
        services.stopping.set()
        assert list(found) == []


def test_stream_outlives_an_outage_of_the_database(services: Services, database: Database) -> None:
    job_id = submitted(database)
    with served(replace(services, comment_seconds=0.3)) as server, server.stream(job_id) as found:
        assert next(items(found))["id"] == 1
        with outage(database):
            problem(server.client.get(f"/jobs/{job_id}/events", headers=STREAM), 503)
            assert [next(found).keys() for _ in range(5)] == [{"comment"}] * 5
        eventually(lambda: server.client.get("/jobs").status_code == 200)
        tell(database, job_id, 2)
        end(database, job_id)
        assert numbers(found) == [2, 3, 4]


def test_comments_are_sent_while_the_database_keeps_a_reader_waiting(services: Services, database: Database) -> None:
    if database.dialect == "sqlite":
        pytest.skip("who reads from SQLite never waits for who writes")
    job_id = submitted(database)
    with served(replace(services, comment_seconds=0.1)) as server, server.stream(job_id) as found:
        assert next(items(found))["id"] == 1
        with database.write() as connection:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            connection.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
            assert [next(found).keys() for _ in range(20)] == [{"comment"}] * 20
        end(database, job_id)
        assert numbers(found) == [2]


def test_client_that_leaves_is_forgotten(server: Server, database: Database) -> None:
    job_id = submitted(database)
    for _ in range(3):
        with server.stream(job_id) as found:
            assert next(items(found))["id"] == 1
            assert len(server.uvicorn.server_state.tasks) == 1
        eventually(lambda: not server.uvicorn.server_state.tasks)


def write_at_once(database: Database, job_id: str) -> None:
    """Let several writers each add as many events, singly and in small heaps."""

    def write(writer: int) -> None:
        left = EVENTS_EACH
        while left:
            count = min(left, 1 + (left + writer) % 3)
            tell(database, job_id, count)
            left -= count

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))


def test_writers_at_once_leave_no_gap_at_any_time(database: Database) -> None:
    job_id = submitted(database)
    expected = 1 + WRITERS * EVENTS_EACH
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_at_once, database, job_id)
        seen: list[int] = []
        while len(seen) < expected:
            with database.read() as connection:
                whole = [event.number for event in events.read(connection, job_id)]
                news = [event.number for event in events.read(connection, job_id, after=len(seen))]
            assert whole == list(range(1, len(whole) + 1))
            seen += news
            assert seen == list(range(1, len(seen) + 1))
            if writing.done():
                writing.result()
    assert len(seen) == expected


def test_stream_of_many_writers_has_no_gap(server: Server, database: Database) -> None:
    job_id = submitted(database)
    expected = 1 + WRITERS * EVENTS_EACH

    def write() -> None:
        write_at_once(database, job_id)
        end(database, job_id)

    with ThreadPoolExecutor(1) as pool, server.stream(job_id) as found:
        writing = pool.submit(write)
        assert numbers(found) == list(range(1, expected + 2))
        writing.result()
    assert [item["id"] for item in listed(server.client, job_id)] == list(range(1, expected + 2))


def test_stream_of_a_process_that_ends_goes_on_at_another(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    job_id = submitted(database)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    environment = {"SELFNORM_DATABASE_URL": database_url}
    with api_process(tmp_path, folders[0], **environment) as first:
        with stream(first.client, job_id) as found:
            assert next(items(found))["id"] == 1
            tell(database, job_id, 3)
            assert [item["id"] for item in islice(items(found), 3)] == [2, 3, 4]
            before = len(first.log())
            first.process.send_signal(signal.SIGTERM)
            assert list(found) == []
        assert first.process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
        assert "ERROR" not in first.log()[before:]
    with api_process(tmp_path, folders[1], **environment) as second, stream(second.client, job_id, after=4) as found:
        tell(database, job_id, 1)
        assert next(items(found))["id"] == 5
        end(database, job_id, EventKind.CANCELLED)
        assert numbers(found) == [6]


def test_schema_describes_both_forms(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    route = schema["paths"]["/jobs/{job_id}/events"]["get"]
    content = route["responses"]["200"]["content"]
    assert content.keys() == {"application/json", "text/event-stream"}
    assert content["application/json"] == {"schema": {"$ref": "#/components/schemas/EventsView"}}
    assert content["text/event-stream"]["schema"]["type"] == "string"
    [header] = [parameter for parameter in route["parameters"] if parameter["in"] == "header"]
    assert (header["name"], header["required"]) == ("Last-Event-ID", False)
    assert header["schema"].items() >= {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}.items()
    parameters = {parameter["name"] for parameter in route["parameters"] if parameter["in"] == "query"}
    assert parameters == {"page_size", "page_token"}
    view = schema["components"]["schemas"]["EventView"]
    assert view["properties"].keys() == {"id", "event", "data", "created_at"} == set(view["required"])
    example = content["text/event-stream"]["example"].encode()
    [item] = items(blocks(iter([example])))
    assert item.keys() == view["properties"].keys()
