"""JSON bodies, taken strictly: their type, how much they may hold, and how they are read."""

from collections.abc import Callable, Coroutine
from email.message import Message
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.errors import malformed
from service.api.gate.scopes import ScopedRoute
from service.domain import strict_json
from service.domain.errors import MalformedRequest

LARGE_BODY_BYTES = 64 * 1024
"""A larger body is read in a thread, so that nobody waits behind it."""
MAX_VALUES = 50_000
"""The most values of a JSON body that holds no rows, all lists and objects together: some for each of many columns."""
MAX_FIELDS = 1_000
"""The most fields of a JSON body itself; no route knows a tenth of them."""


class StrictRequest(Request):
    """A request whose JSON is read by the strict reader."""

    max_values: int | None = MAX_VALUES
    """Of a body; None where it may hold rows, which are not looked at one by one."""

    async def json(self) -> Any:
        """Read the body."""
        body = await self.body()
        # Whatever is wrong with a value takes a kilobyte and some microseconds to say.
        if self.max_values is not None and body.count(b",") >= self.max_values:
            raise _too_many("values", body.count(b",") + 1, self.max_values)
        try:
            if len(body) > LARGE_BODY_BYTES:
                value = await run_in_threadpool(strict_json.loads, body)
            else:
                value = strict_json.loads(body)
        except MalformedRequest as error:
            raise malformed(error) from None
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise _too_many("fields", len(value), MAX_FIELDS)
        return value


class StrictRoute(ScopedRoute):
    """A route that takes its JSON body strictly and only as ``application/json``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handle(request: Request) -> Response:
            is_strict = isinstance(request, StrictRequest)  # then its body may have been read
            strict = request if is_strict else StrictRequest(request.scope, request.receive)
            if takes_json:
                _check_content_type(strict)
                if not await strict.body():
                    await strict.json()
            return await handler(strict)

        return handle


def _too_many(what: str, count: int, allowed: int) -> HTTPException:
    detail = f"the body holds {count:,} {what}; at most {allowed:,} are taken here"
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


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
