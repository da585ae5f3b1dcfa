"""What one connection may take of this process: large heads, slow clients and too many connections are ended here.

Uvicorn waits for ever for the rest of a head, for a body that nobody reads any more, and for a client that takes
nothing of its answer. Once a second every connection is looked at, so that no request has to set a timer.
"""

import asyncio
import secrets
import threading
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.errors import CODES, PROBLEM_TYPE, RETRY_AFTER_SECONDS, ProblemView
from service.api.metering.refusals import SlowPart, slow_client_closed
from service.domain.limits import ConnectionBounds

TICK_SECONDS = 1.0
"""So much later than it should a deadline may be kept."""
LINGER_SECONDS = 5.0
"""So long what is still sent after a refusal is read and thrown away: closed at once, the client would not see it."""
LEAVE_SECONDS = 2
"""So long a connection that rests is kept when the process is to end: its client may ask at this very moment, and hears
with its next answer that it is the last. Closed at once, it would see its request vanish."""


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1 with bounds on heads, on slow clients and on how many there are."""

    cycle: Any
    """The request that came last, as uvicorn has it, or one that stands for it."""
    headers: list[tuple[bytes, bytes]]
    """Of the request that came last: another list for each, so that it also tells whether that is still the same."""
    bounds = ConnectionBounds()
    ending = threading.Event()
    """Set when the process has been asked to end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take what uvicorn gives."""
        super().__init__(*args, **options)
        self._is_refused = False
        self._is_ending = False
        self._has_come = False
        self._loose_bytes = 0
        self._read_bytes = 0
        self._waits_for: Any = None
        self._waited = 0.0
        self._unread = 0
        self._taken = 0
        self._stuck = 0.0
        self._has_drained = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a connection, if there are not too many."""
        super().connection_made(transport)
        if len(self.connections) > self.bounds.max_connections:
            detail = f"this process serves {self.bounds.max_connections:,} connections already; try again later"
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, detail, code="too_many_connections", lingers=False)
        elif self.ending.is_set():  # it was accepted just before
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        """Take bytes; those that are neither a whole head nor part of a body are counted."""
        if self._is_refused:
            return
        self._has_come = False
        self._read_bytes = self._loose_bytes + len(data)
        super().data_received(data)
        self._loose_bytes = 0 if self._has_come else self._read_bytes
        if self._loose_bytes > self.bounds.max_header_bytes:
            self._refuse_head(f"is larger than the {self.bounds.max_header_bytes:,} bytes")
        elif self.headers is not None and len(self.headers) > self.bounds.max_headers:  # trailers among them
            self._refuse_head(f"has more than the {self.bounds.max_headers:,} headers")

    def on_headers_complete(self) -> None:
        """Let the application answer."""
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._has_come = True
        super().on_body(body)

    def shutdown(self) -> None:
        """End the connection with the next answer that begins, or when none does for a while."""
        if self._is_ending:
            return
        self._is_ending = True
        self.timeout_keep_alive = min(self.timeout_keep_alive, LEAVE_SECONDS)
        if self._is_answering() and not self.cycle.response_started:
            self.cycle.keep_alive = False
        self.loop.call_later(LEAVE_SECONDS, self._leave)

    def _leave(self) -> None:
        """Close the connection, unless a request is under way: behind its answer it rests again, and as briefly."""
        if not self._is_answering() and not self._is_refused:
            self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def resume_writing(self) -> None:
        """Note that the client takes its answer."""
        self._has_drained = True
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn says the same of every fault
        """Refuse what cannot be read, or what ``check_head`` has just refused."""
        if not self._is_refused:
            self.refuse(HTTPStatus.BAD_REQUEST, "these bytes cannot be read as a request of HTTP/1.1")

    def check_head(self) -> None:
        """Refuse a head that is too large; called when it is whole, before anything else looks at it.

        Raises:
            HttpParserError: it is too large, and has been answered; the parser stops.
        """
        self._has_come = True
        bounds = self.bounds
        if len(self.url) > bounds.max_url_bytes:
            detail = f"the address has {len(self.url):,} bytes; at most {bounds.max_url_bytes:,} are taken"
            self.refuse(HTTPStatus.REQUEST_URI_TOO_LONG, detail)
        elif len(self.headers) > bounds.max_headers:
            self._refuse_head(f"has more than the {bounds.max_headers:,} headers")
        elif self._read_bytes > bounds.max_header_bytes and self._head_bytes() > bounds.max_header_bytes:
            self._refuse_head(f"is larger than the {bounds.max_header_bytes:,} bytes")
        if self._is_refused:
            raise httptools.HttpParserError("refused")

    def refuse(self, status: HTTPStatus, detail: str, *, code: str | None = None, lingers: bool = True) -> None:
        """Answer what the application is not to see, and end the connection."""
        self._is_refused = True
        self._waits_for, self._waited = None, 0.0
        if self.transport.is_closing():
            return
        is_answering = self._is_answering()
        if not is_answering:  # else this would stand in the middle of another answer
            self.transport.write(_problem(status, detail, code, self.server_state.default_headers))
        if lingers and not is_answering and self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def look(self, seconds: float) -> None:
        """Look at the connection, ``seconds`` after the last time, and end it where its client takes too long."""
        self._look_for_request(seconds)
        self._look_for_reader(seconds)

    def _look_for_request(self, seconds: float) -> None:
        """Give up a client that neither sends a whole head, nor is answered, nor rests between two requests."""
        is_answering = self._is_answering() and not self._is_refused
        if is_answering or self.timeout_keep_alive_task is not None or self.transport.is_closing():
            self._waits_for, self._waited = None, 0.0
            return
        if self._waits_for is not self.headers:
            self._waits_for, self._waited = self.headers, 0.0
        self._waited += seconds
        if self._is_refused and self._waited >= LINGER_SECONDS:
            self.transport.abort()
        elif not self._is_refused and self._waited >= self.bounds.header_seconds:
            self._give_up()

    def _give_up(self) -> None:
        if not self._loose_bytes:  # nobody has begun to ask; browsers open connections that they may need
            self.transport.close()
            return
        slow_client_closed(SlowPart.HEADERS)
        detail = f"the head of the request did not come within {self.bounds.header_seconds:g} s"
        self.refuse(HTTPStatus.REQUEST_TIMEOUT, detail, lingers=False)

    def _look_for_reader(self, seconds: float) -> None:
        """Give up a client that takes too little of its answer; what waits for it takes memory."""
        size = self.transport.get_write_buffer_size()
        if size == 0 or self._has_drained:
            self._stuck, self._taken = 0.0, 0
        else:
            self._taken += max(0, self._unread - size)
            self._stuck += seconds
        self._unread, self._has_drained = size, False
        if self._stuck >= self.bounds.reader_seconds:
            if self._taken < self._stuck * self.bounds.min_bytes_per_second:
                slow_client_closed(SlowPart.READING)
                self.transport.abort()
            self._stuck, self._taken = 0.0, 0

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)

    def _refuse_head(self, what: str) -> None:
        detail = f"the head of the request {what} that this service takes; send fewer or shorter headers"
        self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)


async def watch(connections: set[Any]) -> None:
    """Look at every connection once a second, for ever."""
    while True:
        await asyncio.sleep(TICK_SECONDS)
        for connection in list(connections):
            connection.look(TICK_SECONDS)  # counted by the tick: a process that stood still has not waited


def _problem(status: HTTPStatus, detail: str, code: str | None, others: list[tuple[bytes, bytes]]) -> bytes:
    code = code or CODES[status]
    request_id = secrets.token_hex(8)
    view = ProblemView(
        type=f"urn:selfnorm:problem:{code}",
        title=status.phrase,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id,
    )
    body = view.model_dump_json(exclude={"errors"}).encode()
    headers = [
        *others,
        (b"content-type", PROBLEM_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    lines = [b"HTTP/1.1 %d %b" % (status, status.phrase.encode()), *(b"%b: %b" % header for header in headers)]
    return b"\r\n".join([*lines, b"", body])
