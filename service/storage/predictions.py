"""Predictions over stored data sets: jobs whose epochs are rows, and whose states are the parts of a result.

What is done is stored in parts, each under the number that counts a job's states up; together, and with the rest, they
are the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

from sqlalchemy import Connection, RowMapping, insert, select

from service.domain.errors import NoResult, UnknownPrediction
from service.domain.jobs import Checkpoint, Claim, JobKind, JobState, Progress, SavedState
from service.domain.predictions import Evaluation, PredictionJob, PredictionResult
from service.storage import blobs, jobs, leases, pages, turns
from service.storage.checkpoints import newest
from service.storage.jobs import JobFilter
from service.storage.owners import mine, my_job
from service.storage.tables import checkpoints
from service.storage.tables import jobs as table

_SELECT = select(table).where(table.c.kind == JobKind.PREDICTION)


def add(connection: Connection, prediction_id: str, spec: dict[str, Any], rows: int, warnings: Sequence[str]) -> None:
    """Store a new prediction as queued; ``spec`` is complete, ``rows`` are those of its data set."""
    values = {"epochs": rows, "model_version": spec["version"]}
    jobs.enqueue(connection, prediction_id, JobKind.PREDICTION, spec, warnings, **values)
    turns.join(connection)


def get(connection: Connection, prediction_id: str) -> PredictionJob:
    """Read one prediction.

    Raises:
        UnknownPrediction: there is none with this id.
    """
    query = _SELECT.where(mine(connection, table), table.c.id == prediction_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise UnknownPrediction(prediction_id)
    return _predictions(connection, [row])[0]


def list_page(connection: Connection, wanted: JobFilter, page: pages.PageRequest) -> pages.Page[PredictionJob]:
    """List predictions, newest first."""
    rows, token = jobs.fetch_page(connection, _SELECT, wanted, page)
    return pages.Page(_predictions(connection, rows), token)


def request_cancel(connection: Connection, prediction_id: str) -> None:
    """Cancel a prediction that nobody runs at once; ask the worker of a running one to stop.

    Raises:
        UnknownPrediction: there is none with this id.
        JobIsFinal: it has succeeded or failed.
    """
    jobs.request_cancel(connection, prediction_id, JobKind.PREDICTION)


def remove(connection: Connection, prediction_id: str) -> None:
    """Delete a prediction that has ended, with its result.

    Raises:
        UnknownPrediction: there is none with this id.
        JobIsNotFinal: it has not ended.
    """
    jobs.discard(connection, prediction_id, JobKind.PREDICTION)


def result_of(connection: Connection, prediction_id: str) -> PredictionResult:
    """Read what a prediction has made.

    Raises:
        UnknownPrediction: there is none with this id.
        NoResult: it has not ended, or not well.
    """
    found = get(connection, prediction_id)
    if found.result is None:
        raise NoResult(prediction_id, found.state, is_final=found.state.is_final)
    return found.result


def copy_file(connection: Connection, sha256: str, file: BinaryIO) -> None:
    """Copy a result, a part of one, or a data set into a file, in constant memory.

    Raises:
        CorruptBlob: it is missing or damaged.
    """
    blobs.copy_to(connection, sha256, file)


def parts(connection: Connection, prediction_id: str) -> list[Checkpoint]:
    """Return where the stored parts of a result end, in order; ``epoch`` counts the rows up to there."""
    query = select(checkpoints).where(checkpoints.c.job_id == my_job(connection, prediction_id))
    query = query.order_by(checkpoints.c.number)
    rows = connection.execute(query).mappings()
    return [Checkpoint(row["number"], row["sha256"], row["epoch"], row["step"]) for row in rows]


def add_part(connection: Connection, held: Claim, progress: Progress, part: SavedState) -> None:
    """Store a part of the result, after which the prediction goes on; ``part.epoch`` counts the rows up to its end.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    sha256 = blobs.put(connection, part.content)  # before anybody waits for the job's row
    job = leases.hold(connection, held)
    before = newest(connection, held.job_id)
    if before is not None and part.epoch <= before.epoch:
        return  # stored already, by a commit whose answer was lost
    number = job["last_checkpoint"] + 1
    leases.record_progress(connection, held, progress)
    leases.write(connection, held, epoch=part.epoch, last_checkpoint=number, losses=0)
    values = {"job_id": held.job_id, "number": number, "sha256": sha256, "epoch": part.epoch, "step": part.step}
    connection.execute(insert(checkpoints).values(values))


def succeed(connection: Connection, held: Claim, file: BinaryIO, result: PredictionResult) -> None:
    """Store the result and end the prediction.

    Raises:
        LeaseLost: another worker owns the job, it has ended, or somebody asked to cancel it.
        CorruptBlob: the file does not have the result's hash.
    """
    blobs.put_file(connection, file, result.sha256, result.size_bytes)
    made = {
        "rows": result.rows,
        "unanswered": result.unanswered,
        "columns": list(result.columns),
        "size_bytes": result.size_bytes,
        "warnings": list(result.warnings),
        "evaluation": None if result.evaluation is None else asdict(result.evaluation),
    }
    leases.finish(
        connection, held, {"result_sha256": result.sha256, "result": made, "epoch": result.rows}, rows=result.rows
    )


def _predictions(connection: Connection, rows: Sequence[RowMapping]) -> list[PredictionJob]:
    places = jobs.places_of(connection, rows)
    return [_prediction(row, places.get(row["number"])) for row in rows]


def _prediction(row: RowMapping, queue_position: int | None) -> PredictionJob:
    made = row["result"]
    return PredictionJob(
        id=row["id"],
        number=row["number"],
        state=JobState(row["state"]),
        spec=row["spec"],
        rows=row["epochs"],
        tags=row["tags"],
        warnings=row["warnings"] or [],
        attempts=row["fence"],
        fraction=row["fraction"],
        rows_per_second=row["rows_per_second"],
        eta_seconds=row["eta_seconds"],
        result=None if made is None else _result(made, row["result_sha256"]),
        error_code=row["error_code"],
        error_detail=row["error_detail"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        queue_position=queue_position,
    )


def _result(made: Mapping[str, Any], sha256: str) -> PredictionResult:
    evaluation = made.get("evaluation")  # results from before there were evaluations have none
    whole = None if evaluation is None else Evaluation(**evaluation)
    return PredictionResult(**{**made, "evaluation": whole}, sha256=sha256)
