"""/jobs/{id}/events: what happened to a job, as a list, or as a stream while it happens."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import WithJsonSchema

from service.api.dependencies import DatabaseDependency, PageDependency, ServicesDependency
from service.api.gate.scopes import ScopedRoute, needs
from service.api.services import Services
from service.api.views.events import EventsView, EventView
from service.domain.errors import InvalidPageToken, MalformedRequest, UnknownJob
from service.domain.jobs import Event, JobState
from service.domain.keys import Scope
from service.domain.wording import shown
from service.storage import pages
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN
from service.use_cases import jobs

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=ScopedRoute)

EVENT_STREAM = "text/event-stream"
MAX_NUMBER = 2**31 - 1
"""The largest number that the table of events can hold."""
EVENTS_AT_ONCE = 500
POLL_SECONDS = 0.25
MAX_POLL_SECONDS = 1.0
RECONNECT_MILLISECONDS = 1000
COMMENT = format_sse_event(comment="nothing new")

NOTHING_MORE = 204
"""After any other answer an EventSource connects again, once a second, for ever."""

STREAM_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept", "X-Accel-Buffering": "no"}
"""Without the last, nginx would hold events back until it has some kilobytes of them."""

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of the events or, where Accept names text/event-stream, all of them as they happen",
        "content": {
            EVENT_STREAM: {
                "schema": {
                    "type": "string",
                    "description": "Server-sent events: `id` is the event's number, `event` its kind, `data` an "
                    "EventView as one line of JSON",
                },
                "example": "event: submitted\n"
                'data: {"id":1,"event":"submitted","data":{},"created_at":"2026-01-01T12:00:00Z"}\n'
                "id: 1\n\n",
            }
        },
    },
    NOTHING_MORE: {"description": "For a stream: the job has ended, and no event follows Last-Event-ID"},
}

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="For a stream: the number of the last event that has arrived; the stream goes on after it",
    ),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}),
]


@router.get("/{job_id}/events", response_model=EventsView, responses=ANSWERS)
@needs(Scope.READ)
async def job_events(
    job_id: str,
    request: Request,
    services: ServicesDependency,
    database: DatabaseDependency,
    page: PageDependency,
    response: Response,
    last_event_id: LastEventId = None,
) -> Any:
    """Read what happened to a job, oldest first, as a log is read; with `Accept: text/event-stream` as it happens.

    The stream holds every event, whatever page is asked for, sends a comment in silence and closes after the job's end.
    A client that comes back after that gets 204, on which browsers stop coming back.
    """
    after = event_number(last_event_id)
    if _wants_stream(request):
        return await event_stream(services, database, job_id, after)
    response.headers["Vary"] = "Accept"
    return await run_in_threadpool(_page, database, job_id, page)


async def event_stream(services: Services, database: Database, job_id: str, after: int) -> Response:
    """Send the events of a job that follow number ``after``, as they happen; 204 where it has ended and none follows.

    Raises:
        UnknownJob: there is none with this id.
    """
    state, first = await _read(database, job_id, after)
    if state.is_final and not first:
        return Response(status_code=NOTHING_MORE, headers=STREAM_HEADERS)
    stream = _follow(services, database, job_id, after, state, first)
    return EventSourceResponse(_with_comments(stream, services.comment_seconds), headers=STREAM_HEADERS)


def _wants_stream(request: Request) -> bool:
    """Whether Accept names a stream of events; a range such as ``*/*`` does not."""
    for accepted in ",".join(request.headers.getlist("accept")).split(","):
        kind, *parameters = (part.strip().lower() for part in accepted.split(";"))
        refuses = any(re.fullmatch(r"q\s*=\s*0(\.0*)?", parameter) for parameter in parameters)
        if kind == EVENT_STREAM and not refuses:
            return True
    return False


def event_number(last_event_id: str | None) -> int:
    """Read Last-Event-ID; 0 where there is none.

    Raises:
        MalformedRequest: it is no number of an event.
    """
    if last_event_id is None:
        return 0
    if not re.fullmatch("[0-9]{1,10}", last_event_id) or int(last_event_id) > MAX_NUMBER:
        raise MalformedRequest(
            f"Last-Event-ID must be a whole number from 0 to {MAX_NUMBER}; got {shown(last_event_id)}. Send the id of "
            "the last event that arrived, or leave the header out to get them all"
        )
    return int(last_event_id)


def _page(database: Database, job_id: str, page: pages.PageRequest) -> EventsView:
    start, size = pages.offset(page), pages.clamp(page.size)
    if start > MAX_NUMBER:
        raise InvalidPageToken
    _, found = jobs.job_events(database, job_id, start, size + 1)
    items = [EventView.of(event) for event in found[:size]]
    return EventsView(items=items, next_page_token=pages.offset_token(items[-1].id) if len(found) > size else None)


async def _read(database: Database, job_id: str, after: int) -> tuple[JobState, list[Event]]:
    return await run_in_threadpool(jobs.job_events, database, job_id, after, EVENTS_AT_ONCE)


async def _follow(
    services: Services, database: Database, job_id: str, after: int, state: JobState | None, found: list[Event]
) -> AsyncIterator[bytes]:
    """Send events until the job has ended, it is deleted or this process is asked to end.

    ``state`` is what the job was in before ``found`` was read, None where the database does not answer.
    """
    yield format_sse_event(retry=RECONNECT_MILLISECONDS)
    pause = POLL_SECONDS
    while True:
        if found:
            yield b"".join(map(_message, found))
            after, pause = found[-1].number, POLL_SECONDS
        if len(found) < EVENTS_AT_ONCE:
            if services.stopping.is_set() or (state is not None and state.is_final):
                return
            await anyio.sleep(pause)
            pause = min(pause * 1.5, MAX_POLL_SECONDS)
        try:
            state, found = await _read(database, job_id, after)
        except UnknownJob:
            return
        except DATABASE_DOWN:
            state, found = None, []


def _message(event: Event) -> bytes:
    # In ASCII, for some clients also end a line at characters such as U+2028, which JSON may hold as they are.
    data = EventView.of(event).model_dump_json(ensure_ascii=True)
    return format_sse_event(data_str=data, event=event.kind, id=str(event.number))


async def _with_comments(stream: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """Send a comment whenever there was silence for so long, also while the database keeps a reader waiting."""
    while True:
        coming = asyncio.ensure_future(anext(stream, None))
        try:
            while not (await asyncio.wait([coming], timeout=seconds))[0]:
                yield COMMENT
        finally:
            coming.cancel()
        piece = coming.result()
        if piece is None:
            return
        yield piece
