"""What routes need, handed to them by FastAPI: the services behind them, pages, strict bodies."""

import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from pydantic import BeforeValidator

from service.api.errors import malformed
from service.api.imports import ImportQueue
from service.domain import strict_json
from service.domain.errors import MalformedRequest
from service.domain.limits import Limits, TableLimits
from service.inference.sessions import SessionCache
from service.storage.database import Database
from service.storage.pages import MAX_PAGE_SIZE, PageRequest
from service.task_queue import Doorbell

LARGE_BODY_BYTES = 64 * 1024
"""A larger body is read in a thread, so that nobody waits behind it."""


@dataclass(frozen=True)
class Services:
    """Everything that routes work with; made by a root, closed by the application."""

    database: Database
    doorbell: Doorbell
    limits: Limits = field(default_factory=Limits)
    table_limits: TableLimits = field(default_factory=TableLimits)
    datasets_dir: Path | None = None
    max_json_bytes: int = 8 * 2**20
    max_upload_bytes: int = 512 * 2**20
    sessions: SessionCache = field(default_factory=SessionCache)
    imports: ImportQueue = field(default_factory=ImportQueue)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process is asked to end, so that held answers are let go."""


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _coerce_size(value: Any) -> Any:
    """Read a page size as generously as the contract says: any finite number, coerced to 1..100."""
    try:
        return int(min(max(float(value), 1), MAX_PAGE_SIZE))
    except (TypeError, ValueError, OverflowError):
        return value


def _page(
    page_size: Annotated[
        int, BeforeValidator(_coerce_size), Query(description="How many items; coerced to 1..100")
    ] = 50,
    page_token: Annotated[str | None, Query(max_length=200, description="next_page_token of the page before")] = None,
) -> PageRequest:
    return PageRequest(page_size, page_token)


ServicesDependency = Annotated[Services, Depends(_services)]
PageDependency = Annotated[PageRequest, Depends(_page)]


class StrictRequest(Request):
    """A request whose JSON is read by the strict reader."""

    async def json(self) -> Any:
        """Read the body."""
        body = await self.body()
        try:
            if len(body) > LARGE_BODY_BYTES:
                return await run_in_threadpool(strict_json.loads, body)
            return strict_json.loads(body)
        except MalformedRequest as error:
            raise malformed(error) from None


class StrictRoute(APIRoute):
    """A route that takes its JSON body strictly and only as ``application/json``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handle(request: Request) -> Response:
            strict = StrictRequest(request.scope, request.receive)
            if takes_json:
                _check_content_type(strict)
                if not await strict.body():
                    await strict.json()
            return await handler(strict)

        return handle


def media_type(header: str | None) -> str:
    """Return a content type without its parameters; empty where there is none."""
    if not header:
        return ""
    message = Message()
    message["content-type"] = header
    return message.get_content_type()


def _check_content_type(request: Request) -> None:
    kind = media_type(request.headers.get("content-type"))
    if kind != "application/json":
        got = kind[:64] or "no Content-Type"
        detail = f"the body must be application/json; got {got}. Send the header Content-Type: application/json"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
