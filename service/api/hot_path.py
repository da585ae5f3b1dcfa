"""The short way of a small prediction: from the bytes of a connection to the bytes of its answer.

A request that asks a loaded model for a few unremarkable rows needs no task, no thread and no routing: it is answered
where its last byte arrives, with all others that have arrived in the same turn of the event loop. Everything else,
and whatever is wrong, takes the way through the application, which answers the same or says why not.
"""

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httptools
import numpy as np
from numpy.typing import NDArray
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.gathering import Gathering
from service.use_cases.serving import Served

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024
"""A larger body takes longer to read than others should wait."""
JSON = b"application/json"
HEAD = b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b"
PLAIN_HEADERS = frozenset(
    {b"host", b"user-agent", b"accept-encoding", b"connection", b"accept-language", b"cache-control", b"pragma"}
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


Route = Callable[[bytes, bytes], Ready | None]
"""Takes a path and a body; returns None for what has to take the other way."""


@dataclass(frozen=True, slots=True)
class HotPath:
    """Which requests take the short way."""

    gathering: Gathering
    find: Callable[[bytes], Route | None]
    """Takes a path with its query, as it was sent."""
    max_body_bytes: int = MAX_BODY_BYTES


class _Nobody:
    """Stands for the event of a request that waits for no more of its body."""

    def set(self) -> None:
        """Do nothing."""


NOBODY = _Nobody()


class _Waiting:
    """Stands for the request that waits, where uvicorn looks for one that its application answers."""

    def __init__(self, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes, ready: Ready) -> None:
        self.url = url
        self.headers = headers
        self.body = body
        self.ready = ready
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.message_event = NOBODY


class HotProtocol(HttpToolsProtocol):
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
        self._parts: list[bytes] = []
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
        """End the connection; a request whose body is on its way is answered first."""
        if self._route is not None:
            parts, self._route, self._parts = self._parts, None, []
            super().on_headers_complete()
            for part in parts:
                super().on_body(part)
        super().shutdown()

    def on_headers_complete(self) -> None:
        """Choose the way."""
        self._route = self._short_way()
        if self._route is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        if self._route is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer, or hand over to the application what cannot be answered at once."""
        route = self._route
        if route is None:
            super().on_message_complete()
            return
        body, self._route, self._parts = b"".join(self._parts), None, []
        try:
            ready = route(self.url, body)
        except Exception:  # the application answers it, and fails in its own way if it does
            logger.exception("a request could not take the short way")
            ready = None
        if ready is None:
            self._hand_over(self.url, self.headers, body)
            return
        waiting = _Waiting(self.url, self.headers, body, ready)
        self.cycle = waiting
        self.hot.gathering.add(ready.served, ready.encoded, lambda values: self._answer(waiting, values))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _short_way(self) -> Route | None:
        route = self.hot.find(self.url)
        if route is None or not self._is_plain_request():
            return None
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if is_busy or self.pipeline or self.flow.write_paused:
            return None
        return route

    def _is_plain_request(self) -> bool:
        """Whether a request is a whole small JSON body on a connection that stays, and asks for JSON."""
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return False
        length = kind = None
        for name, value in self.headers:
            if name == b"content-length":
                length = value
            elif name == b"content-type" and kind is None:
                kind = value
            elif name == b"accept":
                if value not in (b"*/*", JSON):
                    return False
            elif name not in PLAIN_HEADERS:
                return False
        return kind == JSON and length is not None and length.isdigit() and int(length) <= self.hot.max_body_bytes

    def _answer(self, waiting: _Waiting, values: NDArray[np.floating] | None) -> None:
        if self.transport.is_closing():
            return
        body = None if values is None else self._written(waiting, values)
        waiting.response_complete = True
        if body is None:
            self._hand_over(waiting.url, waiting.headers, waiting.body, waiting)
            return
        self.transport.write(self._head(len(body), keep_alive=waiting.keep_alive) + body)
        if self.cycle is waiting:
            self.cycle = None  # nothing of it is kept
        if not waiting.keep_alive:
            self.transport.close()
        self.on_response_complete()

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
        return HEAD % (others, length, request_id, end)

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
            "state": self.app_state.copy(),
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
            keep_alive=waiting is None or waiting.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        if waiting is None or self.cycle is waiting:  # else the next request has come already, and waits for this one
            self.cycle = cycle
        self._start_asgi_task(cycle, self.app)
