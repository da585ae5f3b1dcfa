"""/predictions: predict over a stored data set; look at it, wait for it, read its result, cancel, delete."""

from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from service.api.dependencies import (
    DatabaseDependency,
    FilterDependency,
    KeyedDependency,
    PageDependency,
    ServicesDependency,
    answer_of,
)
from service.api.gate.scopes import needs
from service.api.strict_bodies import StrictRoute
from service.api.views.base import PageView
from service.api.views.predictions import PredictionJobView
from service.api.waiting import WaitParameter, has_tag, tagged, wait_for
from service.domain.jobs import JobState
from service.domain.keys import Scope
from service.domain.predictions import PredictionJob, PredictionSpec
from service.use_cases import predictions
from service.use_cases.idempotency import StoredAnswer

router = APIRouter(prefix="/predictions", tags=["predictions"], route_class=StrictRoute)

RETRY_AFTER_SECONDS = 1
PIECE_BYTES = 256 * 1024
Format = Literal["parquet", "csv"]
MEDIA_TYPES: dict[Format, str] = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv"}
FILE = {"schema": {"type": "string", "format": "binary"}}


@router.post("", status_code=202, response_model=PredictionJobView)
@needs(Scope.SUBMIT)
def submit(
    spec: PredictionSpec, services: ServicesDependency, database: DatabaseDependency, keyed: KeyedDependency
) -> Response:
    """Predict over every row of a stored data set."""
    with services.running.serving(keyed):
        outcome = predictions.submit_prediction_once(database, spec, keyed, accepted, services.quotas)
    if outcome.made is not None:
        services.doorbell.ring(outcome.made.id)
    return answer_of(outcome)


def accepted(job: PredictionJob) -> StoredAnswer:
    """Answer a request that made a prediction."""
    headers = {"Location": f"/predictions/{job.id}", "Retry-After": str(RETRY_AFTER_SECONDS)}
    return StoredAnswer(202, headers, PredictionJobView.of(job).model_dump_json().encode())


@router.get("")
@needs(Scope.READ)
def list_predictions(
    database: DatabaseDependency, page: PageDependency, wanted: FilterDependency
) -> PageView[PredictionJobView]:
    """List predictions over stored data sets, newest first."""
    found = predictions.list_predictions(database, wanted, page)
    return PageView(items=[PredictionJobView.of(job) for job in found.items], next_page_token=found.next_token)


@router.get(
    "/{prediction_id}",
    response_model=PredictionJobView,
    responses={304: {"description": "Nothing has changed since that ETag"}},
)
@needs(Scope.READ)
async def get_prediction(
    prediction_id: str,
    request: Request,
    services: ServicesDependency,
    database: DatabaseDependency,
    wait: WaitParameter = 0,
) -> Response:
    """Read a prediction."""
    job = await wait_for(services, lambda: predictions.get_prediction(database, prediction_id), wait)
    return tagged(request, PredictionJobView.of(job).model_dump_json().encode())


@router.get(
    "/{prediction_id}/result",
    response_class=Response,
    responses={
        200: {"content": dict.fromkeys(MEDIA_TYPES.values(), FILE)},
        304: {"description": "Nothing has changed since that ETag"},
    },
)
@needs(Scope.READ)
async def read_result(
    prediction_id: str,
    request: Request,
    database: DatabaseDependency,
    wanted: Annotated[Format | None, Query(alias="format", description="Instead of the header Accept")] = None,
) -> Response:
    """Read what a prediction has made, as Parquet or CSV: a row for each row of the data set, in its order."""
    result = await run_in_threadpool(predictions.prediction_result, database, prediction_id)
    form = wanted or _liked_form(request.headers.get("accept", ""))
    headers = {
        "ETag": f'"{result.sha256}-{form}"',
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'attachment; filename="prediction-{prediction_id}.{form}"',
    }
    if has_tag(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    file = await run_in_threadpool(predictions.result_file, database, result)
    if form == "parquet":
        headers["Content-Length"] = str(result.size_bytes)
    return StreamingResponse(_pieces(file, form), headers=headers, media_type=MEDIA_TYPES[form])


@router.post(
    "/{prediction_id}/cancel",
    status_code=202,
    responses={200: {"model": PredictionJobView, "description": "Cancelled already"}},
)
@needs(Scope.SUBMIT)
def cancel(prediction_id: str, database: DatabaseDependency, response: Response) -> PredictionJobView:
    """Ask that a prediction ends without a result."""
    before = predictions.get_prediction(database, prediction_id)
    job = predictions.cancel_prediction(database, prediction_id)
    response.status_code = 200 if before.state == JobState.CANCELLED else 202
    return PredictionJobView.of(job)


@router.delete("/{prediction_id}", status_code=204)
@needs(Scope.SUBMIT)
def delete(prediction_id: str, database: DatabaseDependency) -> None:
    """Delete a prediction that has ended, with its result."""
    predictions.delete_prediction(database, prediction_id)


def _liked_form(header: str) -> Format:
    """Return the form that an Accept header likes better; Parquet where it likes both, or neither."""
    liked: dict[str, float] = {}
    for item in header.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        liked[kind] = _number(quality)
    csv, parquet = (_liking(liked, MEDIA_TYPES[form]) for form in ("csv", "parquet"))
    return "csv" if csv > parquet else "parquet"


def _liking(liked: dict[str, float], kind: str) -> float:
    """Return how much a media type is liked: by its own name, its group's, or as anything."""
    group = f"{kind.partition('/')[0]}/*"
    return next((liked[name] for name in (kind, group, "*/*") if name in liked), 0.0)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _pieces(file: BinaryIO, form: Format) -> Iterator[bytes]:
    """Give a file piece by piece, and close it at the end."""
    with file:
        if form == "csv":
            from service.tables import results  # pyarrow takes 40 MB; most processes never need it

            yield from results.as_csv(file)
        else:
            yield from iter(lambda: file.read(PIECE_BYTES), b"")
