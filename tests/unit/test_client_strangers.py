"""The client against servers that are slow, busy, newer than it, or no service at all, over real connections."""

import asyncio
import json
import stat
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

from service.api.views.jobs import JobView
from service.client import AsyncClient, Client, ConnectionFailed, Unavailable, UnexpectedAnswer
from service.client.events import Following
from service.client.steps import Call, Pause
from service.client.transport import Connection
from service.client.waiting import SOON_SECONDS, wait_for
from service.domain.jobs import EventKind, JobState
from tests.answers import EMPTY_DATASET

NEWER = [
    {"id": 1, "event": "teleported", "data": {}, "created_at": "2026-01-01T00:00:00Z"},
    {"id": 2, "event": "succeeded", "data": {}, "created_at": "2026-01-01T00:00:00Z"},
]


class Stranger(BaseHTTPRequestHandler):
    """Takes its time to read a table, and has a job ``page`` without and a job ``newer`` with events, and one file."""

    posts = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).posts += 1
        time.sleep(0.6)
        self._answer("application/json", json.dumps(EMPTY_DATASET).encode())

    def do_GET(self) -> None:
        if self.path.startswith("/jobs/newer/"):
            events = "".join(f"id: {event['id']}\ndata: {json.dumps(event)}\n\n" for event in NEWER)
            self._answer("text/event-stream; charset=utf-8", events.encode())
        elif "/files/" in self.path:
            self._answer("application/octet-stream", b"weights")
        else:
            self._answer("text/html", b"<h1>It works!</h1>")

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_upload_may_be_read_for_longer_than_other_answers_take(url: str) -> None:
    Stranger.posts = 0
    with Client(url, timeout_seconds=0.2) as client:
        assert client.datasets.upload(b"a\n1\n").id == "1"
    assert Stranger.posts == 1


@pytest.mark.timeout(20)
def test_page_in_place_of_events_is_told_at_once(url: str) -> None:
    with Client(url) as client, pytest.raises(UnexpectedAnswer, match="text/html"):
        list(client.jobs.watch("page"))

    async def watch() -> None:
        async with AsyncClient(url) as client:
            async for _ in client.jobs.watch("page"):
                pass

    with pytest.raises(UnexpectedAnswer, match="text/html"):
        asyncio.run(watch())


def test_events_of_kinds_that_only_a_newer_service_knows_are_passed_over(url: str) -> None:
    with Client(url) as client:
        assert [update.kind for update in client.jobs.watch("newer")] == [EventKind.SUCCEEDED]


def test_stream_that_ends_empty_again_and_again_is_given_up() -> None:
    following = Following("1", Connection("http://here", None, 1, 0))
    empty = httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, request=httpx2.Request("GET", "/"))
    assert following.opened(empty)
    following.closed(empty)
    following.lost_at = time.monotonic() - 1000
    assert following.opened(empty)
    with pytest.raises(ConnectionFailed, match="before an event"):
        following.closed(empty)


def test_saved_file_has_the_rights_of_any_other_new_file(url: str, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with Client(url) as client:
        saved = client.models.download("m", 1, "model.onnx", tmp_path)
    assert saved.read_bytes() == b"weights"
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"other", "model.onnx"}


@pytest.mark.parametrize(
    ("failure", "least"),
    [
        (ConnectionFailed("http://here", "refused"), SOON_SECONDS),
        (Unavailable(503, "busy", "later"), SOON_SECONDS),
        (Unavailable(503, "busy", "later", retry_after_seconds=7), 7),
    ],
)
def test_waiting_leaves_a_service_that_is_away_alone_for_a_while(failure: Exception, least: float) -> None:
    steps = wait_for("/jobs/1", JobView, "job", None, None)
    assert isinstance(next(steps), Call)
    assert isinstance(steps.send(SimpleNamespace(state=JobState.RUNNING)), Pause)
    assert isinstance(next(steps), Call)
    pause = steps.throw(failure)
    assert isinstance(pause, Pause)
    assert pause.seconds >= least
    assert isinstance(next(steps), Call)
