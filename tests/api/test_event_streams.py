"""What happened to a job, as a stream that nothing is lost from."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, text

from service.api.events import EVENTS_AT_ONCE, MAX_NUMBER
from service.api.services import Services
from service.domain.jobs import EventKind
from service.storage import events, tables
from service.storage.database import Database
from tests.api.event_streams import (
    STREAM,
    Server,
    blocks,
    end,
    ended,
    items,
    listed,
    numbers,
    outage,
    served,
    stream,
    submitted,
    tell,
)
from tests.api.support import problem
from tests.api_process import END_SECONDS, api_process
from tests.patience import PATIENCE_SECONDS, until
from tests.stopwatch import stopwatch

WRITERS = 8
EVENTS_EACH = 50


@pytest.fixture
def server(services: Services) -> Iterator[Server]:
    with served(services) as running:
        yield running


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
        until(lambda: server.client.get("/jobs").status_code == 200)
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
        until(lambda: not server.uvicorn.server_state.tasks)


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
    with api_process(tmp_path, folders[0], **environment) as first, stopwatch() as watch:
        with stream(first.client, job_id) as found:
            assert next(items(found))["id"] == 1
            tell(database, job_id, 3)
            assert [item["id"] for item in islice(items(found), 3)] == [2, 3, 4]
            before = len(first.log())
            asked = time.monotonic()
            first.process.send_signal(signal.SIGTERM)
            assert list(found) == []
        assert first.process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
        assert watch.elapsed(asked) < END_SECONDS
        assert "ERROR" not in first.log()[before:]
    with api_process(tmp_path, folders[1], **environment) as second, stream(second.client, job_id, after=4) as found:
        tell(database, job_id, 1)
        assert next(items(found))["id"] == 5
        end(database, job_id, EventKind.CANCELLED)
        assert numbers(found) == [6]
