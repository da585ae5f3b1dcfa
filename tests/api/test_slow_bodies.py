import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response

from service.api import errors
from service.api.gate.entrance import Entrance
from service.domain.limits import ConnectionBounds


def application(body_seconds: float) -> FastAPI:
    """One that reads a body behind the entrance, and then waits for what comes after it."""
    app = FastAPI()
    errors.install(app)

    @app.post("/{path:path}")
    async def read(request: Request) -> Response:
        return Response(await request.body())

    limit = 1000
    app.add_middleware(
        Entrance,
        max_body_bytes=limit,
        max_predict_bytes=limit,
        max_upload_bytes=limit,
        bounds=ConnectionBounds(body_seconds=body_seconds),
    )
    return app


def ask(app: FastAPI, path: str, receive: Callable[[], Awaitable[Any]]) -> tuple[int, bytes]:
    """Ask as a server would, with a body that comes as ``receive`` has it."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def half_a_body() -> Any:
    """Never gives the rest."""
    await asyncio.Event().wait()


def test_body_that_does_not_come_is_given_up() -> None:
    app = application(0.05)
    for path in ("/jobs", "/predict", "/v2/models/m/infer", "/invocations"):
        status, body = ask(app, path, half_a_body)
        answer = json.loads(body)
        assert status == 408
        assert "did not come within 0.05 s" in (answer.get("detail") or answer.get("error") or answer["message"])


def test_body_that_comes_piece_by_piece_is_read() -> None:
    pieces = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"c", "more_body": False},
    ]

    async def receive() -> Any:
        return pieces.pop(0)

    assert ask(application(60), "/predict", receive) == (200, b"abc")
