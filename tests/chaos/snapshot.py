"""Everything that a checker asks of a database, read once; files are read a part at a time and only hashed."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from service.storage import tables


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it is stored."""

    number: int
    kind: str
    data: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as it is stored, with what belongs to it."""

    id: str
    state: str
    tags: list[str]
    fence: int
    losses: int
    last_event: int
    epoch: int
    model_version: int | None
    error_code: str | None
    error_detail: str | None
    split_sha256: str | None
    epochs: list[int] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    """What each epoch measured, bit for bit."""
    events: list[StoredEvent] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    """Hashes of its saved states."""

    @property
    def curve(self) -> str:
        """Return a hash of all that its epochs measured."""
        return hashlib.sha256("\n".join(self.measured).encode()).hexdigest()

    def all_of(self, kind: str) -> list[StoredEvent]:
        """Return its events of one kind, in order."""
        return [event for event in self.events if event.kind == kind]


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version of a model as it is stored."""

    name: str
    version: int
    job_id: str
    weights_sha256: str
    onnx_sha256: str
    keras_sha256: str | None
    warnings: list[str]


@dataclass(frozen=True)
class Snapshot:
    """A database at rest."""

    jobs: dict[str, StoredJob]
    versions: list[StoredVersion]
    tables: dict[str, str]
    """The hash of each uploaded data set."""
    blobs: dict[str, str]
    """The hash that each blob is stored under, and the one that its parts have."""
    broken_sizes: dict[str, tuple[int, int]]
    """Blobs whose parts do not have the stored size: that size, and theirs."""


def read(connection: Connection) -> Snapshot:
    """Read a database."""
    jobs = _jobs(connection)
    measured = tables.epochs.c
    for row in connection.execute(select(tables.epochs).order_by(measured.job_id, measured.epoch)):
        jobs[row.job_id].epochs.append(row.epoch)
        jobs[row.job_id].measured.append(json.dumps([row.metrics, row.learning_rate], sort_keys=True))
    for row in connection.execute(select(tables.events).order_by(tables.events.c.job_id, tables.events.c.number)):
        jobs[row.job_id].events.append(StoredEvent(row.number, row.kind, row.data, row.created_at))
    for row in connection.execute(select(tables.checkpoints)):
        jobs[row.job_id].checkpoints.append(row.sha256)
    uploads = select(tables.datasets.c.id, tables.datasets.c.sha256).where(tables.datasets.c.sha256.is_not(None))
    named = {row.id: row.sha256 for row in connection.execute(uploads)}
    return Snapshot(jobs, _versions(connection), named, *_blobs(connection))


def _jobs(connection: Connection) -> dict[str, StoredJob]:
    below = ("epochs", "measured", "events", "checkpoints")
    names = [name for name in StoredJob.__dataclass_fields__ if name not in below]
    rows = connection.execute(select(*(tables.jobs.c[name] for name in names)).order_by(tables.jobs.c.number))
    return {row["id"]: StoredJob(**row) for row in rows.mappings()}


def _versions(connection: Connection) -> list[StoredVersion]:
    stored = tables.model_versions.c
    rows = connection.execute(select(*(stored[name] for name in StoredVersion.__dataclass_fields__)))
    return [StoredVersion(**{**row, "warnings": row["warnings"] or []}) for row in rows.mappings()]


def _blobs(connection: Connection) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    hashes, broken = {}, {}
    parts = tables.blob_parts.c
    for sha256, size in connection.execute(select(tables.blobs.c.sha256, tables.blobs.c.size_bytes)).all():
        digest, found = hashlib.sha256(), 0
        query = select(parts.data).where(parts.sha256 == sha256).order_by(parts.part)
        for data in connection.execute(query.execution_options(yield_per=4)).scalars():
            digest.update(data)
            found += len(data)
        hashes[sha256] = digest.hexdigest()
        if found != size:
            broken[sha256] = (size, found)
    return hashes, broken
