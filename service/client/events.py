"""Follows what happens to a job while it happens, across connections that break and services that start again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
from pydantic import ValidationError

from service.api.views.events import EventView
from service.client.answers import error_of, unexpected
from service.client.errors import ConnectionFailed, UnexpectedAnswer
from service.client.requests import Reference, at
from service.client.retries import AGAIN
from service.client.steps import Exchange
from service.client.transport import Connection, Sender
from service.client.waiting import PATIENCE_SECONDS
from service.domain.jobs import FINAL_STATES, EventKind, Measure

if TYPE_CHECKING:
    from service.client.asynchronous import AsyncSender

EVENT_STREAM = "text/event-stream"
SILENCE_SECONDS = 45.0
"""The service says something every 15 seconds; after so long without a word the connection is taken for dead."""
RECONNECT_SECONDS = 1.0
"""What the service has not said otherwise."""


@dataclass(frozen=True)
class JobUpdate:
    """Something that has just happened to a job."""

    event: EventView

    @property
    def kind(self) -> EventKind:
        """What it was."""
        return self.event.event

    @property
    def epoch(self) -> int | None:
        """The epoch that it is about; None where it is about none."""
        found = self.event.data.get("epoch")
        return found if isinstance(found, int) else None

    @property
    def metrics(self) -> dict[str, Measure]:
        """What an epoch has measured; empty for other events."""
        return dict(self.event.data) if self.kind == EventKind.EPOCH else {}

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self.kind.value in {state.value for state in FINAL_STATES}


@dataclass
class Following:
    """How far a stream of events has come, and what is to be done when it ends."""

    job: Reference
    connection: Connection
    last_id: int = 0
    pause_seconds: float = RECONNECT_SECONDS
    has_ended: bool = False
    lost_at: float | None = None
    """Since when the service is away; None while it answers."""

    def exchange(self) -> Exchange:
        """Ask for everything behind the last event."""
        headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"}
        if self.last_id:
            headers["Last-Event-ID"] = str(self.last_id)
        wait_seconds = SILENCE_SECONDS - self.connection.timeout_seconds
        return Exchange("GET", at("jobs", self.job, "events"), {}, headers, wait_seconds=wait_seconds)

    def opened(self, answer: httpx2.Response) -> bool:
        """Take in how the service answers: whether there are events to read; an error answer must have been read.

        Raises:
            ApiError: there is no such job, or it is not to be seen.
            UnexpectedAnswer: it is a success, and no stream of events.
        """
        if answer.status_code == httpx2.codes.NO_CONTENT:
            self.has_ended = True
            return False
        if answer.is_success:
            self.connection.patience.is_reached = True
            kind = answer.headers.get("content-type", "")
            if kind.partition(";")[0].strip().lower() != EVENT_STREAM:
                raise unexpected(answer, f"the type {kind[:100]!r} in place of {EVENT_STREAM}")
            return True
        if answer.status_code not in AGAIN or self._is_over():
            raise error_of(answer)
        return False

    def take(self, sent: httpx2.ServerSentEvent) -> JobUpdate | None:
        """Read an event; None where it says nothing new, or what only a newer service knows.

        Raises:
            UnexpectedAnswer: it is no event of a job.
        """
        if sent.retry is not None:
            self.pause_seconds = sent.retry / 1000
        if not sent.data:
            return None
        try:
            event = EventView.model_validate_json(sent.data, extra="ignore")
        except ValidationError:
            if (number := _of_unknown_kind(sent.data)) is None:
                raise self._unexpected(f"an event that is none: {sent.data[:200]}") from None
            self.last_id = max(self.last_id, number)
            return None
        if event.id <= self.last_id:
            return None
        self.last_id = event.id
        update = JobUpdate(event)
        self.has_ended = update.is_final
        return update

    def closed(self, answer: httpx2.Response) -> None:
        """Take in that the stream is over; who has sent anything, were it a sign of life, was there.

        Raises:
            ConnectionFailed: nothing has come for too long.
        """
        if answer.num_bytes_downloaded:
            self.lost_at = None
        elif not self.has_ended and self._is_over():
            raise ConnectionFailed(self.connection.url, "its stream of events ends before an event has come")

    def lost(self, error: httpx2.TransportError) -> None:
        """Take in that the connection is gone.

        Raises:
            ConnectionFailed: it has been for too long, or there never was one.
            UnexpectedAnswer: what comes is no stream of events.
        """
        if isinstance(error, httpx2.SSEError):
            raise self._unexpected(f"what is no event: {error}") from None
        failure = self.connection.patience.lost(error)
        if self._is_over() or not self.connection.patience.is_reached:
            raise failure

    def _unexpected(self, problem: str) -> UnexpectedAnswer:
        url = f"{self.connection.url}{at('jobs', self.job, 'events')}"
        return UnexpectedAnswer(url, httpx2.codes.OK, problem)

    def _is_over(self) -> bool:
        self.lost_at = self.lost_at or time.monotonic()
        return time.monotonic() - self.lost_at > PATIENCE_SECONDS


def watched(sender: Sender, job: Reference) -> Iterator[JobUpdate]:
    """Give what has happened to a job and what happens from now on, until it has ended, each once and in order."""
    following = Following(job, sender.connection)
    while True:
        try:
            with sender.stream(following.exchange()) as answer:
                if not answer.is_success:
                    answer.read()
                if following.opened(answer):
                    try:
                        for sent in httpx2.EventSource(answer):
                            if update := following.take(sent):
                                yield update
                    finally:
                        following.closed(answer)
        except httpx2.TransportError as error:
            following.lost(error)
        if following.has_ended:
            return
        time.sleep(following.pause_seconds)


async def watched_async(sender: "AsyncSender", job: Reference) -> AsyncIterator[JobUpdate]:
    """Do the same as ``watched``, without holding up the event loop."""
    following = Following(job, sender.connection)
    while True:
        try:
            async with sender.stream(following.exchange()) as answer:
                if not answer.is_success:
                    await answer.aread()
                if following.opened(answer):
                    try:
                        async for sent in httpx2.EventSource(answer):
                            if update := following.take(sent):
                                yield update
                    finally:
                        following.closed(answer)
        except httpx2.TransportError as error:
            following.lost(error)
        if following.has_ended:
            return
        await asyncio.sleep(following.pause_seconds)


def _of_unknown_kind(data: str) -> int | None:
    """Return the number of an event whose kind only a newer service knows; None for anything else."""
    try:
        found = json.loads(data)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("id"), int) or not isinstance(found.get("event"), str):
        return None
    return None if found["event"] in list(EventKind) else found["id"]
