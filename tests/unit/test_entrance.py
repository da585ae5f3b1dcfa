"""What comes in: bodies that are too large or too slow are not waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import HTTPException

from service.api.gate.entrance import MAX_PUBLIC_BYTES, Entrance
from service.domain.limits import ConnectionBounds

Receive = Callable[[], Awaitable[dict[str, Any]]]
PIECE = {"type": "http.request", "body": b"12345", "more_body": True}
LAST = {"type": "http.request", "body": b"12345", "more_body": False}
GONE = {"type": "http.disconnect"}


async def read_all(_scope: Any, receive: Receive, _send: Any) -> None:
    """An application that reads a body, then waits until its client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def ask(
    path: str, *messages: dict[str, Any] | float, seconds: float = 0.05, largest: int = 100, is_public: bool = False
) -> None:
    """Send messages; a number is a pause, and after the last one nothing comes any more."""
    bounds = ConnectionBounds(body_seconds=seconds, min_bytes_per_second=200)
    application: Any = read_all
    entrance = Entrance(application, largest, largest, largest, bounds, lambda _path: is_public)
    waiting = list(messages)

    async def receive() -> Any:
        while True:
            if not waiting:
                await asyncio.Event().wait()
            message = waiting.pop(0)
            if isinstance(message, dict):
                return message
            await asyncio.sleep(message)

    async def send(_: Any) -> None:
        raise AssertionError("nothing is answered here")

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    asyncio.run(asyncio.wait_for(entrance(scope, receive, send), 30))


@pytest.mark.parametrize(
    "path", ["/predict", "/v1/models/m:predict", "/v2/models/m/infer", "/invocations", "/jobs", "/jobs/x/cancel"]
)
@pytest.mark.parametrize("begun", [[], [PIECE], [PIECE, 0.02, PIECE, 0.02, PIECE, 0.02, PIECE]])
def test_body_that_does_not_come_in_time_is_not_waited_for(path: str, begun: list[Any]) -> None:
    with pytest.raises(HTTPException) as refused:
        ask(path, *begun)
    assert refused.value.status_code == 408
    assert refused.value.headers == {"Connection": "close"}
    assert "within 0.05 s" in refused.value.detail


def test_answer_to_a_body_that_has_come_may_take_as_long_as_it_will() -> None:
    ask("/predict", PIECE, LAST, 0.2, GONE)


def test_upload_may_take_as_long_as_it_goes_on() -> None:
    flowing: list[Any] = [PIECE, PIECE, PIECE, 0.02] * 6
    ask("/datasets", *flowing, LAST, 0.2, GONE)


@pytest.mark.parametrize("begun", [[], [PIECE, 0.2, LAST], [PIECE, PIECE, PIECE, 0.06, PIECE, 0.06, LAST]])
def test_upload_that_dribbles_is_not_waited_for(begun: list[Any]) -> None:
    with pytest.raises(HTTPException) as refused:
        ask("/datasets", *begun)
    assert refused.value.status_code == 408
    assert "send at least 200 a second" in refused.value.detail


def test_body_that_turns_out_too_large_is_not_read_to_its_end() -> None:
    with pytest.raises(HTTPException) as refused:
        ask("/predict", *[PIECE] * 21)
    assert refused.value.status_code == 413


def test_who_shows_no_key_may_send_a_form_and_no_more() -> None:
    whole = {**PIECE, "body": b"&" * MAX_PUBLIC_BYTES}
    ask("/sign-in", whole, {**LAST, "body": b""}, GONE, largest=10**6, is_public=True)
    with pytest.raises(HTTPException) as refused:
        ask("/sign-in", whole, {**LAST, "body": b"&"}, GONE, largest=10**6, is_public=True)
    assert refused.value.status_code == 413
    ask("/jobs", whole, {**LAST, "body": b"&"}, GONE, largest=10**6)
