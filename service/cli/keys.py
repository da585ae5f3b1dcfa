"""``selfnorm keys``: who may use the service; it works on the database itself, so only who runs the service can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson
from service.cli.own_database import DataDir, opened
from service.cli.printing import note, put, put_json, put_table
from service.cli.times import shown_time, span
from service.cli.wording import age
from service.domain.key_errors import BadKeyRequest, NoSuchKey
from service.domain.keys import DEFAULT_SCOPES, MAX_NAME_LENGTH, Scope
from service.domain.owners import DEFAULT_OWNER
from service.domain.wording import utc

if TYPE_CHECKING:
    from service.domain.keys import ApiKey

HEADINGS = ("id", "name", "owner", "state", "scopes", "created", "expires", "last used")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def keys() -> None:
    """Make, list and revoke the keys that open the service."""


@app.command()
def create(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help=f"What you call it, such as who uses it; at most {MAX_NAME_LENGTH} long."),
    ],
    owner: Annotated[str, typer.Option(help="Whose things it opens; a team may share one owner.")] = DEFAULT_OWNER,
    scopes: Annotated[
        list[Scope] | None,
        typer.Option("--scope", help="What it opens; may be repeated. Left out: read, submit, predict."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Until when, from now: 12h, 90d, 1y. Left out: for ever.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it, this once: only a hash of it is kept."""
    from service.use_cases import keys as use_cases

    lasts = None if expires is None else span("--expires", expires)
    with opened(data_dir, BadKeyRequest, NoSuchKey) as database:
        key, text = use_cases.create_key(database, name, owner, scopes or DEFAULT_SCOPES, lasts)
    if as_json:
        put_json({"key": text, **_document(key)})
        return
    put(text)
    until = "for ever" if key.expires_at is None else f"until {shown_time(key.expires_at)}"
    note(
        f"key {key.id} ({key.name}) opens what belongs to {key.owner}: {', '.join(key.scopes)}, {until}",
        "it is shown this once; use it by: export SELFNORM_API_KEY=...",
    )


@app.command("list")
def list_(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List every key, the oldest first; none of their secrets."""
    from service.use_cases import keys as use_cases

    with opened(data_dir, BadKeyRequest, NoSuchKey) as database:
        found = use_cases.list_keys(database)
    if as_json:
        put_json([_document(key) for key in found])
    else:
        put_table(HEADINGS, map(_cells, found), empty="no keys; make one: selfnorm keys create NAME")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, the part between sn_ and the next _.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take a key back: within seconds it opens nothing any more."""
    from service.use_cases import keys as use_cases

    with opened(data_dir, BadKeyRequest, NoSuchKey) as database:
        key = use_cases.revoke_key(database, key_id)
    if as_json:
        put_json(_document(key))
    else:
        put(f"key {key.id} ({key.name}) of {key.owner} is revoked")


def _cells(key: ApiKey) -> list[object]:
    expires = "never" if key.expires_at is None else shown_time(key.expires_at)
    used = "never" if key.last_used_at is None else age(key.last_used_at)
    return [key.id, key.name, key.owner, key.state, ", ".join(key.scopes), shown_time(key.created_at), expires, used]


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "scopes": list(key.scopes),
        "state": key.state,
        "created_at": utc(key.created_at),
        "expires_at": key.expires_at and utc(key.expires_at),
        "revoked_at": key.revoked_at and utc(key.revoked_at),
        "last_used_at": key.last_used_at and utc(key.last_used_at),
    }
