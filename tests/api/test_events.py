"""What happened to a job, as a list in pages; and which of the two forms a client gets."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.events import MAX_NUMBER
from service.api.services import Services
from service.storage import pages
from service.storage.database import Database
from service.task_queue import Doorbell
from tests.api.event_streams import STREAM, blocks, end, ended, items, submitted, tell
from tests.api.support import problem


@pytest.fixture
def sqlite_client(sqlite_database: Database, broker_url: str) -> Iterator[TestClient]:
    """The application on one database, for what the other would answer just so."""
    app = create_app(Services(sqlite_database, Doorbell(broker_url)))
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


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
