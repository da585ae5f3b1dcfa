"""The Open Inference Protocol's extensions around models: the repository, configurations, statistics."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.gate.scopes import needs
from service.api.protocols import model_documents
from service.api.protocols.bodies import NotJson, check_length, read_json
from service.api.protocols.exchange import (
    NamePath,
    VersionPath,
    answers,
    errors,
    json_response,
    statistics_of,
)
from service.api.protocols.json_members import flag, parameters_of
from service.api.protocols.open_inference import find
from service.api.protocols.repository import every_model
from service.api.protocols.route import ProtocolRoute
from service.api.protocols.views import ErrorTextView, IndexEntryView, IndexRequestView, StatisticsView, json_body
from service.api.rephrasing import Refused
from service.api.services import database_of, owner_of, services_of
from service.api.strict_bodies import LARGE_BODY_BYTES
from service.domain.keys import Scope

UNLOAD = (
    "models leave the memory by themselves when others need it, so that none has to be unloaded; "
    "DELETE /models/NAME/versions/N deletes a version"
)
CONFIGURATION = {"200": {"description": "Triton's model configuration", "content": {"application/json": {}}}}

router = APIRouter(tags=["Open Inference Protocol"], route_class=ProtocolRoute, responses=errors(ErrorTextView))


@router.get("/v2/models/stats", response_model=None, responses=answers(StatisticsView))
@needs(Scope.READ, Scope.PREDICT)
async def every_statistics(request: Request) -> Response:
    """Count what this process has answered, by version in memory."""
    loaded = services_of(request).serving.loaded_of(owner_of(request))
    return json_response({"model_stats": [statistics_of(request).describe(served) for served in loaded]})


@router.get("/v2/models/{name}/stats", response_model=None, responses=answers(StatisticsView))
@needs(Scope.READ, Scope.PREDICT)
async def model_statistics(name: NamePath, request: Request) -> Response:
    """Count what this process has answered with the versions of a model that are in memory."""
    await find(request, name)
    loaded = services_of(request).serving.loaded_of(owner_of(request), name)
    return json_response({"model_stats": [statistics_of(request).describe(served) for served in loaded]})


@router.get("/v2/models/{name}/versions/{version}/stats", response_model=None, responses=answers(StatisticsView))
@needs(Scope.READ, Scope.PREDICT)
async def version_statistics(name: NamePath, version: VersionPath, request: Request) -> Response:
    """Count what this process has answered with a version."""
    served = await find(request, name, version)
    return json_response({"model_stats": [statistics_of(request).describe(served)]})


@router.get("/v2/models/{name}/config", response_model=None, openapi_extra={"responses": CONFIGURATION})
@needs(Scope.READ, Scope.PREDICT)
async def model_configuration(name: NamePath, request: Request) -> Response:
    """Describe a model as Triton configures it."""
    return json_response(model_documents.configuration(await find(request, name)))


@router.get(
    "/v2/models/{name}/versions/{version}/config", response_model=None, openapi_extra={"responses": CONFIGURATION}
)
@needs(Scope.READ, Scope.PREDICT)
async def version_configuration(name: NamePath, version: VersionPath, request: Request) -> Response:
    """Describe a version as Triton configures it."""
    return json_response(model_documents.configuration(await find(request, name, version)))


@router.post(
    "/v2/repository/index",
    response_model=None,
    responses=answers(list[IndexEntryView]),
    openapi_extra=json_body(IndexRequestView, required=False),
)
@needs(Scope.READ, Scope.PREDICT)
async def repository_index(request: Request) -> Response:
    """List every version of every model; all that there are can be asked."""
    is_ready_only = flag(await _document(request), "ready")
    models = await run_in_threadpool(every_model, database_of(request))
    entries: list[dict[str, str]] = []
    for model in models:
        versions = sorted(summary.version for summary in model.versions)
        entries += [{"name": model.name, "version": str(version), "state": "READY"} for version in versions]
        if not versions and not is_ready_only:
            entries.append({"name": model.name})
    return json_response(entries)


@router.post(
    "/v2/repository/models/{name}/load",
    response_model=None,
    response_class=Response,
    responses={501: {"model": ErrorTextView, "description": "Parameters are not taken"}},
)
@needs(Scope.READ, Scope.PREDICT)
async def load(name: NamePath, request: Request) -> Response:
    """Load the default version of a model now, so that the first request need not wait for it."""
    if parameters_of(await _document(request)):
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, "a model is loaded as it is registered; send no parameters")
    await find(request, name)
    return Response()


@router.post(
    "/v2/repository/models/{name}/unload",
    status_code=HTTPStatus.NOT_IMPLEMENTED,
    response_model=None,
    responses={501: {"model": ErrorTextView, "description": "It is never needed"}},
)
@needs(Scope.READ, Scope.PREDICT)
async def unload(name: NamePath, request: Request) -> Response:
    """Say that this is not needed."""
    await find(request, name)
    raise Refused(HTTPStatus.NOT_IMPLEMENTED, UNLOAD)


async def _document(request: Request) -> dict[str, Any]:
    """Read a body that may be empty."""
    body = await request.body()
    check_length(len(body), LARGE_BODY_BYTES)  # some flags and parameters, which are read where others wait
    try:
        document = read_json(body) if body else {}
    except NotJson as error:
        text = f"failed to parse the request JSON buffer: {error.reason} at {error.offset}"
        raise Refused(HTTPStatus.BAD_REQUEST, text) from None
    if type(document) is not dict:
        raise Refused(HTTPStatus.BAD_REQUEST, "failed to parse the request JSON buffer: it is not an object")
    return document
