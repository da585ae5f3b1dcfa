"""Waits for what ends by itself: a job, a prediction over a data set, a comparison."""

import time
from typing import TYPE_CHECKING, TypeVar

from service.client import answers
from service.client.errors import ConnectionFailed, JobCancelled, JobFailed, JobTimeout, Unavailable
from service.client.progress import Progress, reporting
from service.client.steps import Call, Exchange, Pause, Steps
from service.domain.jobs import JobState

if TYPE_CHECKING:
    from service.api.views.comparisons import ComparisonView
    from service.api.views.jobs import JobView
    from service.api.views.predictions import PredictionJobView

Waited = TypeVar("Waited", "JobView", "PredictionJobView", "ComparisonView")

HOLD_SECONDS = 30.0
"""How long the service is asked to hold its answer back; it gives it as soon as there is an end."""
LOOK_SECONDS = 0.5
"""The same, where somebody looks on."""
SOON_SECONDS = 0.2
"""An answer that came back sooner than this was not held, for the service is about to end."""
AWAY_SECONDS = 1.0
"""How long a service that is away is left alone, where it has not said for how long."""
PATIENCE_SECONDS = 180.0
"""A service that is away for less than this is waited for: it may be starting again."""


def wait_for(
    path: str, kind: type[Waited], what: str, timeout_seconds: float | None, progress: Progress[Waited]
) -> Steps[Waited]:
    """Wait until what is under a path has ended well; its answers are of a kind, and are held until then.

    Raises:
        JobFailed, JobCancelled: it ended otherwise.
        JobTimeout: the time was over before.
        ConnectionFailed, Unavailable: the service was away for too long.
    """
    answered: float | None = None
    until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    with reporting(progress, what) as report:
        while True:
            asked = time.monotonic()
            left = HOLD_SECONDS if until is None else max(until - asked, 0)
            hold = min(left, HOLD_SECONDS if report is None else LOOK_SECONDS)
            try:
                job = yield from _read(path, kind, hold)
            except (ConnectionFailed, Unavailable) as failure:
                if answered is None or time.monotonic() - answered > PATIENCE_SECONDS or left <= 0:
                    raise
                asked_for = getattr(failure, "retry_after_seconds", None) or AWAY_SECONDS
                yield Pause(min(max(SOON_SECONDS, asked_for), left, HOLD_SECONDS))
                continue
            answered = time.monotonic()
            if report is not None:
                report(job)
            if job.state.is_final:
                return _ended(job, what)
            if until is not None and answered >= until:
                raise JobTimeout(job, f"{what} {job.id} is still {job.state} after {timeout_seconds:g} s; it goes on")
            if answered - asked < min(SOON_SECONDS, hold):
                yield Pause(SOON_SECONDS)


def _read(path: str, kind: type[Waited], hold_seconds: float) -> Call[Waited]:
    params = {"wait": hold_seconds} if hold_seconds else {}
    return Call(Exchange("GET", path, params, wait_seconds=hold_seconds), answers.view(kind))


def _ended(job: Waited, what: str) -> Waited:
    if job.state == JobState.CANCELLED:
        raise JobCancelled(job, f"{what} {job.id} was cancelled")
    if job.state == JobState.FAILED:
        error = getattr(job, "error", None)
        why = "a job of it failed" if error is None else f"{error.code}: {error.detail}"
        raise JobFailed(job, f"{what} {job.id} failed: {why}")
    return job
