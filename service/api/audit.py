"""/audit: who did what to your things."""

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BeforeValidator

from service.api.dependencies import DatabaseDependency, PageDependency
from service.api.gate.scopes import needs
from service.api.strict_bodies import StrictRoute
from service.api.views.base import PageView, View
from service.domain.audit import Action, Entry
from service.domain.keys import Scope
from service.use_cases import audit
from service.use_cases.audit import EntryFilter

router = APIRouter(prefix="/audit", tags=["audit"], route_class=StrictRoute)


class EntryView(View):
    """One thing that somebody did."""

    number: int
    at: datetime
    action: Action
    target: str
    """The id or the name of the thing."""
    key_id: str | None
    """The key that asked; null without authentication, on the command line, and where the service did it."""
    request_id: str | None
    address: str | None
    """From which the request came."""
    details: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> "EntryView":
        """Show an entry."""
        actor = entry.actor
        who = {"key_id": actor.key_id, "request_id": actor.request_id, "address": actor.address}
        about = {"number": entry.number, "at": entry.at, "action": entry.action, "target": entry.target}
        return cls(**about, **who, details=entry.details)


def _written_out(value: Any) -> Any:
    """Refuse the seconds since 1970 that pydantic takes for a time as well."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):
        raise ValueError("must be a time as RFC 3339 writes it, such as 2026-01-31T12:00:00Z")
    return value


def _filter(
    action: Annotated[Action | None, Query(description="Only these")] = None,
    since: Annotated[
        AwareDatetime | None, BeforeValidator(_written_out), Query(description="Only what was done then or later")
    ] = None,
) -> EntryFilter:
    return EntryFilter(action, since)


@router.get("")
@needs(Scope.ADMIN)
def list_entries(
    database: DatabaseDependency, page: PageDependency, wanted: Annotated[EntryFilter, Depends(_filter)]
) -> PageView[EntryView]:
    """List who changed what, newest first."""
    found = audit.list_entries(database, wanted, page)
    return PageView(items=[EntryView.of(entry) for entry in found.items], next_page_token=found.next_token)
