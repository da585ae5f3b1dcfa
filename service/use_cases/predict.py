"""Predict: raw rows in, answers out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import InvalidRows, ModelNotReady, UnknownAlias, UnknownModel, Violation
from service.domain.models import ClassLabel, ModelVersion
from service.inference import rows
from service.inference.rows import MAX_VIOLATIONS
from service.inference.sessions import CHUNK_ROWS, SessionCache
from service.storage import jobs, models
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN

MAX_PROBABILITIES = 2_000_000
"""More of them in one answer would take hundreds of megabytes on their way."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Answers in the order of the rows; ``probabilities`` is (rows, classes) for a classification."""

    model: str
    version: int
    predictions: list[ClassLabel]
    classes: list[ClassLabel] | None = None
    probabilities: list[list[float]] | None = None
    warnings: list[str] | None = None
    """What was odd about the rows, such as a category that training did not see; None where nothing was."""


def predict(
    database: Database,
    sessions: SessionCache,
    name: str,
    instances: Sequence[Any],
    version: int | None = None,
    alias: str | None = None,
) -> Prediction:
    """Answer rows with a version of a model, the newest one by default.

    While the database is down, a version whose network is in memory still answers; the newest is then the last known.

    Raises:
        UnknownModel, UnknownVersion, UnknownAlias: there is no such thing.
        ModelNotReady: the first version is still being trained.
        InvalidRows: the model cannot take the rows.
        CorruptBlob: the stored graph is damaged.
    """
    found = _find(database, sessions, name, version, alias)

    def load() -> bytes:
        with database.read() as connection:
            return models.onnx_file(connection, found.onnx_sha256)

    _check_size(len(instances), found)
    checked = rows.check(instances, found.inputs)
    network = sessions.get(found.onnx_sha256, load)
    # Piece by piece, for categories make many columns of few cells.
    pieces = range(0, checked.count, CHUNK_ROWS)
    answer = np.concatenate([network.run(checked.encoded(start, start + CHUNK_ROWS)) for start in pieces])
    _check_finite(answer)
    warnings = list(checked.warnings) or None
    if found.outputs.task == "regression":
        return Prediction(name, found.version, answer[:, 0].tolist(), warnings=warnings)
    classes = list(found.outputs.classes)
    labels = [classes[index] for index in answer.argmax(axis=1).tolist()]
    return Prediction(name, found.version, labels, classes, answer.tolist(), warnings)


def _check_size(count: int, version: ModelVersion) -> None:
    """Refuse rows whose probabilities would fill the memory."""
    classes = len(version.outputs.classes)
    if count * classes > MAX_PROBABILITIES:
        most = MAX_PROBABILITIES // classes
        detail = (
            f"has {count:,} rows; with {classes:,} classes, at most {most:,} are answered at once. Send them in parts"
        )
        raise InvalidRows([Violation("#/instances", detail)])


def _check_finite(answer: NDArray[np.floating]) -> None:
    """Refuse rows whose answer is no number: values so far from the training rows that float32 overflows inside."""
    lost = np.flatnonzero(~np.isfinite(answer).all(axis=1))[:MAX_VIOLATIONS]
    if len(lost):
        detail = "row {0} has values too far from those that the model was trained on; it has no answer for them"
        raise InvalidRows([Violation(f"#/instances/{row}", detail.format(row)) for row in lost])


def _find(
    database: Database, sessions: SessionCache, name: str, version: int | None, alias: str | None
) -> ModelVersion:
    try:
        found = _read(database, name, version, alias)
    except DATABASE_DOWN:
        known = None if alias is not None else sessions.recall(name, version)
        if known is None:
            raise
        return known
    sessions.remember(found, is_newest=version is None)
    return found


def _read(database: Database, name: str, version: int | None, alias: str | None) -> ModelVersion:
    with database.read() as connection:
        try:
            if alias is not None:
                models.get_model(connection, name)
                raise UnknownAlias(name, alias)
            return models.get_version(connection, name, version)
        except UnknownModel:
            job = jobs.newest_for_model(connection, name)
            if job is None:
                raise
            raise ModelNotReady(name, job.id, job.state) from None
