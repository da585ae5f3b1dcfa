"""/dashboard/live: what changes in the first page of a list of jobs, and what happens to one job, as streams."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, format_sse_event

from service.api.dashboard.job_rows import JobRow
from service.api.dashboard.jobs import PAGE_SIZE, WantedDependency
from service.api.dependencies import DatabaseDependency, ServicesDependency
from service.api.events import (
    COMMENT,
    MAX_NUMBER,
    RECONNECT_MILLISECONDS,
    STREAM_HEADERS,
    LastEventId,
    event_number,
    event_stream,
)
from service.api.gate.scopes import ScopedRoute, needs
from service.api.services import Services
from service.domain.keys import Scope
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN
from service.storage.job_list import Marks
from service.storage.jobs import JobFilter
from service.storage.pages import PageRequest
from service.use_cases import job_list
from service.use_cases.job_list import News

router = APIRouter(prefix="/dashboard/live", include_in_schema=False, route_class=ScopedRoute)

LOOK_SECONDS = 1.0
FIRST_PAGE = PageRequest(PAGE_SIZE)


@dataclass(frozen=True)
class Look:
    """The first page of a list at a moment; moments are milliseconds of the database's clock, the ids of events."""

    marks: Marks | None = None
    at: int = 0
    """When something changed last; 0 before the first look."""
    order: tuple[str, ...] = ()
    order_at: int = 0
    """Since when it is this one."""
    rows: dict[str, tuple[int, JobRow]] = field(default_factory=dict)
    """Each with when it became what it is."""

    def then(self, news: News) -> "Look":
        """Return what the page is now."""
        # The database's clock may be set back; a moment that had been before would never be sent.
        now = max(int(news.marks.at.timestamp() * 1000), self.at + 1)
        order, rows, has_changed = tuple(news.marks.jobs), dict(self.rows), False
        for listed in news.changed:
            row = JobRow.of(listed)
            if row.id not in rows or rows[row.id][1] != row:
                rows[row.id], has_changed = (now, row), True
        is_other = self.at == 0 or order != self.order or self._next_token != news.marks.next_token
        return Look(
            marks=news.marks,
            at=now if has_changed or is_other else self.at,
            order=order,
            order_at=now if is_other else self.order_at,
            rows={job_id: rows[job_id] for job_id in order if job_id in rows},
        )

    def since(self, moment: int) -> dict[str, Any] | None:
        """Return what has changed since then; None where nothing has."""
        if self.at <= moment:
            return None
        changed = [row.model_dump(mode="json") for at, row in self.rows.values() if at > moment]
        page = {"order": self.order, "next": self._next_token} if self.order_at > moment else {}
        return {"jobs": changed, **page}

    @property
    def _next_token(self) -> str | None:
        return None if self.marks is None else self.marks.next_token


class Feed:
    """A list that is looked at once a second, however many follow it, and not at all while nobody does."""

    def __init__(self, database: Database, wanted: JobFilter) -> None:
        self._database = database
        self._wanted = wanted
        self._lock = asyncio.Lock()
        self._look = Look()
        self._looked_at = 0.0
        self.followers = 0

    async def look(self, not_before: float) -> Look:
        """Return what the page was at some moment, by the monotonic clock, or has become since.

        Raises:
            DATABASE_DOWN: the database does not answer.
        """
        async with self._lock:
            if self._looked_at < not_before:
                self._looked_at = time.monotonic()
                news = await run_in_threadpool(
                    job_list.look, self._database, self._wanted, FIRST_PAGE, self._look.marks
                )
                self._look = self._look.then(news)
            return self._look


class Feeds:
    """The lists that somebody follows, by whose they are and what they hold."""

    def __init__(self) -> None:
        self._feeds: dict[tuple[str | None, JobFilter], Feed] = {}

    @contextmanager
    def following(self, database: Database, wanted: JobFilter) -> Iterator[Feed]:
        """Follow a list of whom the database is opened for."""
        key = (database.owner, wanted)
        feed = self._feeds.setdefault(key, Feed(database, wanted))
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers:
                del self._feeds[key]


@router.get("/jobs")
@needs(Scope.READ)
async def live_jobs(
    request: Request,
    services: ServicesDependency,
    database: DatabaseDependency,
    wanted: WantedDependency,
    last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = "",
) -> Response:
    """Send what the first page of the list is, and then, once a second, what has changed in it."""
    state = request.app.state
    if not hasattr(state, "job_feeds"):
        state.job_feeds = Feeds()
    after = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 16 else 0
    return EventSourceResponse(follow(services, state.job_feeds, database, wanted, after), headers=STREAM_HEADERS)


@router.get("/jobs/{job_id}")
@needs(Scope.READ)
async def live_job(
    job_id: str,
    services: ServicesDependency,
    database: DatabaseDependency,
    after: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
    last_event_id: LastEventId = None,
) -> Response:
    """Send what happens to a job after an event: a browser cannot begin a stream with a Last-Event-ID of its own."""
    return await event_stream(services, database, job_id, max(after, event_number(last_event_id)))


async def follow(
    services: Services, feeds: Feeds, database: Database, wanted: JobFilter, after: int
) -> AsyncIterator[bytes]:
    """Send changes until this process is asked to end, and a comment where there are none for long.

    Without the database the stream ends: a browser then says that it is lost, and comes back when it can.
    """
    with feeds.following(database, wanted) as feed:
        yield format_sse_event(retry=RECONNECT_MILLISECONDS)
        sent_at = not_before = time.monotonic()
        while not services.stopping.is_set():
            try:
                look = await feed.look(not_before)
            except DATABASE_DOWN:
                return
            if news := look.since(after):
                # In ASCII, for some clients also end a line at characters such as U+2028.
                yield format_sse_event(data_str=json.dumps(news), event="jobs", id=str(look.at))
                after, sent_at = look.at, time.monotonic()
            elif time.monotonic() - sent_at >= services.comment_seconds:
                yield COMMENT
                sent_at = time.monotonic()
            await anyio.sleep(LOOK_SECONDS)
            not_before = time.monotonic() - LOOK_SECONDS
