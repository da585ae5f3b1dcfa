"""What every request passes outermost: it is named, counted, traced, and told of in the log when it is over."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import tracing
from service.api.metering.traffic import Traffic
from service.logs import REQUEST

logger = logging.getLogger(__name__)

NO_ROUTE = "none"
"""Of requests that were refused before a route was looked for, or that no route takes."""
GONE = 499
"""The status of a request whose client went away before it was answered; it is in nobody's answer."""
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""What machines ask all the time: told of at the level debug."""
PLAIN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Observation:
    """Watches requests; it changes nothing about them but their names."""

    def __init__(self, app: ASGIApp, traffic: Traffic, *, logs_access: bool) -> None:
        self._app = app
        self._traffic = traffic
        self._logs_access = logs_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        _name(state, scope["headers"])
        REQUEST.set(state)
        began, status, size = time.perf_counter(), GONE, 0

        def watching(message: Message) -> Awaitable[None]:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            return send(message)

        self._traffic.in_flight += 1
        span = tracing.start_request(scope) if tracing.is_on() and scope["path"] not in QUIET else None
        try:
            await self._app(scope, receive, watching)
        except asyncio.CancelledError:
            raise
        except BaseException:
            status = 500  # it is answered outside of this
            raise
        finally:
            self._traffic.in_flight -= 1
            route = _route(scope)
            if span is not None:
                tracing.end_request(span, scope["method"], route, status)
            self._tell(scope, route, status, size, time.perf_counter() - began)

    def _tell(self, scope: Scope, route: str, status: int, size: int, seconds: float) -> None:
        method = scope["method"]
        self._traffic.answered(method, route, status, seconds)
        served = scope["state"].get("served")
        if served is not None and status < 300:
            served.durations_of("").add(seconds)
        if self._logs_access:
            level = logging.DEBUG if route in QUIET and status < 500 else logging.INFO
            client = scope.get("client")
            told = {
                "method": method,
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
                "bytes": size,
                "client": client[0] if client else None,
            }
            logger.log(level, "%s %s %d", method, route, status, extra=told)


def _name(state: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
    """Give a request its id, and note what its client calls it where that is a plain word."""
    state["request_id"] = secrets.token_hex(8)
    for name, value in headers:
        if name == b"x-request-id" and PLAIN_ID.fullmatch(value):
            state["client_request_id"] = value.decode()
        elif name == b"traceparent" and (found := TRACEPARENT.fullmatch(value)):
            state["trace_id"] = found.group(1).decode()


def _route(scope: Scope) -> str:
    """Return the template of the route that a request took; an address may hold what nobody should read."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else NO_ROUTE
