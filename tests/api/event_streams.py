"""Events of jobs as clients take them in: an application that really listens, and its streams, read field by field."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import uvicorn
from sqlalchemy import text, update

from service.api.app import create_app
from service.api.services import Services
from service.domain.jobs import EventKind, JobState
from service.domain.limits import Limits
from service.domain.owners import DEFAULT_OWNER
from service.domain.spec import JobSpec
from service.storage import events, tables
from service.storage.database import Database
from service.use_cases import jobs
from tests.patience import PATIENCE_SECONDS, until

STREAM = {"Accept": "text/event-stream"}
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
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
            yield Server(server, client)
    finally:
        services.stopping.set()
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


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
    other = Database(aside.render_as_string(hide_password=False)).owned_by(DEFAULT_OWNER)
    for statement in stop:
        with other.write() as connection:
            connection.execute(text(statement))
    yield
    with other.write() as connection:
        connection.execute(text(resume))
    other.close()
