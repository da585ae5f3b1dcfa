"""An answer that does not begin in time is given in place of the application."""

import asyncio
import threading
from typing import Any

import pytest

from service.api.gate.entrance import Entrance
from service.domain.limits import ConnectionBounds

BODY = {"type": "http.request", "body": b"1", "more_body": True}
LAST = {"type": "http.request", "body": b"2", "more_body": False}


async def receive() -> Any:
    return LAST


def ask(application: Any, path: str = "/jobs", pieces: Any = receive, seconds: float = 0.1) -> list[Any]:
    """Ask an application with so long to begin; return what was sent."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    entrance = Entrance(application, 100, 100, 100, ConnectionBounds(answer_seconds=seconds))
    asyncio.run(asyncio.wait_for(entrance(scope, pieces, send), 30))
    return sent


async def answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def sleeper(_scope: Any, _receive: Any, send: Any) -> None:
    await asyncio.sleep(20)
    await answer(send)


async def worker(_scope: Any, _receive: Any, send: Any) -> None:
    """Wait for a thread, which nobody can end, and answer nevertheless."""
    waiting = asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 0.5)
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await waiting
    await answer(send)


@pytest.mark.parametrize("application", [sleeper, worker])
def test_answer_that_does_not_begin_is_not_waited_for(application: Any) -> None:
    start, body = ask(application)
    assert start["status"] == 503
    assert (b"retry-after", b"5") in start["headers"]
    assert b'"code":"too_late"' in body["body"]
    assert b"within 0.1 s" in body["body"]


def test_protocols_say_it_in_their_own_way() -> None:
    start, body = ask(sleeper, "/v2/models/m/infer")
    assert start["status"] == 503
    assert body["body"].startswith(b'{"error":')


def test_answer_that_has_begun_may_take_as_long_as_it_will() -> None:
    async def stream(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.3)
        await send({"type": "http.response.body", "body": b"late", "more_body": False})

    assert [message["type"] for message in ask(stream)] == ["http.response.start", "http.response.body"]


def test_time_counts_from_the_end_of_the_body() -> None:
    waiting = [BODY, BODY, BODY, BODY, LAST]

    async def slow() -> Any:
        await asyncio.sleep(0.06)
        return waiting.pop(0)

    async def read(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await answer(send)

    assert ask(read, pieces=slow)[0]["status"] == 200


def test_reading_an_upload_has_a_deadline_of_its_own() -> None:
    async def read(_scope: Any, _receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        await answer(send)

    assert ask(read, "/datasets")[0]["status"] == 200
