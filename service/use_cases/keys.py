"""Keys: who may ask for what, made and taken back by whoever runs the service."""

from collections.abc import Iterable

from service.domain.audit import Action
from service.domain.keys import ApiKey, new_key
from service.storage import audit, keys
from service.storage.database import Database


def create_key(
    database: Database, name: str, owner: str, scopes: Iterable[str], lasts_seconds: float | None
) -> tuple[ApiKey, str]:
    """Make a key; return it with its text, which nobody can read again.

    Raises:
        BadKeyRequest: the name, the owner or a scope cannot be taken.
    """
    key = new_key(name, owner, scopes)
    with database.write() as connection:
        made = keys.add(connection, key, lasts_seconds)
        scopes_held = [scope.value for scope in made.scopes]
        audit.record(connection, Action.KEY_CREATED, made.id, owner=made.owner, name=made.name, scopes=scopes_held)
        return made, key.text


def list_keys(database: Database) -> list[ApiKey]:
    """List every key of every owner, the oldest first."""
    with database.read() as connection:
        return keys.list_all(connection)


def revoke_key(database: Database, key_id: str) -> ApiKey:
    """Take a key back; every API process has heard of it within seconds.

    Raises:
        NoSuchKey: there is none with this id.
    """
    with database.write() as connection:
        revoked, is_new = keys.revoke(connection, key_id)
        if is_new:
            audit.record(connection, Action.KEY_REVOKED, key_id, owner=revoked.owner, name=revoked.name)
        return revoked
