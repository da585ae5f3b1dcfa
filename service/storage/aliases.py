"""Aliases of models: which version each stands for, what it stood for before, and the way back."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from service.domain.model_errors import NothingToGoBackTo, UnknownAlias, UnknownModel, UnknownVersion
from service.domain.models import Alias, AliasChange
from service.storage.database import database_time, upsert
from service.storage.owners import mine, owner_of
from service.storage.tables import alias_changes, model_aliases, model_versions, models

MAX_HISTORY = 100
"""So many changes of an alias are shown, the newest ones."""


def hold(connection: Connection, name: str) -> None:
    """Keep a model's row until the session ends: changes of its versions and aliases come one after the other.

    Raises:
        UnknownModel: there is none of this name.
    """
    query = select(models.c.name).where(mine(connection, models), models.c.name == name)
    row = connection.execute(query.with_for_update()).first()
    if row is None:
        raise UnknownModel(name)


def count_change(connection: Connection, name: str) -> None:
    """Tell every process that follows a model that something about its versions or aliases has changed."""
    which = (mine(connection, models), models.c.name == name)
    connection.execute(update(models).where(*which).values(revision=models.c.revision + 1))


def put(connection: Connection, name: str, alias: str, version: int) -> None:
    """Let an alias stand for a version; where it does already, nothing changes.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
    """
    hold(connection, name)
    _check_version(connection, name, version)
    before = version_of(connection, name, alias)
    if before != version:
        _change(connection, name, alias, "set", version, before)


def remove(connection: Connection, name: str, alias: str) -> None:
    """Remove an alias; its history stays.

    Raises:
        UnknownModel, UnknownAlias: there is no such thing.
    """
    hold(connection, name)
    before = version_of(connection, name, alias)
    if before is None:
        raise UnknownAlias(name, alias, names(connection, name))
    _change(connection, name, alias, "removed", None, before)


def roll_back(connection: Connection, name: str, alias: str) -> None:
    """Let an alias stand for what it stood for before its last change; again, for what it stood for before that.

    Versions that have been deleted since are passed over. A removed alias stands again for what it last stood for.

    Raises:
        UnknownModel, UnknownAlias: there is no such thing, nor was there.
        NothingToGoBackTo: it stood for no other version that still exists.
    """
    hold(connection, name)
    stack = _stack(connection, name, alias)
    if not stack:
        raise UnknownAlias(name, alias, names(connection, name))
    current = version_of(connection, name, alias)
    existing = _existing(connection, name, stack)
    target = next((version for version in reversed(stack) if version != current and version in existing), None)
    if target is None:
        raise NothingToGoBackTo(name, alias, current)
    _change(connection, name, alias, "rolled_back", target, current)


def get(connection: Connection, name: str, alias: str) -> Alias:
    """Read an alias.

    Raises:
        UnknownAlias: the model has none of this name.
    """
    query = select(model_aliases).where(*_its(connection, name, alias))
    row = connection.execute(query).mappings().first()
    if row is None:
        raise UnknownAlias(name, alias, names(connection, name))
    return Alias(row["alias"], row["version"], row["updated_at"])


def list_all(connection: Connection, name: str) -> list[Alias]:
    """Read every alias of a model, by name."""
    query = select(model_aliases).where(mine(connection, model_aliases), model_aliases.c.name == name)
    query = query.order_by(model_aliases.c.alias)
    rows = connection.execute(query).mappings()
    return [Alias(row["alias"], row["version"], row["updated_at"]) for row in rows]


def history(connection: Connection, name: str, alias: str) -> list[AliasChange]:
    """Read the last changes of an alias, newest first."""
    query = select(alias_changes).where(mine(connection, alias_changes), alias_changes.c.name == name)
    query = query.where(alias_changes.c.alias == alias)
    rows = connection.execute(query.order_by(alias_changes.c.number.desc()).limit(MAX_HISTORY)).mappings()
    return [AliasChange(row["kind"], row["version"], row["previous_version"], row["created_at"]) for row in rows]


def names(connection: Connection, name: str, version: int | None = None) -> list[str]:
    """Return the names of a model's aliases, or of those that stand for one version."""
    query = select(model_aliases.c.alias).where(mine(connection, model_aliases), model_aliases.c.name == name)
    if version is not None:
        query = query.where(model_aliases.c.version == version)
    return list(connection.execute(query.order_by(model_aliases.c.alias)).scalars())


def by_model(connection: Connection, model_names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return the aliases of some models: which version each stands for."""
    wanted = list(model_names)
    found: dict[str, dict[str, int]] = {name: {} for name in wanted}
    query = select(model_aliases).where(mine(connection, model_aliases), model_aliases.c.name.in_(wanted))
    for row in connection.execute(query.order_by(model_aliases.c.alias)).mappings():
        found[row["name"]][row["alias"]] = row["version"]
    return found


def of_everybody(connection: Connection) -> dict[tuple[str, str], list[str]]:
    """Return the aliases of all models that have some, by owner and name.

    For a process that loads what it will be asked for, in a session that was opened for nobody.
    """
    columns = (model_aliases.c.owner, model_aliases.c.name, model_aliases.c.alias)
    found: dict[tuple[str, str], list[str]] = {}
    for owner, name, alias in connection.execute(select(*columns).order_by(*columns)):
        found.setdefault((owner, name), []).append(alias)
    return found


def version_of(connection: Connection, name: str, alias: str) -> int | None:
    """Return the version that an alias stands for; None where there is no such alias."""
    query = select(model_aliases.c.version).where(*_its(connection, name, alias))
    return connection.execute(query).scalar()


def _change(
    connection: Connection, name: str, alias: str, kind: str, version: int | None, previous_version: int | None
) -> None:
    owner = owner_of(connection)
    if version is None:
        connection.execute(delete(model_aliases).where(*_its(connection, name, alias)))
    else:
        values: dict[str, Any] = {"version": version, "updated_at": database_time()}
        statement = upsert(connection, model_aliases).values(owner=owner, name=name, alias=alias, **values)
        keys = [model_aliases.c.owner, model_aliases.c.name, model_aliases.c.alias]
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values))
    change = {"kind": kind, "version": version, "previous_version": previous_version}
    connection.execute(insert(alias_changes).values(owner=owner, name=name, alias=alias, **change))
    count_change(connection, name)


def _its(connection: Connection, name: str, alias: str) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that say which alias is meant."""
    return mine(connection, model_aliases), model_aliases.c.name == name, model_aliases.c.alias == alias


def _stack(connection: Connection, name: str, alias: str) -> list[int]:
    """Return the versions that going back leads through, the last one first to be reached.

    Setting puts a version on top; going back takes away all that lies above the version it led to, so that doing it
    again goes further back and never forward. Removing leaves the stack as it is.
    """
    query = select(alias_changes.c.kind, alias_changes.c.version)
    query = query.where(mine(connection, alias_changes), alias_changes.c.name == name, alias_changes.c.alias == alias)
    stack: list[int] = []
    for kind, version in connection.execute(query.order_by(alias_changes.c.number)):
        if kind == "rolled_back":
            while stack[-1] != version:
                stack.pop()
        elif kind == "set" and stack[-1:] != [version]:
            stack.append(version)
    return stack


def _check_version(connection: Connection, name: str, version: int) -> None:
    if not _existing(connection, name, [version]):
        raise UnknownVersion(name, version)


def _existing(connection: Connection, name: str, versions: Sequence[int]) -> set[int]:
    """Return those of some versions that have not been deleted."""
    query = select(model_versions.c.version).where(mine(connection, model_versions), model_versions.c.name == name)
    return set(connection.execute(query.where(model_versions.c.version.in_(set(versions)))).scalars())
