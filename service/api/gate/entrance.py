"""What every request passes first: it gets an id and deadlines; what its head or its size forbids is refused."""

import asyncio
import secrets
from collections.abc import Callable
from http import HTTPStatus

from fastapi import HTTPException, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import RETRY_AFTER_SECONDS, problem
from service.api.gate.deadlines import AnswerDeadline, flowing, within
from service.api.rephrasing import rephrase
from service.domain.limits import ConnectionBounds

UPLOADS = "/datasets"
"""Where files come in; reading one has a deadline of its own, and those that wait for their turn are few."""
PREDICTING = ("/v1/models/", "/v2/models/", "/invocations")
"""Where rows are answered under other protocols."""
MAX_PUBLIC_BYTES = 4 * 1024
"""What anybody may send without a key, such as the form that signs in; reading a form of megabytes takes seconds."""


class Entrance:
    """Gives every request an id, which its answer carries and its errors name; turns too large bodies away."""

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        max_predict_bytes: int,
        max_upload_bytes: int,
        bounds: ConnectionBounds | None = None,
        is_public: Callable[[str], bool] = lambda _path: False,
    ) -> None:
        """``is_public`` tells the addresses that need no key."""
        self._app = app
        self._bounds = bounds or ConnectionBounds()
        self._is_public = is_public
        self._max_body_bytes = max_body_bytes
        self._max_predict_bytes = max_predict_bytes
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        request_id = state.get("request_id")
        if request_id is None:
            request_id = state["request_id"] = secrets.token_hex(8)
        send = _with_id(send, request_id)
        request = Request(scope)
        limit = self._limit(scope["path"])
        if refusal := _refusal(request, limit):
            await rephrase(scope["path"], refusal)(scope, receive, send)
            return
        await self._serve(request, _counted(self._timely(request, receive), limit), send)

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        """Let the application answer, if it begins to in time and the process is not asked to end before."""
        path, seconds = request.scope["path"], self._bounds.answer_seconds

        async def answer_late(send: Send) -> None:
            await rephrase(path, _late(request, seconds))(request.scope, receive, send)

        deadline = AnswerDeadline(send, None if path == UPLOADS else seconds, answer_late)
        deadline.start()
        try:
            await self._app(request.scope, _extending(receive, deadline), deadline.send)
        except asyncio.CancelledError:
            if deadline.is_over:
                await deadline.answered()
                return
            # The server has been asked to end and can wait no longer; without this its client would see a 500.
            if deadline.has_begun:
                raise
            await rephrase(path, _ending(request))(request.scope, receive, send)
        finally:
            deadline.stop()

    def _timely(self, request: Request, receive: Receive) -> Receive:
        bounds = self._bounds
        if request.scope["path"] == UPLOADS:
            return flowing(receive, bounds.body_seconds, bounds.min_bytes_per_second)
        return within(receive, bounds.body_seconds)

    def _limit(self, path: str) -> int:
        """Return how many bytes a body may have."""
        if path == UPLOADS:
            return self._max_upload_bytes
        if self._is_prediction(path):
            return self._max_predict_bytes
        return min(MAX_PUBLIC_BYTES, self._max_body_bytes) if self._is_public(path) else self._max_body_bytes

    def _is_prediction(self, path: str) -> bool:
        return path == "/predict" or path.startswith(PREDICTING)


def _with_id(send: Send, request_id: str) -> Send:
    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [header for header in message["headers"] if header[0] != b"x-request-id"]
            message["headers"] = [*others, (b"x-request-id", request_id.encode())]
        await send(message)

    return send_with_id


def _extending(receive: Receive, deadline: AnswerDeadline) -> Receive:
    """Count the time of an answer from when the last piece of the body has come."""

    async def extending() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            deadline.start()
        return message

    return extending


def _refusal(request: Request, limit: int) -> Response | None:
    """Answer what can be refused by its head alone."""
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        # PostgreSQL has no text with NUL.
        return problem(request, HTTPStatus.BAD_REQUEST, "the address holds a NUL character; leave it out")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        return problem(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(limit))
    return None


def _ending(request: Request) -> Response:
    detail = "this service is ending and could not finish what was asked; ask again in a few seconds"
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers)


def _late(request: Request, seconds: float) -> Response:
    detail = f"the answer did not begin within {seconds:g} s, so it is not waited for; ask for less, or try again later"
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, detail, "too_late", headers=headers)


def _counted(receive: Receive, limit: int) -> Receive:
    """Count the bytes of a body as they come; more than the limit end the request."""
    total = 0

    async def counting() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > limit:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(limit))
        return message

    return counting


def _too_large(limit: int) -> str:
    return f"the body is larger than the {limit:,} bytes that this service takes here; send less at once"
