"""Answers that are held until a job has ended, and that carry the hash of what they say."""

import hashlib
import time
from collections.abc import Callable
from typing import Annotated, Protocol, TypeVar

import anyio
from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.services import Services
from service.domain.jobs import JobState

MAX_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.1
MAX_POLL_SECONDS = 0.5

WaitParameter = Annotated[
    float,
    Query(
        ge=0,
        allow_inf_nan=False,
        description="Hold the answer until the job has ended or so many seconds have gone",
    ),
]


class _Job(Protocol):
    @property
    def state(self) -> JobState: ...


Job = TypeVar("Job", bound=_Job)


async def wait_for(services: Services, read: Callable[[], Job], seconds: float) -> Job:
    """Read a job, again and again until it has ended, the time is over or this process is asked to end."""
    deadline = time.monotonic() + min(seconds, MAX_WAIT_SECONDS)
    pause = POLL_SECONDS
    while True:
        job = await run_in_threadpool(read)
        left = deadline - time.monotonic()
        if job.state.is_final or left <= 0 or services.stopping.is_set():
            return job
        await anyio.sleep(min(pause, left))
        pause = min(pause * 1.5, MAX_POLL_SECONDS)


def tagged(request: Request, body: bytes) -> Response:
    """Answer with JSON and its ETag, or with 304 where the client has it."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if has_tag(request, tag):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, media_type="application/json", headers={"ETag": tag})


def has_tag(request: Request, tag: str) -> bool:
    """Whether the client says that it has what this ETag is of."""
    return tag in (item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(","))
