"""Models: what is registered under which name, which versions answer, and the way back."""

from collections.abc import Callable

from service.domain.audit import Action
from service.domain.model_errors import ModelNotReady, UnknownModel
from service.domain.models import Alias, AliasChange, Model, ModelVersion
from service.storage import aliases, audit, jobs, models, pages
from service.storage.database import Connection, Database
from service.use_cases.idempotency import KeyedRequest, Outcome, StoredAnswer, once

AliasWithHistory = tuple[Alias, list[AliasChange]]
"""An alias, and its last changes, newest first."""


def list_models(database: Database, page: pages.PageRequest) -> pages.Page[Model]:
    """List models, newest first."""
    with database.read() as connection:
        return models.list_page(connection, page)


def get_model(database: Database, name: str) -> Model:
    """Read a model with its versions and aliases."""
    with database.read() as connection:
        return models.get_model(connection, name)


def get_version(database: Database, name: str, version: int) -> ModelVersion:
    """Read one version of a model."""
    with database.read() as connection:
        return models.get_version(connection, name, version)


def delete_version(database: Database, name: str, version: int) -> None:
    """Delete a version with its files; its number is not given again.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
        VersionHasAliases: an alias stands for it.
        VersionInUse: predictions that have not ended need it.
    """
    with database.write() as connection:
        models.remove(connection, name, version)
        audit.record(connection, Action.VERSION_DELETED, f"{name}/{version}")


def list_aliases(database: Database, name: str) -> list[Alias]:
    """Read every alias of a model."""
    with database.read() as connection:
        models.check_name(connection, name)
        return aliases.list_all(connection, name)


def get_alias(database: Database, name: str, alias: str) -> AliasWithHistory:
    """Read an alias with its history.

    Raises:
        UnknownModel, UnknownAlias: there is no such thing.
    """
    with database.read() as connection:
        models.check_name(connection, name)
        return _with_history(connection, name, alias)


def set_alias(database: Database, name: str, alias: str, version: int) -> AliasWithHistory:
    """Let an alias stand for a version; where it does already, nothing changes.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
    """
    with database.write() as connection:
        aliases.put(connection, name, alias, version)
        audit.record(connection, Action.ALIAS_SET, f"{name}/{alias}", version=version)
        return _with_history(connection, name, alias)


def remove_alias(database: Database, name: str, alias: str) -> None:
    """Remove an alias; its history stays.

    Raises:
        UnknownModel, UnknownAlias: there is no such thing.
    """
    with database.write() as connection:
        aliases.remove(connection, name, alias)
        audit.record(connection, Action.ALIAS_REMOVED, f"{name}/{alias}")


def roll_back_alias_once(
    database: Database,
    name: str,
    alias: str,
    request: KeyedRequest | None,
    answer: Callable[[AliasWithHistory], StoredAnswer],
) -> Outcome[AliasWithHistory]:
    """Let an alias stand for what it stood for before its last change, unless this request has been answered before.

    Raises:
        UnknownModel, UnknownAlias: there is no such thing, nor was there.
        NothingToGoBackTo: it stood for no other version that still exists.
        IdempotencyKeyReused: another request came under this key.
    """

    def roll_back(connection: Connection) -> AliasWithHistory:
        aliases.roll_back(connection, name, alias)
        found = _with_history(connection, name, alias)
        audit.record(connection, Action.ALIAS_ROLLED_BACK, f"{name}/{alias}", version=found[0].version)
        return found

    return once(database, request, roll_back, answer)


def _with_history(connection: Connection, name: str, alias: str) -> AliasWithHistory:
    return aliases.get(connection, name, alias), aliases.history(connection, name, alias)


def resolve_version(
    connection: Connection,
    name: str,
    version: int | None = None,
    alias: str | None = None,
    *,
    for_use: bool = False,
) -> ModelVersion:
    """Read the version that a request to predict means, as ``storage.models.resolve`` does.

    Raises:
        UnknownModel, UnknownVersion, UnknownAlias: there is no such thing.
        ModelNotReady: the first version is still being trained.
    """
    try:
        return models.resolve(connection, name, version, alias, for_use=for_use)
    except UnknownModel:
        job = jobs.newest_for_model(connection, name)
        if job is None:
            raise
        raise ModelNotReady(name, job.id, job.state) from None
