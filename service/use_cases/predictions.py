"""Predictions over stored data sets: submit, look at, read the result, cancel, delete."""

import secrets
from collections.abc import Callable
from typing import Any, BinaryIO

from service.domain.audit import Action
from service.domain.errors import InvalidSpec, UnknownDataset, Violation
from service.domain.models import ModelVersion
from service.domain.prediction_completion import complete_prediction
from service.domain.predictions import EvaluationSpec, PredictionJob, PredictionResult, PredictionSpec
from service.domain.quotas import NO_QUOTAS, Quotas
from service.storage import audit, datasets, jobs, pages, predictions
from service.storage.database import Connection, Database
from service.use_cases.idempotency import KeyedRequest, Outcome, StoredAnswer, once
from service.use_cases.models import resolve_version
from service.use_cases.quotas import with_room
from service.use_cases.stored_files import copy_out


def submit_prediction_once(
    database: Database,
    spec: PredictionSpec,
    request: KeyedRequest | None,
    answer: Callable[[PredictionJob], StoredAnswer],
    quotas: Quotas = NO_QUOTAS,
) -> Outcome[PredictionJob]:
    """Complete a spec and store it as a queued job, unless this request has been answered before.

    Ring the doorbell after this returns.

    Raises:
        UnknownModel, UnknownVersion, UnknownAlias: there is no such thing.
        ModelNotReady: the first version is still being trained.
        InvalidSpec: the data set does not fit the model, or the result would be too large.
        QuotaExceeded: its owner has no room for one more.
        IdempotencyKeyReused: another request came under this key.
    """
    return once(database, request, with_room(quotas, lambda connection: _submit(connection, spec)), answer)


def submit_evaluation_once(
    database: Database,
    name: str,
    version: int,
    spec: EvaluationSpec,
    request: KeyedRequest | None,
    answer: Callable[[PredictionJob], StoredAnswer],
    quotas: Quotas = NO_QUOTAS,
) -> Outcome[PredictionJob]:
    """Store a prediction whose answers are held against the truth, unless this request has been answered before.

    Ring the doorbell after this returns.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
        InvalidSpec: the data set does not fit the model, or the result would be too large.
        QuotaExceeded: its owner has no room for one more.
        IdempotencyKeyReused: another request came under this key.
    """
    make = with_room(quotas, lambda connection: _submit_evaluation(connection, name, version, spec))
    return once(database, request, make, answer)


def get_prediction(database: Database, prediction_id: str) -> PredictionJob:
    """Read one prediction."""
    with database.read() as connection:
        return predictions.get(connection, prediction_id)


def list_predictions(database: Database, wanted: jobs.JobFilter, page: pages.PageRequest) -> pages.Page[PredictionJob]:
    """List predictions, newest first."""
    with database.read() as connection:
        return predictions.list_page(connection, wanted, page)


def prediction_result(database: Database, prediction_id: str) -> PredictionResult:
    """Read what a prediction has made.

    Raises:
        UnknownPrediction: there is none with this id.
        NoResult: it has not ended, or not well.
    """
    with database.read() as connection:
        return predictions.result_of(connection, prediction_id)


def result_file(database: Database, result: PredictionResult) -> BinaryIO:
    """Copy a result into a temporary file, which stands at its start and is the caller's to close.

    Raises:
        CorruptBlob: it is missing or damaged.
    """
    return copy_out(database, result.sha256)


def cancel_prediction(database: Database, prediction_id: str) -> PredictionJob:
    """Ask that a prediction ends without a result; one that is cancelled already stays so."""
    with database.write() as connection:
        predictions.request_cancel(connection, prediction_id)
        audit.record(connection, Action.PREDICTION_CANCELLED, prediction_id)
        return predictions.get(connection, prediction_id)


def delete_prediction(database: Database, prediction_id: str) -> None:
    """Delete a prediction that has ended, with its result."""
    with database.write() as connection:
        predictions.remove(connection, prediction_id)
        audit.record(connection, Action.PREDICTION_DELETED, prediction_id)


def _submit(connection: Connection, spec: PredictionSpec) -> PredictionJob:
    # So that it is not deleted before the prediction is stored.
    version = resolve_version(connection, spec.model, spec.version, spec.alias, for_use=True)
    return _store(connection, spec, version)


def _submit_evaluation(connection: Connection, name: str, version: int, spec: EvaluationSpec) -> PredictionJob:
    found = resolve_version(connection, name, version, None, for_use=True)
    values = spec.model_dump() | {"target": spec.target or found.outputs.target}
    return _store(connection, PredictionSpec(model=found.name, version=found.version, **values), found)


def _store(connection: Connection, spec: PredictionSpec, version: ModelVersion) -> PredictionJob:
    try:
        dataset = datasets.get(connection, spec.dataset, for_use=True)
    except UnknownDataset as error:
        raise InvalidSpec([Violation("#/dataset", str(error))]) from None
    completed = complete_prediction(spec, version, dataset)
    prediction_id = secrets.token_hex(10)
    stored = completed.spec.model_dump(mode="json")
    predictions.add(connection, prediction_id, stored, dataset.rows, completed.warnings)
    about: dict[str, Any] = {"model": version.name, "version": version.version, "dataset": dataset.id}
    audit.record(connection, Action.PREDICTION_SUBMITTED, prediction_id, **about)
    return predictions.get(connection, prediction_id)
