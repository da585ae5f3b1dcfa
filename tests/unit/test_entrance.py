"""What comes in: bodies that are too large or too slow are not waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import HTTPException

from service.api.app import Entrance

Receive = Callable[[], Awaitable[dict[str, Any]]]
PIECE = {"type": "http.request", "body": b"12345", "more_body": True}
LAST = {"type": "http.request", "body": b"12345", "more_body": False}
GONE = {"type": "http.disconnect"}


async def read_all(_scope: Any, receive: Receive, _send: Any) -> None:
    """An application that reads a body, then waits until its client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def ask(path: str, *messages: dict[str, Any] | float, seconds: float = 0.05, largest: int = 100) -> None:
    """Send messages; a number is a pause, and after the last one nothing comes any more."""
    entrance = Entrance(read_all, largest, largest, largest, seconds)  # type: ignore[arg-type]  # a small application
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


@pytest.mark.parametrize("path", ["/predict", "/v1/models/m:predict", "/v2/models/m/infer", "/invocations"])
@pytest.mark.parametrize("begun", [[], [PIECE], [PIECE, 0.02, PIECE, 0.02, PIECE, 0.02, PIECE]])
def test_body_of_a_prediction_that_does_not_come_in_time_is_not_waited_for(path: str, begun: list[Any]) -> None:
    with pytest.raises(HTTPException) as refused:
        ask(path, *begun)
    assert refused.value.status_code == 408
    assert refused.value.headers == {"Connection": "close"}
    assert "within 0.05 s" in refused.value.detail


def test_answer_to_a_body_that_has_come_may_take_as_long_as_it_will() -> None:
    ask("/predict", PIECE, LAST, 0.2, GONE)


def test_other_bodies_may_take_as_long_as_they_will() -> None:
    ask("/datasets", PIECE, 0.2, LAST, GONE)


def test_body_that_turns_out_too_large_is_not_read_to_its_end() -> None:
    with pytest.raises(HTTPException) as refused:
        ask("/predict", *[PIECE] * 21)
    assert refused.value.status_code == 413
