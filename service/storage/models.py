"""The registry: names, versions, and the files that serve them."""

from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, insert, select

from service.domain.encoders import from_json, to_json
from service.domain.errors import UnknownModel, UnknownVersion
from service.domain.models import Inputs, Model, ModelVersion, NewVersion, Outputs
from service.storage import blobs, pages
from service.storage.database import upsert
from service.storage.tables import model_versions, models


def register(connection: Connection, new: NewVersion) -> int:
    """Store a version with its files and return its number; versions of a name count from 1."""
    counted = upsert(connection, models).values(name=new.name, newest_version=1)
    counted = counted.on_conflict_do_update(
        index_elements=[models.c.name], set_={"newest_version": models.c.newest_version + 1}
    ).returning(models.c.newest_version)
    version: int = connection.execute(counted).scalar_one()
    connection.execute(
        insert(model_versions).values(
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
            weights_sha256=blobs.put(connection, new.weights),
            onnx_sha256=blobs.put(connection, new.onnx),
        )
    )
    return version


def get_model(connection: Connection, name: str) -> Model:
    """Read a model with all its versions, newest first.

    Raises:
        UnknownModel: there is none of this name.
    """
    row = connection.execute(select(models).where(models.c.name == name)).mappings().first()
    if row is None:
        raise UnknownModel(name)
    return _model(connection, row)


def list_page(connection: Connection, page: pages.PageRequest) -> pages.Page[Model]:
    """List models, newest first."""
    rows, token = pages.fetch(connection, select(models), models.c.number, page)
    return pages.Page([_model(connection, row) for row in rows], token)


def get_version(connection: Connection, name: str, version: int | None = None) -> ModelVersion:
    """Read one version; None is the newest.

    Raises:
        UnknownModel: there is no model of this name.
        UnknownVersion: it has no such version.
    """
    newest = connection.execute(select(models.c.newest_version).where(models.c.name == name)).scalar()
    if newest is None:
        raise UnknownModel(name)
    number = newest if version is None else version
    query = select(model_versions).where(model_versions.c.name == name, model_versions.c.version == number)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise UnknownVersion(name, number)
    return _version(row)


def onnx_file(connection: Connection, sha256: str) -> bytes:
    """Read the graph that serves a version.

    Raises:
        CorruptBlob: it is missing or damaged.
    """
    return blobs.get(connection, sha256)


def _model(connection: Connection, row: RowMapping) -> Model:
    query = select(model_versions).where(model_versions.c.name == row["name"]).order_by(model_versions.c.version.desc())
    versions = tuple(_version(version) for version in connection.execute(query).mappings())
    return Model(row["name"], row["newest_version"], row["created_at"], versions)


def _version(row: RowMapping) -> ModelVersion:
    inputs, outputs = row["inputs"], row["outputs"]
    return ModelVersion(
        **{name: value for name, value in row.items() if name not in ("inputs", "outputs", "warnings")},
        warnings=tuple(row["warnings"] or ()),
        inputs=Inputs(from_json(inputs["encoders"]), tuple(inputs["mean"]), tuple(inputs["scale"])),
        outputs=Outputs(**{**outputs, "classes": tuple(outputs["classes"])}),
    )
