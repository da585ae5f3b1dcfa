"""What HTTP shows of what happened to a job."""

from datetime import datetime
from typing import Any

from service.api.views.base import View
from service.domain.jobs import Event, EventKind


class EventView(View):
    """Something that happened to a job; ``id`` counts up from 1 within it."""

    id: int
    event: EventKind
    data: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, event: Event) -> "EventView":
        """Show an event."""
        return cls(id=event.number, event=event.kind, data=event.data, created_at=event.created_at)


class EventsView(View):
    """Some events of a job, oldest first."""

    items: list[EventView]
    next_page_token: str | None
