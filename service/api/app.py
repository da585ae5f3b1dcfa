"""The application: routes, errors, request ids, and what lives as long as the process."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import (
    comparisons,
    datasets,
    diagnostics,
    errors,
    events,
    health,
    inputs,
    jobs,
    metrics,
    models,
    plots,
    predict,
    predictions,
)
from service.api.dashboard import registration as dashboard
from service.api.dependencies import Services, database_answers
from service.api.errors import PROBLEM_TYPE, RETRY_AFTER_SECONDS, ProblemView, problem
from service.api.protocols import registration as protocols
from service.api.protocols.faults import rephrase
from service.sweeper import Sweeper

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 4.0
"""With what the server gives to requests under way, it makes less than 20 s."""
PREDICTING = ("/v1/models/", "/v2/models/", "/invocations")
"""Where rows are answered under other protocols."""
BODY_SECONDS = 60.0
"""The longest that the body of a prediction may take: few large ones are let in at once, others wait until they end."""
DESCRIPTION = "Train self-normalizing neural networks on your data and serve them."


def create_app(services: Services) -> FastAPI:
    """Return the application on these services; its lifespan runs the sweeper and closes the database."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeper = Sweeper(services.database)
        services.database.watch.start()
        sweeper.start()
        services.serving.start()
        yield
        services.gathering.close()
        await _close(services.serving.stop, sweeper.stop, services.doorbell.close, services.database.close)

    app = FastAPIOffline(
        redoc_url=None,
        title="Selfnorm",
        description=DESCRIPTION,
        version=version("selfnorm"),
        lifespan=lifespan,
        responses={"default": {"model": ProblemView, "description": "An error, as RFC 9457 describes it"}},
    )
    app.state.services = services
    describe = app.openapi
    app.openapi = lambda: _with_problem_type(describe())  # type: ignore[method-assign]  # FastAPI's documented hook
    errors.install(app)
    for module in (datasets, jobs, comparisons, diagnostics, plots, events, models, inputs, predictions):
        app.include_router(module.router, dependencies=[Depends(database_answers)])
    for module in (predict, health, metrics):
        app.include_router(module.router)
    protocols.install(app)
    dashboard.install(app)
    app.add_middleware(
        Entrance,
        max_body_bytes=services.max_json_bytes,
        max_predict_bytes=services.max_predict_bytes,
        max_upload_bytes=services.max_upload_bytes,
    )
    return app


async def _close(*ends: Callable[[], object]) -> None:
    """End the parts of the process, in a thread that is left behind where one of them hangs."""
    thread = threading.Thread(target=lambda: [end() for end in ends], name="close", daemon=True)
    thread.start()
    deadline = time.monotonic() + CLOSE_SECONDS
    while thread.is_alive():
        if time.monotonic() > deadline:
            logger.warning("not everything could be closed in %g s; a broker or a database hangs", CLOSE_SECONDS)
            return
        await asyncio.sleep(0.02)


def _with_problem_type(schema: dict[str, Any]) -> dict[str, Any]:
    """Give errors the media type that they have; FastAPI describes every model as application/json."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            content = operation["responses"]["default"]["content"]
            # The protocols have errors of their own, which are plain JSON.
            if content.get("application/json") == {"schema": {"$ref": "#/components/schemas/ProblemView"}}:
                content[PROBLEM_TYPE] = content.pop("application/json")
    return schema


class Entrance:
    """Gives every request an id, which its answer carries and its errors name; turns too large bodies away."""

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        max_predict_bytes: int,
        max_upload_bytes: int,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._body_seconds = body_seconds
        self._max_body_bytes = max_body_bytes
        self._max_predict_bytes = max_predict_bytes
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                others = [header for header in message["headers"] if header[0] != b"x-request-id"]
                message["headers"] = [*others, (b"x-request-id", request_id.encode())]
            await send(message)

        limit = self._limit(scope["path"])
        if refusal := _refusal(Request(scope), limit):
            await rephrase(scope["path"], refusal)(scope, receive, send_with_id)
            return
        if self._is_prediction(scope["path"]):
            receive = _timely(receive, self._body_seconds)
        try:
            await self._app(scope, _counted(receive, limit), send_with_id)
        except asyncio.CancelledError:
            # The server has been asked to end and can wait no longer; without this its client would see a 500.
            if has_begun:
                raise
            await rephrase(scope["path"], _ending(Request(scope)))(scope, receive, send_with_id)

    def _limit(self, path: str) -> int:
        """Return how many bytes a body may have."""
        if path == "/datasets":
            return self._max_upload_bytes
        return self._max_predict_bytes if self._is_prediction(path) else self._max_body_bytes

    def _is_prediction(self, path: str) -> bool:
        return path == "/predict" or path.startswith(PREDICTING)


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


def _timely(receive: Receive, seconds: float) -> Receive:
    """Give a body so many seconds from when it is first asked for; what comes after it may take as long as it will."""
    until: float | None = None
    is_whole = False

    async def receiving() -> Message:
        nonlocal until, is_whole
        if is_whole:
            return await receive()
        until = asyncio.get_running_loop().time() + seconds if until is None else until
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            detail = f"the body did not come within {seconds:g} s; send less at once"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, {"Connection": "close"}) from None
        is_whole = not message.get("more_body", False)
        return message

    return receiving


def _too_large(limit: int) -> str:
    return f"the body is larger than the {limit:,} bytes that this service takes here; send less at once"
