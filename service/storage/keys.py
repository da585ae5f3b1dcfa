"""API keys in the database; they are the service's, so sessions for no owner read and write them."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, or_, select, update

from service.domain.key_errors import NoSuchKey
from service.domain.keys import ApiKey, KeyState, NewKey, Scope
from service.storage.database import database_time
from service.storage.tables import api_keys


@dataclass(frozen=True, slots=True)
class ValidKey:
    """What is needed to tell whether a key opens something."""

    id: str
    owner: str
    scopes: tuple[Scope, ...]
    secret_sha256: str
    remaining_seconds: float | None
    """Until it expires, by the database's clock; None for one that does not."""


@dataclass(frozen=True, slots=True)
class EndedKey:
    """A key that opens nothing any more, and why."""

    id: str
    state: KeyState
    secret_sha256: str


def add(connection: Connection, key: NewKey, lasts_seconds: float | None) -> ApiKey:
    """Store a key that expires after so long; None for one that does not."""
    values = {
        "id": key.id,
        "owner": key.owner,
        "name": key.name,
        "scopes": list(key.scopes),
        "secret_sha256": key.secret_sha256,
        "created_at": database_time(),
        "expires_at": None if lasts_seconds is None else database_time(lasts_seconds),
    }
    connection.execute(insert(api_keys).values(**values))
    return get(connection, key.id)


def get(connection: Connection, key_id: str) -> ApiKey:
    """Read a key.

    Raises:
        NoSuchKey: there is none with this id.
    """
    row = connection.execute(_keys().where(api_keys.c.id == key_id)).mappings().first()
    if row is None:
        raise NoSuchKey(key_id)
    return _key(row)


def list_all(connection: Connection) -> list[ApiKey]:
    """List every key, the oldest first."""
    query = _keys().order_by(api_keys.c.created_at, api_keys.c.id)
    return [_key(row) for row in connection.execute(query).mappings()]


def revoke(connection: Connection, key_id: str) -> tuple[ApiKey, bool]:
    """Let a key open nothing any more, and say whether it did; one that is revoked already keeps its time.

    Raises:
        NoSuchKey: there is none with this id.
    """
    is_it = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
    changed = connection.execute(update(api_keys).where(is_it).values(revoked_at=database_time())).rowcount
    return get(connection, key_id), bool(changed)


def valid(connection: Connection, ids: Collection[str] | None = None) -> list[ValidKey]:
    """Return the keys that open something now, of these ids where some are given."""
    query = select(api_keys, database_time().label("now")).where(
        api_keys.c.revoked_at.is_(None),
        or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > database_time()),
    )
    if ids is not None:
        query = query.where(api_keys.c.id.in_(ids))
    return [
        ValidKey(
            row["id"],
            row["owner"],
            _scopes(row),
            row["secret_sha256"],
            None if row["expires_at"] is None else (row["expires_at"] - row["now"]).total_seconds(),
        )
        for row in connection.execute(query).mappings()
    ]


def ended(connection: Connection, ids: Collection[str]) -> list[EndedKey]:
    """Return those of some keys that have been revoked or have expired."""
    rows = connection.execute(_keys().where(api_keys.c.id.in_(ids))).mappings()
    found = [EndedKey(row["id"], _state(row), row["secret_sha256"]) for row in rows]
    return [key for key in found if key.state != KeyState.ACTIVE]


def note_use(connection: Connection, ids: Collection[str]) -> None:
    """Store that keys have been used just now."""
    connection.execute(update(api_keys).where(api_keys.c.id.in_(ids)).values(last_used_at=database_time()))


def _keys() -> Select[Any]:
    return select(api_keys, database_time().label("now"))


def _key(row: RowMapping) -> ApiKey:
    return ApiKey(
        id=row["id"],
        owner=row["owner"],
        name=row["name"],
        scopes=_scopes(row),
        state=_state(row),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )


def _state(row: RowMapping) -> KeyState:
    if row["revoked_at"] is not None:
        return KeyState.REVOKED
    is_over = row["expires_at"] is not None and row["expires_at"] <= row["now"]
    return KeyState.EXPIRED if is_over else KeyState.ACTIVE


def _scopes(row: RowMapping) -> tuple[Scope, ...]:
    """Read scopes; one that only a later version knows opens nothing here."""
    return tuple(scope for scope in Scope if scope in row["scopes"])
