"""What is watched while it goes on: as a picture that moves on a terminal, as lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import typer

from service.cli.connection import command
from service.cli.printing import INTERRUPTED, can_draw, harmless, note, write
from service.cli.wording import measures

if TYPE_CHECKING:
    from service.api.views.comparisons import ComparisonView
    from service.api.views.events import EventView
    from service.api.views.jobs import JobView
    from service.client import Client

STATES = {
    "started": "running",
    "cancel_requested": "cancelling",
    "pause_requested": "running, will pause",
    "paused": "paused",
    "resumed": "queued",
    "handed_back": "queued again",
    "worker_lost": "queued again: its worker was lost",
    "stalled": "queued again: its worker did not go on",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""What a job is after an event."""


class Story:
    """What the events of a job have told so far."""

    def __init__(self, state: str, most_epochs: int) -> None:
        self.state = state
        self.most_epochs = most_epochs
        self.epochs: list[dict[str, Any]] = []
        self.remark = ""

    def take(self, event: EventView) -> None:
        """Go on by an event."""
        if event.event == "epoch":
            self.epochs.append(event.data)
        elif event.event == "self_normalization_lost":
            self.remark = event_words(event, self.most_epochs)
        self.state = STATES.get(event.event, self.state)


def follow_job(client: Client, job: JobView, stream: TextIO, url: str | None) -> JobView:
    """Show a job until it has ended, and return it; Ctrl-C ends the command and leaves the job running."""
    story = Story(job.state, job.progress.epochs)
    with leaving(job.id, url), _drawn(story, stream) as moves:
        for update in client.jobs.watch(job.id):
            story.take(update.event)
            if not moves:
                moment = update.event.created_at.astimezone().strftime("%H:%M:%S")
                write(stream, harmless(f"{moment}  {event_words(update.event, story.most_epochs)}"))
    return client.jobs.get(job.id)


def follow_comparison(client: Client, found: ComparisonView, stream: TextIO, url: str | None) -> ComparisonView:
    """Show how many jobs of a comparison have ended until all have, and return it."""
    from service.client import JobEnded

    said = -1
    moves = stream is sys.stdout and can_draw(stream)

    def report(seen: ComparisonView) -> None:
        nonlocal said
        if seen.progress.finished_jobs != said:
            said = seen.progress.finished_jobs
            write(stream, harmless(f"{said}/{seen.progress.total} jobs  {seen.state}"))

    with leaving(found.id, url):
        try:
            return client.comparisons.wait(found.id, progress=moves or report)
        except JobEnded:
            return client.comparisons.get(found.id)


@contextmanager
def leaving(watched_id: str, url: str | None) -> Iterator[None]:
    """Let Ctrl-C end the watching and nothing else, and say how to come back.

    Raises:
        typer.Exit: it was pressed.
    """
    try:
        yield
    except KeyboardInterrupt:
        note(
            f"{watched_id} goes on without you",
            f"  come back:  {command(url, 'watch', watched_id)}",
            f"  end it:     {command(url, 'cancel', watched_id)}",
        )
        raise typer.Exit(INTERRUPTED) from None


def event_words(event: EventView, most_epochs: int) -> str:
    """Say what an event tells."""
    data = event.data
    match event.event:
        case "epoch":
            return f"epoch {data['epoch']}/{most_epochs}  {measures(data)}"
        case "started":
            after = f", goes on after epoch {data['epoch']}" if data.get("epoch") else ""
            return f"started, attempt {data.get('attempt')}{after}"
        case "self_normalization_lost":
            layer = f", hidden layer {data['layer']}" if data.get("layer") else ""
            return f"self-normalization lost after epoch {data.get('epoch')}{layer}: {data.get('status')}"
        case "failed":
            return f"failed: {data.get('code')}: {data.get('detail')}"
        case "succeeded":
            return f"succeeded: version {data.get('version')}"
        case kind:
            return str(kind).replace("_", " ")


@contextmanager
def _drawn(story: Story, stream: TextIO) -> Iterator[bool]:
    """Draw a story again and again where the stream is a terminal; say whether it is."""
    if not can_draw(stream):
        yield False
        return
    from service.cli.live import moving

    with moving(story, is_stderr=stream is sys.stderr):
        yield True
