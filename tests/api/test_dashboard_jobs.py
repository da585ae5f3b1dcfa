"""The pages of jobs as they come from the server, and the stream that keeps the list up to date."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, insert, select, update

from service.api.dashboard.live import FIRST_PAGE, Feeds, Look, follow
from service.api.services import Services
from service.domain.jobs import EventKind, JobState
from service.storage import events, jobs, tables
from service.storage.database import Database
from service.storage.jobs import JobFilter
from service.task_queue import Doorbell
from service.use_cases import job_list
from service.use_cases.job_list import MOST_DATASETS
from tests.api.event_streams import Fields, Server, blocks, served
from tests.api.pages import given
from tests.factories import measured, stored_job
from tests.patience import until

PAGE_SIZE = 25


@pytest.fixture
def server(services: Services) -> Iterator[Server]:
    with served(services) as running:
        yield running


def train(database: Database, job_id: str, epochs: int, state: JobState = JobState.RUNNING) -> None:
    """Store epochs of a job that stands at so many, as a worker does: with their events."""
    with database.write() as connection:
        before = jobs.get(connection, job_id).epoch
        values = {"state": state, "epoch": epochs, "best_epoch": epochs, "fraction": epochs / 300}
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job_id).values(values))
        jobs.add_epochs(connection, job_id, [measured(epoch) for epoch in range(before + 1, epochs + 1)])
        if state == JobState.SUCCEEDED:
            events.append(connection, job_id, EventKind.SUCCEEDED)


def listed(page: str) -> list[str]:
    """The ids of the jobs in a page's table, in order."""
    return re.findall(r'<tr data-job="([^"]+)"', page)


@contextmanager
def stream(client: httpx.Client, query: str = "", after: str | None = None) -> Iterator[Iterator[Fields]]:
    headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": after})
    with client.stream("GET", f"/dashboard/live/jobs{query}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        found = blocks(answer.iter_bytes())
        assert next(found) == {"retry": "1000"}
        yield found


def news(found: Iterator[Fields]) -> Iterator[tuple[str, dict[str, Any]]]:
    for fields in found:
        if "comment" not in fields:
            assert fields["event"] == "jobs"
            yield fields["id"], json.loads(fields["data"])


def test_list_shows_newest_first_and_leads_to_older_ones(client: TestClient, database: Database) -> None:
    for number in range(PAGE_SIZE + 2):
        stored_job(database, f"job-{number}")
    first = client.get("/dashboard/jobs")
    assert first.status_code == 200
    assert listed(first.text)[:PAGE_SIZE] == [f"job-{number}" for number in range(PAGE_SIZE + 1, 1, -1)]
    [older] = re.findall(r'id="older" rel="next" href="([^"]+)"', first.text)
    second = client.get(unescape(older)).text
    assert listed(second)[:2] == ["job-1", "job-0"]
    assert given(first.text)["live"] == "/dashboard/live/jobs?"
    assert given(second)["live"] is None


def test_list_shows_what_a_job_has_come_to(client: TestClient, database: Database) -> None:
    stored_job(database, "done", tags=["mine"], model="flowers", network={"units": [64, 32]})
    train(database, "done", 4, JobState.SUCCEEDED)
    row = re.sub(r"\s+", " ", client.get("/dashboard/jobs").text).split('<tr data-job="done"')[1].split("</tr>")[0]
    assert ">flowers<" in row
    assert ">snn 2 x 32 to 64<" in row
    assert ">epoch 4 of 300<" in row
    assert 'value="1.0"' in row
    assert '<polyline points="0.0,2.0 40.0,' in row  # the loss of 1, 1/2, 1/3, 1/4
    assert 'aria-label="Loss over 4 epochs, from 1 to 0.25"' in row
    assert 'href="/dashboard/jobs?tag=mine"' in row
    assert 'data-action="cancel" aria-label="Cancel flowers" hidden' in row


def test_list_is_narrowed_by_its_form(client: TestClient, database: Database) -> None:
    stored_job(database, "a", dataset="wine")
    stored_job(database, "b", model="flowers", tags=["mine"])
    train(database, "a", 1)
    for query, expected in {
        "?state=&model=&dataset=&tag=": ["b", "a"],
        "?state=running&model=": ["a"],
        "?model=flowers": ["b"],
        "?dataset=wine": ["a"],
        "?tag=mine": ["b"],
        "?tag=mine&dataset=wine": [],
        "?tag=%3Cscript%3E": [],
    }.items():
        page = client.get(f"/dashboard/jobs{query}")
        assert page.status_code == 200
        assert [job for job in listed(page.text) if job] == expected, query
        assert ('id="none" hidden' in page.text) == bool(expected)
        assert "<script>" not in page.text


def test_list_that_is_not_there_is_a_page_that_says_why(client: TestClient) -> None:
    for query, status in {"?state=lost": 422, "?page_token=nonsense": 400}.items():
        answer = client.get(f"/dashboard/jobs{query}")
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")


def test_empty_list_teaches(client: TestClient) -> None:
    page = client.get("/dashboard/jobs").text
    assert "Nothing has been trained yet" in page
    assert 'id="none" hidden' not in page
    assert 'href="/dashboard/jobs/new"' in page


def test_stream_begins_with_the_page_and_goes_on_with_what_changes(server: Server, database: Database) -> None:
    for job_id in ("a", "b"):
        stored_job(database, job_id)
    with stream(server.client) as found:
        coming = news(found)
        first, page = next(coming)
        assert (page["order"], page["next"]) == (["b", "a"], None)
        assert [row["state"] for row in page["jobs"]] == ["queued", "queued"]
        train(database, "a", 3)
        second, change = next(coming)
        assert "order" not in change
        [row] = change["jobs"]
        assert (row["id"], row["state"], row["epoch"], row["points"].count(",")) == ("a", "running", 3, 3)
        stored_job(database, "c")
        third, change = next(coming)
        assert (change["order"], [row["id"] for row in change["jobs"]]) == (["c", "b", "a"], ["c"])
    assert int(first) < int(second) < int(third)
    until(lambda: not server.uvicorn.server_state.tasks)
    with stream(server.client, after=first) as found:
        last, change = next(news(found))
        assert [row["id"] for row in change["jobs"]] == ["c", "b", "a"]  # nobody listened, so nobody knows what is new
        assert int(last) >= int(third)


def test_stream_goes_on_after_a_loss(server: Server, database: Database) -> None:
    for job_id in ("a", "b"):
        stored_job(database, job_id)
    with stream(server.client) as kept, stream(server.client) as lost:
        listening, (after, _) = news(kept), next(news(lost))
        next(listening)
        train(database, "b", 2)
        next(listening)
        with stream(server.client, after=after) as found:
            number, change = next(news(found))
            assert [row["id"] for row in change["jobs"]] == ["b"]
        with stream(server.client, after=number) as found:
            train(database, "a", 1)
            assert [row["id"] for row in next(news(found))[1]["jobs"]] == ["a"]


def test_stream_holds_only_what_its_list_does(server: Server, database: Database) -> None:
    stored_job(database, "a")
    stored_job(database, "b", tags=["mine"])
    with stream(server.client, "?state=queued&tag=") as found:
        coming = news(found)
        assert next(coming)[1]["order"] == ["b", "a"]
        train(database, "a", 1)
        assert next(coming)[1] == {"jobs": [], "order": ["b"], "next": None}


def test_stream_sends_comments_in_silence_and_ends_with_the_process(database: Database, broker_url: str) -> None:
    services = Services(database, Doorbell(broker_url), comment_seconds=0.1)
    with served(services) as server, stream(server.client) as found:
        assert next(found)["event"] == "jobs"
        assert next(found) == {"comment": "nothing new"}
        services.stopping.set()
        assert [fields for fields in found if "comment" not in fields] == []


def test_many_listeners_cost_one_look_a_second(server: Server, database: Database) -> None:
    stored_job(database, "a")
    looks: list[float] = []
    counting = threading.Event()

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if counting.is_set() and "last_event" in statement and "LIMIT" in statement:
            looks.append(time.monotonic())

    event.listen(database.engine, "before_cursor_execute", count)
    with ExitStack() as stack:
        opened = [news(stack.enter_context(stream(server.client))) for _ in range(5)]
        for listener in opened:
            next(listener)
        counting.set()
        began = time.monotonic()
        time.sleep(3)
        until(lambda: looks)
        counting.clear()
        passed = time.monotonic() - began
        train(database, "a", 1)
        assert [[row["epoch"] for row in next(listener)[1]["jobs"]] for listener in opened] == [[1]] * 5
    assert 1 <= len(looks) <= passed + 2


def test_change_is_sent_also_where_the_clock_is_set_back(database: Database) -> None:
    stored_job(database, "a")
    first = job_list.look(database, JobFilter(), FIRST_PAGE, None)
    before = Look().then(first)
    train(database, "a", 1)
    second = job_list.look(database, JobFilter(), FIRST_PAGE, first.marks)
    earlier = replace(second.marks, at=first.marks.at - timedelta(hours=1))
    change = before.then(replace(second, marks=earlier)).since(before.at)
    assert change is not None
    assert [row["epoch"] for row in change["jobs"]] == [1]


def test_stream_ends_where_the_database_does_not_answer(broker_url: str) -> None:
    down = Database("postgresql://nobody@127.0.0.1:1/none")

    async def told() -> list[bytes]:
        services = Services(down, Doorbell(broker_url))
        return [piece async for piece in follow(services, Feeds(), down, JobFilter(), 0)]

    assert asyncio.run(told()) == [b"retry: 1000\n\n"]


def test_stream_of_a_job_begins_where_its_page_ends(server: Server, database: Database) -> None:
    stored_job(database, "a")
    train(database, "a", 3, JobState.SUCCEEDED)
    whole = list(server.client.get("/jobs/a/events").json()["items"])

    def told(after: int, last_event_id: int = 0) -> list[dict[str, Any]]:
        headers = {"Last-Event-ID": str(last_event_id)}
        with server.client.stream("GET", f"/dashboard/live/jobs/a?after={after}", headers=headers) as answer:
            assert answer.status_code == 200
            return [json.loads(fields["data"]) for fields in blocks(answer.iter_bytes()) if "data" in fields]

    assert told(0) == whole
    assert told(2) == whole[2:]
    assert told(2, last_event_id=4) == whole[4:], "a browser that comes back asks the same address"
    assert server.client.get(f"/dashboard/live/jobs/a?after={len(whole)}").status_code == 204
    assert server.client.get("/dashboard/live/jobs/nothing").status_code == 404
    assert server.client.get("/dashboard/live/jobs/a?after=-1").status_code == 422


def test_only_jobs_that_changed_are_read_again(sqlite_database: Database) -> None:
    for number in range(5):
        stored_job(sqlite_database, f"job-{number}")
    first = job_list.look(sqlite_database, JobFilter(), FIRST_PAGE, None)
    train(sqlite_database, "job-3", 1)
    specs: list[Any] = []
    event.listen(
        sqlite_database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, values, *_: specs.append(values) if "jobs.spec" in statement else None,
    )
    found = job_list.look(sqlite_database, JobFilter(), FIRST_PAGE, first.marks)
    assert [listed.job.id for listed in found.changed] == ["job-3"]
    assert len(specs) == 1
    assert "job-3" in specs[0]


def test_list_says_that_not_every_data_set_can_be_chosen(client: TestClient, database: Database) -> None:
    stored_job(database, "a")
    assert "Pages of older" not in client.get("/dashboard/jobs").text
    with database.write() as connection:
        row = connection.execute(select(tables.datasets).where(tables.datasets.c.id == "iris")).mappings().one()
        copied = {name: value for name, value in row.items() if name != "number"} | {"builtin": False}
        connection.execute(
            insert(tables.datasets), [{**copied, "id": f"t{n}", "name": f"t{n}"} for n in range(MOST_DATASETS + 1)]
        )
    page = client.get("/dashboard/jobs").text
    assert "Pages of older" in page
    assert all(f'value="{name}"' in page for name in ("iris", "wine", "t1", f"t{MOST_DATASETS}"))
    assert 'value="t0"' not in page


def test_list_tells_errors_and_verdicts_in_words(client: TestClient, database: Database) -> None:
    stored_job(database, "a")
    verdict = {"status": "left", "detail": "why it left", "layer": 1, "epoch": 1, "advice": []}
    values = {"state": "failed", "error_code": "worker_lost", "error_detail": "why it failed", "verdict": verdict}
    with database.write() as connection:
        connection.execute(update(tables.jobs).values(values))
    page = client.get("/dashboard/jobs").text
    assert ">worker lost: why it failed<" in page
    assert ">why it left<" in page


def test_form_asks_for_what_the_schema_has(client: TestClient) -> None:
    page = client.get("/dashboard/jobs/new").text
    pointers = set(re.findall(r'data-pointer="([^"]+)"', page))
    properties = client.get("/openapi.json").json()["components"]["schemas"]["TrainingSpec"]["properties"]
    nested = {"schedule": "schedule/kind"}
    assert {f"/training/{nested.get(name, name)}" for name in properties} <= pointers
    assert {"/dataset", "/target", "/features", "/network/kind", "/model", "/tags"} <= pointers
    assert (given(page)["spec"], given(page)["columns"]) == ({}, None)


def test_form_begins_with_a_data_set(client: TestClient) -> None:
    page = client.get("/dashboard/jobs/new?dataset=iris&target=petal%20width%20(cm)").text
    found = given(page)
    assert found["spec"] == {"dataset": "iris", "target": "petal width (cm)"}
    assert found["columns"]["default_target"] == "target"
    assert ["petal width (cm)", "numeric"] in found["columns"]["items"]


def test_form_begins_with_another_jobs_spec_in_short(client: TestClient, database: Database) -> None:
    asked = {"training": {"epochs": 7}, "network": {"kind": "mlp", "units": [8, 4]}, "tags": ["mine"]}
    stored_job(database, "before", **asked)
    spec = given(client.get("/dashboard/jobs/new?job=before").text)["spec"]
    assert spec == {"dataset": "iris", **asked}
    assert client.get("/dashboard/jobs/new?job=nothing").status_code == 404


def test_nothing_that_is_asked_for_becomes_markup(client: TestClient) -> None:
    for text in ("</script><script>window.ran=1</script>", "<!--<script>", "\u2028\"'&"):
        page = client.get("/dashboard/jobs/new", params={"dataset": text, "target": text}).text
        assert given(page)["spec"] == {"dataset": text, "target": text}
        assert page.count("<script") == page.count("</script>") == 4  # three that are loaded, and the values
