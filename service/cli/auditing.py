"""``selfnorm audit``: who did what; it reads the database itself, so only who runs the service can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson, Limit
from service.cli.own_database import DataDir, opened
from service.cli.printing import MISUSED, fail, put_json, put_table
from service.cli.times import moment, shown_time
from service.domain.wording import utc

if TYPE_CHECKING:
    from service.domain.audit import Entry

HEADINGS = ("when", "owner", "action", "what", "key", "from", "details")


def audit(
    owner: Annotated[
        str | None, typer.Option(help="Only what was done to the things of this one.", show_default=False)
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as version.deleted.", show_default=False)] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Since then: 12h or 7d ago, or 2026-01-31.", show_default=False),
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List who changed what, newest first."""
    from service.domain.audit import Action
    from service.use_cases.audit import EntryFilter, newest_entries

    if action is not None and action not in list(Action):
        fail(MISUSED, f"--action takes one of {', '.join(Action)}; got {action[:64]!r}")
    wanted = EntryFilter(
        None if action is None else Action(action), None if since is None else moment("--since", since)
    )
    with opened(data_dir) as database:
        found = newest_entries(database, owner, wanted, limit)
    if as_json:
        put_json([_document(entry) for entry in found])
    else:
        put_table(HEADINGS, map(_cells, found), empty="nothing was changed")


def _cells(entry: Entry) -> list[object]:
    when = shown_time(entry.at, "seconds")
    details = ", ".join(f"{name}: {_words(value)}" for name, value in entry.details.items() if value is not None)
    return [when, entry.owner, entry.action, entry.target, entry.actor.key_id, entry.actor.address, details]


def _words(value: object) -> object:
    return " and ".join(map(str, value)) if isinstance(value, list) else value


def _document(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "at": utc(entry.at),
        "owner": entry.owner,
        "action": entry.action,
        "target": entry.target,
        "key_id": entry.actor.key_id,
        "request_id": entry.actor.request_id,
        "address": entry.actor.address,
        "details": entry.details,
    }
