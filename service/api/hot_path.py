"""The short way of a small prediction: from the bytes of a connection to the bytes of its answer.

A request that asks a loaded model for a few unremarkable rows needs no task, no thread and no routing: it is answered
where its last byte arrives, with all others that have arrived in the same turn of the event loop. Everything else,
and whatever is wrong, takes the way through the application, which answers the same or says why not.
"""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httptools
import numpy as np
from numpy.typing import NDArray
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.api.gate.connections import BoundedProtocol
from service.api.gate.request_rates import COUNTED
from service.api.gathering import Gathering
from service.domain.owners import DEFAULT_OWNER
from service.use_cases.serving import Served

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024
"""A larger body takes longer to read than others should wait."""
JSON = b"application/json"
HEAD = b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b"
READ_HEADERS = frozenset({b"content-length", b"content-type", b"accept", b"host", b"authorization"})
"""What the short way reads of a request; each of them once."""
PLAIN_HEADERS = frozenset(
    {b"user-agent", b"accept-encoding", b"connection", b"accept-language", b"cache-control", b"pragma"}
)
"""What changes nothing about an answer."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Rows that can be answered at once, and how the answer is written."""

    served: Served
    encoded: NDArray[np.float64]
    """(rows, encoded columns), none of them far outside."""
    write: Callable[[NDArray[np.floating]], bytes]
    """Returns the JSON text of the answer."""


Route = Callable[[str, bytes, bytes], Ready | None]
"""Takes an owner, a path and a body; returns None for what has to take the other way."""


@dataclass(frozen=True, slots=True)
class HotPath:
    """Which requests take the short way."""

    gathering: Gathering
    find: Callable[[bytes], Route | None]
    """Takes a path with its query, as it was sent."""
    template: Callable[[bytes], str]
    """Takes the same; returns the route's template, under which its answers are counted."""
    max_body_bytes: int = MAX_BODY_BYTES
    admit: Callable[[bytes | None, bytes | None], str | None] = lambda _authorization, _host: DEFAULT_OWNER
    """Takes what a request says of its key and of its host; returns its owner, None where the application is to say."""
    take: Callable[[str], bool] | None = None
    """Counts a request of an owner; false for one too many."""
    headers: bytes = b""
    """What every answer says beside, as lines."""


class _Nobody:
    """Stands for the event of a request that waits for no more of its body."""

    def set(self) -> None:
        """Do nothing."""


NOBODY = _Nobody()


class _Waiting:
    """Stands for the request that waits, where uvicorn looks for one that its application answers."""

    response_started = False

    def __init__(
        self,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        ready: Ready,
        began: float,
        *,
        keep_alive: bool,
    ) -> None:
        self.began = began
        self.url = url
        self.headers = headers
        self.body = body
        self.ready = ready
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = keep_alive
        self.message_event = NOBODY


class HotProtocol(BoundedProtocol):
    """Uvicorn's HTTP/1.1, with a short way for small predictions."""

    cycle: Any
    """The request that came last, as uvicorn has it, or one that waits here; none of those that were answered here."""
    hot: HotPath
    on_close: Callable[[], None] | None = None
    """Called when the connection has ended."""
    _ids = itertools.count()
    _id_prefix = secrets.token_hex(4)

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take what uvicorn gives."""
        super().__init__(*args, **options)
        self._route: Route | None = None
        self._owner = DEFAULT_OWNER
        self._parts: list[bytes] = []
        self._seen: Any = None
        self._answering: RequestResponseCycle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        super().connection_lost(exc)
        answering = self._answering
        # Uvicorn tells the request that came last; one that is answered before it would write to what is closed.
        if answering is not None and answering is not self.cycle and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()
        if self.on_close is not None:
            self.on_close()

    def shutdown(self) -> None:
        """End the connection soon; a request whose body is on its way is answered first."""
        self._leave_short_way()
        super().shutdown()

    def look(self, seconds: float) -> None:
        """Let the application wait for a body that has not come within a second: it has deadlines."""
        if self._route is not None and self._seen is self.headers:
            self._leave_short_way()
        self._seen = None if self._route is None else self.headers
        super().look(seconds)

    def on_headers_complete(self) -> None:
        """Choose the way."""
        self.check_head()
        self._route = self._short_way()
        if self._route is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        if self._route is None:
            super().on_body(body)
        else:
            self._has_come = True
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer, or hand over to the application what cannot be answered at once."""
        route = self._route
        if route is None:
            super().on_message_complete()
            return
        began = time.perf_counter()
        body, self._route, self._parts = b"".join(self._parts), None, []
        try:
            ready = route(self._owner, self.url, body)
        except Exception:  # the application answers it, and fails in its own way if it does
            logger.exception("a request could not take the short way")
            ready = None
        if ready is None:
            self._hand_over(self.url, self.headers, body)
            return
        waiting = _Waiting(self.url, self.headers, body, ready, began, keep_alive=not self._is_ending)
        self.cycle = waiting
        self.hot.gathering.add(ready.served, ready.encoded, lambda values: self._answer(waiting, values))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _leave_short_way(self) -> None:
        """Hand a request whose body is on its way over to the application."""
        if self._route is None:
            return
        parts, self._route, self._parts = self._parts, None, []
        super().on_headers_complete()
        for part in parts:
            super().on_body(part)

    def _short_way(self) -> Route | None:
        route = self.hot.find(self.url)
        owner = None if route is None else self._owner_of_plain_request()
        if route is None or owner is None:
            return None
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if is_busy or self.pipeline or self.flow.write_paused:
            return None
        if self.hot.take is not None and not self.hot.take(owner):
            return None
        self._owner = owner
        self.scope["state"][COUNTED] = True  # wherever it is answered
        return route

    def _owner_of_plain_request(self) -> str | None:
        """Return for whom a request is: a small JSON body on a connection that stays, and asks for JSON; else None."""
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return None
        found: dict[bytes, bytes] = {}
        for name, value in self.headers:
            if name in READ_HEADERS and name not in found:
                found[name] = value
            elif name not in PLAIN_HEADERS:  # such as a second key
                return None
        length = found.get(b"content-length", b"")
        is_small = length.isdigit() and int(length) <= self.hot.max_body_bytes
        if not is_small or found.get(b"content-type") != JSON or found.get(b"accept", JSON) not in (b"*/*", JSON):
            return None
        return self.hot.admit(found.get(b"authorization"), found.get(b"host"))

    def _answer(self, waiting: _Waiting, values: NDArray[np.floating] | None) -> None:
        if self.transport.is_closing():
            return
        body = None if values is None else self._written(waiting, values)
        waiting.response_complete = True
        if body is None:
            self._hand_over(waiting.url, waiting.headers, waiting.body, waiting)
            return
        self.transport.write(self._head(len(body), keep_alive=waiting.keep_alive) + body)
        self._count(waiting)
        if self.cycle is waiting:
            self.cycle = None  # nothing of it is kept
        if not waiting.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _count(self, waiting: _Waiting) -> None:
        """Count an answer for /metrics; ``benchmarks.metrics_cost`` measures what that takes."""
        served, route = waiting.ready.served, self.hot.template(waiting.url)
        served.durations_of(route).add(time.perf_counter() - waiting.began)

    def _written(self, waiting: _Waiting, values: NDArray[np.floating]) -> bytes | None:
        try:
            return waiting.ready.write(values)
        except Exception:  # as where it could not be read
            logger.exception("an answer could not take the short way")
            return None

    def _head(self, length: int, *, keep_alive: bool) -> bytes:
        others = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        request_id = b"%b%08x" % (self._id_prefix.encode(), next(self._ids) & 0xFFFFFFFF)
        end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
        return HEAD % (others + self.hot.headers, length, request_id, end)

    def _hand_over(
        self, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes, waiting: _Waiting | None = None
    ) -> None:
        """Let the application answer a request whose body has come, as uvicorn does (``on_headers_complete``)."""
        parsed = httptools.parse_url(url)
        path = parsed.path.decode("ascii")
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "headers": headers,
            "state": {**self.app_state, COUNTED: True},
            "method": "POST",
            "path": self.root_path + unquote(path),
            "raw_path": self.root_path.encode("ascii") + parsed.path,
            "query_string": parsed.query or b"",
        }
        cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=not self._is_ending if waiting is None else waiting.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        if waiting is None or self.cycle is waiting:  # else the next request has come already, and waits for this one
            self.cycle = cycle
        self._start_asgi_task(cycle, self.app)
