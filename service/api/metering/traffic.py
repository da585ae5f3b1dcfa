"""Requests as /metrics tells of them: counted in plain Python as they are answered, added to the metrics now and then.

A metric that several processes share takes a lock and writes to a file in memory; a prediction is over in less time.
"""

import threading
from collections.abc import Sequence
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from service.domain.durations import BOUNDS, Durations
from service.logs import REQUEST

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""Stands for what a client has thought of; each would be a series of its own."""

REQUESTS = Counter(
    "selfnorm_http_requests",
    "Requests that were answered, by method, the route's template and status; no route is none",
    ("method", "route", "status"),
)
SECONDS = Histogram(
    "selfnorm_http_request_duration_seconds",
    "How long requests took, from their head to the last byte of their answer",
    ("method", "route"),
    buckets=BOUNDS,
)
IN_FLIGHT = Gauge("selfnorm_http_requests_in_flight", "Requests that are being answered", multiprocess_mode="livesum")


class Traffic:
    """What one event loop has answered; any thread may add it to the metrics."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._durations: dict[tuple[str, str], Durations] = {}
        self._answers: dict[tuple[str, str, int], int] = {}
        self._told: dict[Any, Any] = {}
        self._updating = threading.Lock()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that is over."""
        method = method if method in METHODS else OTHER
        durations = self._durations.get((method, route))
        if durations is None:
            durations = self._durations[method, route] = Durations()
        durations.add(seconds)
        key = (method, route, status)
        self._answers[key] = self._answers.get(key, 0) + 1

    def update(self) -> None:
        """Add what was counted since the last time."""
        with self._updating:
            IN_FLIGHT.set(self.in_flight)
            for (method, route, status), count in list(self._answers.items()):
                if new := count - self._told.get((method, route, status), 0):
                    REQUESTS.labels(method, route, status).inc(new)
                    self._told[method, route, status] = count
            for key, durations in list(self._durations.items()):
                now = list(durations.counts), durations.seconds
                counts, seconds = since(now, self._told.get(key))
                if any(counts):
                    add_durations(SECONDS.labels(*key), counts, seconds)
                self._told[key] = now


def answered_at_once(route: str, counts: Sequence[int], seconds: float) -> None:
    """Add predictions that took the short way, by bucket."""
    REQUESTS.labels("POST", route, 200).inc(sum(counts))
    add_durations(SECONDS.labels("POST", route), counts, seconds)


Told = tuple[list[int], float]


def since(now: Told, told: Told | None) -> Told:
    """Return what was counted after ``told``."""
    if told is None:
        return now
    return [new - old for new, old in zip(now[0], told[0], strict=True)], now[1] - told[1]


def add_durations(histogram: Histogram, counts: Sequence[int], seconds: float) -> None:
    """Add durations that have been counted; the client library can only take them one by one."""
    for bucket, count in zip(histogram._buckets, counts, strict=True):
        if count:
            bucket.inc(count)
    histogram._sum.inc(seconds)


def note_model(served: object) -> None:
    """Note which version the request that is being answered has asked."""
    state = REQUEST.get()
    if state is not None:
        state["served"] = served
