"""What MLflow's scoring server and SageMaker's containers offer: /ping and /invocations."""

import csv
import io
import re
import time
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray

from service.api.gate.scopes import needs, public
from service.api.protocols.bodies import in_turn, size_to_read, unpacked, weighted
from service.api.protocols.exchange import answers, encoding_of, errors, statistics_of
from service.api.protocols.invocation_rows import CSV, JSON, read_content_type, read_rows
from service.api.protocols.repository import OnlyModel, can_serve
from service.api.protocols.route import ProtocolRoute
from service.api.protocols.signatures import label_text
from service.api.protocols.views import InvocationsBody, InvocationsView, MlflowErrorView, json_body
from service.api.rephrasing import Refused, mlflow_error
from service.api.services import find_served, owner_of, services_of
from service.domain.errors import InvalidRows
from service.domain.keys import Scope
from service.domain.models import MAX_VERSION, ClassLabel
from service.inference.rows import CheckedRows
from service.use_cases.predict import Answer
from service.use_cases.serving import Served

TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
REFERENCE = re.compile(rf"({NAME})(?:/([0-9]{{1,19}})|@({NAME}))?")
WAYS = f"NAME, NAME/VERSION or NAME@ALIAS, as ?model= or in the header {TARGET_MODEL}"
CSV_TEXT = {CSV: {"schema": {"type": "string"}}}


class InvocationRoute(ProtocolRoute):
    """A route of MLflow's scoring server."""

    def write_error(self, status: int, text: str) -> bytes:
        """Return the JSON of an error."""
        return mlflow_error(status, text)


router = APIRouter(tags=["MLflow and SageMaker"], route_class=InvocationRoute, responses=errors(MlflowErrorView))
ModelQuery = Annotated[str | None, Query(description="NAME, NAME/VERSION or NAME@ALIAS")]
ModelHeader = Annotated[str | None, Header(alias=TARGET_MODEL, description="The same, where the query names none")]


@router.get("/ping", response_model=None)
@public
async def ping(request: Request) -> Response:
    """Whether models can be served."""
    if not can_serve(services_of(request)):
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "no model can be served: the database does not answer")
    return Response(b"\n", media_type="application/json")


@router.post(
    "/invocations",
    response_model=None,
    responses=answers(InvocationsView, CSV_TEXT),
    openapi_extra=json_body(InvocationsBody, CSV_TEXT),
)
@needs(Scope.PREDICT)
async def invocations(request: Request, model: ModelQuery = None, target: ModelHeader = None) -> Response:
    """Answer rows with a model: the named one, else the one of the setting, else the only one that there is."""
    services, headers = services_of(request), request.headers
    content_type = read_content_type(headers.get("content-type"))
    body = await request.body()
    begun = time.perf_counter_ns()
    named = next((word for word in (model, target, services.default_model) if word is not None), None)
    served = await _find(request, named)
    encoding = encoding_of(request)

    def read() -> CheckedRows:
        content = unpacked(body, encoding, services.max_predict_bytes)
        return read_rows(served, content, content_type, services.max_json_bytes)

    rows = await in_turn(services, size_to_read(body, encoding), read)
    read_at = time.perf_counter_ns()
    try:
        answer = await services.gathering.answer(served, rows)
    except InvalidRows:
        statistics_of(request).failed(served, begun)
        raise
    answered_at = time.perf_counter_ns()
    write = _write_csv if _prefers_csv(headers.get("accept", "")) else _write_json
    response = await in_turn(services, answer.values.nbytes, partial(write, served, answer))
    statistics_of(request).succeeded(served, rows.count, begun, read_at, answered_at)
    return response


async def _find(request: Request, reference: str | None) -> Served:
    """Return the version that is meant.

    Raises:
        Refused: which one that is, is not said, or not in a way that can be read.
        UnknownModel, UnknownVersion, UnknownAlias, ModelNotReady: there is no such thing, or not yet.
    """
    services = services_of(request)
    if reference is None:
        reference = await _only_name(request)
    found = REFERENCE.fullmatch(reference)
    if found is None:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{reference[:64]!r} is no model; send {WAYS}")
    name, version, alias = found.groups()
    if version is not None and int(version) > MAX_VERSION:
        raise Refused(HTTPStatus.NOT_FOUND, f"model {name!r} has no version {version}")
    return await find_served(services, owner_of(request), name, None if version is None else int(version), alias)


async def _only_name(request: Request) -> str:
    only: OnlyModel = request.app.state.only_model
    names = await run_in_threadpool(only.names, services_of(request), owner_of(request))
    if not names:
        raise Refused(HTTPStatus.NOT_FOUND, "no model is registered yet; POST /jobs trains one")
    if len(names) > 1:
        text = f"there are several models; say which with {WAYS}, or set SELFNORM_DEFAULT_MODEL for all that do not say"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    return names[0]


def _write_json(served: Served, answer: Answer) -> Response:
    answered: dict[str, Any] = {"predictions": _predictions(served, answer)}
    if answer.warnings:
        answered["warnings"] = answer.warnings
    return Response(orjson.dumps(answered, option=orjson.OPT_SERIALIZE_NUMPY), media_type=JSON)


def _write_csv(served: Served, answer: Answer) -> Response:
    """Write a line for each row."""
    text = io.StringIO(newline="")
    predictions = _predictions(served, answer)
    cells = map(label_text, predictions) if isinstance(predictions, list) else map(repr, predictions.tolist())
    csv.writer(text, lineterminator="\n").writerows((cell,) for cell in cells)
    return Response(text.getvalue(), media_type=f"{CSV}; charset=utf-8")


def _predictions(served: Served, answer: Answer) -> NDArray[np.floating] | list[ClassLabel]:
    """Return numbers, or the likeliest class of each row."""
    classes = served.version.outputs.classes
    if not classes:
        return np.ascontiguousarray(answer.values[:, 0])
    return [classes[place] for place in answer.values.argmax(axis=1).tolist()]


def _prefers_csv(accept: str) -> bool:
    """Whether a client asks for CSV, and not rather for JSON."""
    weights = dict(weighted(accept))
    return weights.get(CSV, 0.0) > weights.get(JSON, 0.0)
