"""When a call is made again: after which failures, how often, after which pause, and under which key."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2

from service.client.answers import error_of
from service.client.errors import ApiError, ConnectionFailed
from service.client.steps import Call, Exchange, Pause, Result

FIRST_PAUSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 8.0
MAX_RETRY_AFTER_SECONDS = 60.0
"""A service that asks for a longer pause is not waited for; the error says how long it would be."""
AGAIN = frozenset({429, 502, 503, 504})
"""What is refused for the moment; the same request may be taken later."""
STILL_RUNNING = "request_still_running"
STILL_RUNNING_SECONDS = 600.0
"""So long the first try of a request may take beyond its time-out; the service reads tables for minutes."""
STILL_RUNNING_PAUSE_SECONDS = 1.0
HOPELESS = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
"""What fails on this machine, before anything is sent; it would fail again."""
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, *HOPELESS)
"""Failures before which the service has had nothing of the request."""
UNSERVED = frozenset({429, 503})
"""Refusals of a service that has not done what was asked; a gateway's 502 and 504 do not say whether it has."""
KEY = "Idempotency-Key"


@dataclass
class Patience:
    """How often the calls of a client are made again."""

    url: str
    retries: int
    is_reached: bool = field(default=False, init=False)
    """Whether anything was ever there. Where nothing was, the service is likely not running, and is not waited for."""

    def carry_out(self, call: Call[Result]) -> Generator[Exchange | Pause, Any, Result]:
        """Make a call until it is answered, or there is no use in making it again.

        Raises:
            ConnectionFailed: no answer came.
            ApiError: the answer is no success.
            UnexpectedAnswer: it cannot be read.
        """
        exchange = _keyed(call.exchange) if call.creates else call.exchange
        failures = 0
        may_be_done = False
        until: float | None = None
        while True:
            failure: ApiError | ConnectionFailed
            try:
                answer: httpx2.Response = yield exchange
            except httpx2.TransportError as error:
                failure = self.lost(error)
                may_be_done |= not isinstance(error, UNSENT)
            else:
                self.is_reached = True
                is_gone = call.removes and may_be_done and answer.status_code == httpx2.codes.NOT_FOUND
                if answer.is_success or is_gone:
                    return call.read(answer)
                failure = error_of(answer)
                may_be_done |= answer.status_code not in UNSERVED
                if failure.code == STILL_RUNNING:
                    until = until or time.monotonic() + STILL_RUNNING_SECONDS
                    if time.monotonic() < until:
                        asked = failure.retry_after_seconds or STILL_RUNNING_PAUSE_SECONDS
                        yield Pause(min(asked, MAX_RETRY_AFTER_SECONDS))
                        continue
            failures += 1
            seconds = self._pause(failure, failures)
            if seconds is None:
                raise failure
            yield Pause(seconds)

    def lost(self, error: httpx2.TransportError) -> ConnectionFailed:
        """Return the error of a connection that broke, or never was."""
        self.is_reached |= not isinstance(error, UNSENT)
        # What h11 says of a header that it refuses holds the header, which may be the key.
        said = "" if isinstance(error, httpx2.LocalProtocolError) else str(error)
        failure = ConnectionFailed(self.url, said or type(error).__name__, is_hopeless=isinstance(error, HOPELESS))
        failure.__cause__ = None if isinstance(error, httpx2.LocalProtocolError) else error
        return failure

    def _pause(self, failure: ApiError | ConnectionFailed, failures: int) -> float | None:
        """Return how long to wait before the next try; None where there is to be none."""
        if failures > self.retries or (failures > 1 and not self.is_reached):
            return None
        pause = backed_off(failures)
        if isinstance(failure, ConnectionFailed):
            return None if failure.is_hopeless else pause
        if failure.status not in AGAIN:
            return None
        asked = failure.retry_after_seconds or 0
        return None if asked > MAX_RETRY_AFTER_SECONDS else max(pause, asked)


def backed_off(failures: int) -> float:
    """Return a pause that doubles with every failure, and of which each client draws a part of its own."""
    return min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**failures) * random.uniform(0.5, 1)


def _keyed(exchange: Exchange) -> Exchange:
    return replace(exchange, headers={**exchange.headers, KEY: str(uuid.uuid4())})
