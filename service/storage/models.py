"""The registry: names, versions, and the files that serve them."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, literal, select, tuple_

from service.domain.encoders import from_json, to_json
from service.domain.errors import NotFound
from service.domain.jobs import ACTIVE_STATES
from service.domain.model_errors import (
    NoVersionLeft,
    UnknownAlias,
    UnknownModel,
    UnknownVersion,
    VersionHasAliases,
    VersionInUse,
)
from service.domain.models import PRODUCTION, Inputs, Model, ModelVersion, NewVersion, Outputs, VersionSummary
from service.storage import aliases, blobs, pages
from service.storage.database import upsert
from service.storage.owners import mine, owner_of
from service.storage.tables import jobs, model_aliases, model_versions, models


def register(connection: Connection, new: NewVersion) -> int:
    """Store a version with its files and return its number; versions of a name count from 1, and none comes again."""
    owner = owner_of(connection)
    counted = upsert(connection, models).values(owner=owner, name=new.name, newest_version=1, revision=1)
    counted = counted.on_conflict_do_update(
        index_elements=["owner", "name"],
        set_={"newest_version": models.c.newest_version + 1, "revision": models.c.revision + 1},
    ).returning(models.c.newest_version)
    version: int = connection.execute(counted).scalar_one()
    connection.execute(
        insert(model_versions).values(
            owner=owner,
            name=new.name,
            version=version,
            job_id=new.job_id,
            spec=new.spec,
            data_sha256=new.data_sha256,
            inputs={"encoders": to_json(new.inputs.encoders), "mean": new.inputs.mean, "scale": new.inputs.scale},
            outputs=asdict(new.outputs),
            metrics=new.metrics,
            parity=new.parity,
            parameters=new.parameters,
            environment=new.environment,
            warnings=list(new.warnings),
            calibration=new.calibration,
            verdict=new.verdict,
            weights_sha256=blobs.put(connection, new.weights),
            onnx_sha256=blobs.put(connection, new.onnx),
            keras_sha256=blobs.put(connection, new.keras),
        )
    )
    return version


def get_model(connection: Connection, name: str) -> Model:
    """Read a model with all its versions, newest first.

    Raises:
        UnknownModel: there is none of this name.
    """
    query = select(models).where(mine(connection, models), models.c.name == name)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise UnknownModel(name)
    return _models(connection, [row])[0]


def list_page(connection: Connection, page: pages.PageRequest) -> pages.Page[Model]:
    """List models, newest first."""
    query = select(models).where(mine(connection, models))
    rows, token = pages.fetch(connection, query, models.c.number, page)
    return pages.Page(_models(connection, rows), token)


def get_version(connection: Connection, name: str, version: int | None = None) -> ModelVersion:
    """Read one version; None is the default, as ``resolve`` has it.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
    """
    return resolve(connection, name, version)


def resolve(
    connection: Connection,
    name: str,
    version: int | None = None,
    alias: str | None = None,
    *,
    for_use: bool = False,
) -> ModelVersion:
    """Read the version that a request means: by number, by alias, or the default where it names neither.

    The default is what the alias ``production`` stands for where it is set, else the newest version that there is.
    ``for_use`` keeps the version from being deleted until the session ends, which must be a writing one. Where both
    are given, the number counts.

    Raises:
        UnknownModel: there is no model of this name.
        NoVersionLeft: all its versions have been deleted, and none was named; an ``UnknownModel`` as well.
        UnknownVersion, UnknownAlias: it has no such version or alias.
    """
    if for_use:
        held = select(models.c.name).where(mine(connection, models), models.c.name == name)
        connection.execute(held.with_for_update(read=True))
    # One statement, so that on PostgreSQL, too, an alias and its version are of the same moment.
    wanted = literal(version) if version is not None else _number_of(connection, name, alias)
    query = select(model_versions).where(mine(connection, model_versions), model_versions.c.name == name)
    query = query.where(model_versions.c.version == wanted)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise _unknown(connection, name, version, alias)
    return _version(row)


def check_name(connection: Connection, name: str) -> None:
    """Let a name pass that a model has.

    Raises:
        UnknownModel: there is none of this name.
    """
    query = select(models.c.name).where(mine(connection, models), models.c.name == name)
    if connection.execute(query).first() is None:
        raise UnknownModel(name)


def revision(connection: Connection, name: str) -> int | None:
    """Return what counts the changes of a model; None where there is no such model.

    Whoever has read a model's revision, then the model, and later finds the same revision, still knows all of it. On
    PostgreSQL the order matters: two statements of one session may see different moments.
    """
    query = select(models.c.revision).where(mine(connection, models), models.c.name == name)
    return connection.execute(query).scalar()


def revisions(connection: Connection, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return what counts the changes of some models of any owners; those that there are not are left out.

    For a process that follows what it serves, in a session that was opened for nobody.
    """
    query = select(models.c.owner, models.c.name, models.c.revision)
    query = query.where(tuple_(models.c.owner, models.c.name).in_(wanted))
    return {(row.owner, row.name): row.revision for row in connection.execute(query)} if wanted else {}


def remove(connection: Connection, name: str, version: int) -> None:
    """Delete a version with the files that nobody else needs; its number is not given again.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
        VersionHasAliases: an alias stands for it.
        VersionInUse: predictions that have not ended need it.
    """
    aliases.hold(connection, name)
    columns = model_versions.c
    where = (mine(connection, model_versions), columns.name == name, columns.version == version)
    files = (columns.weights_sha256, columns.onnx_sha256, columns.keras_sha256)
    row = connection.execute(select(*files).where(*where)).first()
    if row is None:
        raise UnknownVersion(name, version)
    if names := aliases.names(connection, name, version):
        raise VersionHasAliases(name, version, names)
    if predictions := _unfinished_predictions(connection, name, version):
        raise VersionInUse(name, version, predictions)
    connection.execute(delete(model_versions).where(*where))
    for sha256 in {sha256 for sha256 in row if sha256 is not None}:
        blobs.delete_unused(connection, sha256)
    aliases.count_change(connection, name)


def onnx_file(connection: Connection, sha256: str) -> bytes:
    """Read the graph that serves a version.

    Raises:
        CorruptBlob: it is missing or damaged.
    """
    return blobs.get(connection, sha256)


def _number_of(connection: Connection, name: str, alias: str | None) -> Any:
    """Return the expression for the number that an alias, or the default, stands for."""
    standing = select(model_aliases.c.version).where(mine(connection, model_aliases), model_aliases.c.name == name)
    if alias is not None:
        return standing.where(model_aliases.c.alias == alias).scalar_subquery()
    newest = select(func.max(model_versions.c.version))
    newest = newest.where(mine(connection, model_versions), model_versions.c.name == name)
    production = standing.where(model_aliases.c.alias == PRODUCTION)
    return func.coalesce(production.scalar_subquery(), newest.scalar_subquery())


def _unknown(connection: Connection, name: str, version: int | None, alias: str | None) -> NotFound:
    """Say what it is that there is not."""
    try:
        check_name(connection, name)
    except UnknownModel as error:
        return error
    if version is not None:
        return UnknownVersion(name, version)
    if alias is not None:
        return UnknownAlias(name, alias, aliases.names(connection, name))
    return NoVersionLeft(name)


def _unfinished_predictions(connection: Connection, name: str, version: int) -> int:
    query = select(func.count()).where(
        mine(connection, jobs),
        jobs.c.model_name == name,
        jobs.c.model_version == version,
        jobs.c.kind == "prediction",
        jobs.c.state.in_(ACTIVE_STATES),
    )
    return connection.execute(query).scalar_one()


def _models(connection: Connection, rows: Sequence[RowMapping]) -> list[Model]:
    """Make models of rows, with their versions and aliases."""
    names = [row["name"] for row in rows]
    columns = model_versions.c
    told = [columns.outputs[name].as_string() for name in ("target", "task")]
    query = select(columns.name, columns.version, columns.job_id, columns.metrics, columns.created_at, columns.verdict)
    query = query.add_columns(*told)
    query = query.where(mine(connection, model_versions), columns.name.in_(names))
    query = query.order_by(columns.version.desc())
    versions: dict[str, list[VersionSummary]] = {name: [] for name in names}
    for name, *summary in connection.execute(query):
        versions[name].append(VersionSummary(*summary))
    standing = aliases.by_model(connection, names)
    return [Model(row["name"], row["created_at"], tuple(versions[row["name"]]), standing[row["name"]]) for row in rows]


def _version(row: RowMapping) -> ModelVersion:
    inputs, outputs = row["inputs"], row["outputs"]
    return ModelVersion(
        **{name: value for name, value in row.items() if name not in ("owner", "inputs", "outputs", "warnings")},
        warnings=tuple(row["warnings"] or ()),
        inputs=Inputs(from_json(inputs["encoders"]), tuple(inputs["mean"]), tuple(inputs["scale"])),
        outputs=Outputs(**{**outputs, "classes": tuple(outputs["classes"])}),
    )
