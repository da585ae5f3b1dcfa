"""The application: routes, errors, request ids, and what lives as long as the process."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import datasets, errors, health, jobs, models, predict
from service.api.dependencies import Services
from service.api.errors import PROBLEM_TYPE, ProblemView
from service.sweeper import Sweeper

DESCRIPTION = "Train self-normalizing neural networks on your data and serve them."


def create_app(services: Services) -> FastAPI:
    """Return the application on these services; its lifespan runs the sweeper and closes the database."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeper = Sweeper(services.database, services.doorbell)
        sweeper.start()
        yield
        sweeper.stop()
        services.database.close()

    app = FastAPIOffline(
        redoc_url=None,
        title="Selfnorm",
        description=DESCRIPTION,
        version=version("selfnorm"),
        lifespan=lifespan,
        max_body_size=max(services.max_json_bytes, services.max_upload_bytes),
        responses={
            "default": {
                "model": ProblemView,
                "description": "An error, as RFC 9457 describes it",
                "content": {PROBLEM_TYPE: {}},
            }
        },
    )
    app.state.services = services
    errors.install(app)
    app.include_router(datasets.router, max_body_size=services.max_upload_bytes)
    for module in (jobs, models, predict, health):
        app.include_router(module.router, max_body_size=services.max_json_bytes)
    app.add_middleware(RequestId)
    return app


class RequestId:
    """Gives every request an id, which its answer carries and its errors name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        await self._app(scope, receive, send_with_id)
