"""The Open Inference Protocol (v2), with Triton's extensions for binary tensors, classification and statistics."""

import time
from functools import partial
from http import HTTPStatus
from importlib.metadata import version as installed_version

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.gate.scopes import needs, public
from service.api.protocols import model_documents
from service.api.protocols.bodies import accepted_encoding, compress, in_turn, size_to_read, unpacked
from service.api.protocols.exchange import (
    NamePath,
    VersionPath,
    answers,
    encoding_of,
    errors,
    json_response,
    statistics_of,
)
from service.api.protocols.infer_answers import to_parts
from service.api.protocols.infer_requests import Asked, read_request
from service.api.protocols.repository import can_serve, versions_of
from service.api.protocols.route import ProtocolRoute
from service.api.protocols.views import (
    ErrorTextView,
    InferRequestView,
    InferResponseView,
    LiveView,
    ModelMetadataView,
    ModelReadyView,
    ReadyView,
    ServerMetadataView,
    json_body,
)
from service.api.rephrasing import Refused
from service.api.services import find_served, owner_of, services_of
from service.domain.errors import InvalidRows
from service.domain.keys import Scope
from service.domain.model_errors import ModelNotReady, NoVersionLeft, UnknownModel, UnknownVersion
from service.domain.models import MAX_VERSION
from service.use_cases.predict import Answer
from service.use_cases.serving import Served

EXTENSIONS = [
    "classification",
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
]
HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
router = APIRouter(tags=["Open Inference Protocol"], route_class=ProtocolRoute, responses=errors(ErrorTextView))


async def find(request: Request, name: str, version: str | None = None) -> Served:
    """Return the version that an address means.

    Raises:
        Refused: there is no such thing, or nothing of it can be asked yet.
    """
    number = None if version is None else int(version)
    start = f"Request for unknown model: '{name[:64]}'"
    try:
        if number is not None and number > MAX_VERSION:
            raise UnknownVersion(name, number)
        return await find_served(services_of(request), owner_of(request), name, number)
    except UnknownVersion:
        raise Refused(HTTPStatus.NOT_FOUND, f"{start} version {number} is not found") from None
    except (ModelNotReady, NoVersionLeft) as error:
        raise Refused(HTTPStatus.NOT_FOUND, f"{start} has no available versions; {error}") from None
    except UnknownModel:
        raise Refused(HTTPStatus.NOT_FOUND, f"{start} is not found") from None


@router.get("/v2", response_model=None, responses=answers(ServerMetadataView))
@needs(Scope.READ, Scope.PREDICT)
async def server_metadata() -> Response:
    """Say what this server is, and what it offers."""
    about = {"name": "selfnorm", "version": installed_version("selfnorm"), "extensions": EXTENSIONS}
    return json_response(about)


@router.get("/v2/health/live", response_model=None, responses=answers(LiveView))
@public
async def server_live() -> Response:
    """Whether the process answers."""
    return json_response({"live": True})


@router.get(
    "/v2/health/ready",
    response_model=None,
    responses={**answers(ReadyView), **answers(ReadyView, status=HTTPStatus.SERVICE_UNAVAILABLE)},
)
@public
async def server_ready(request: Request) -> Response:
    """Whether models can be served."""
    ready = can_serve(services_of(request))
    return json_response({"ready": ready}, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/v2/models/{name}", response_model=None, responses=answers(ModelMetadataView))
@needs(Scope.READ, Scope.PREDICT)
async def model_metadata(name: NamePath, request: Request) -> Response:
    """Describe a model as tensors."""
    return await _metadata(request, name)


@router.get("/v2/models/{name}/versions/{version}", response_model=None, responses=answers(ModelMetadataView))
@needs(Scope.READ, Scope.PREDICT)
async def version_metadata(name: NamePath, version: VersionPath, request: Request) -> Response:
    """Describe a version as tensors."""
    return await _metadata(request, name, version)


@router.get("/v2/models/{name}/ready", response_model=None, responses=answers(ModelReadyView))
@needs(Scope.READ, Scope.PREDICT)
async def model_ready(name: NamePath, request: Request) -> Response:
    """Whether a model can be asked."""
    return await _ready(request, name)


@router.get("/v2/models/{name}/versions/{version}/ready", response_model=None, responses=answers(ModelReadyView))
@needs(Scope.READ, Scope.PREDICT)
async def version_ready(name: NamePath, version: VersionPath, request: Request) -> Response:
    """Whether a version can be asked."""
    return await _ready(request, name, version)


BODY = json_body(InferRequestView, BINARY)
ANSWER = answers(InferResponseView, BINARY)


@router.post("/v2/models/{name}/infer", response_model=None, responses=ANSWER, openapi_extra=BODY)
@needs(Scope.PREDICT)
async def infer(name: NamePath, request: Request) -> Response:
    """Answer rows with the default version of a model."""
    return await _infer(request, name)


@router.post("/v2/models/{name}/versions/{version}/infer", response_model=None, responses=ANSWER, openapi_extra=BODY)
@needs(Scope.PREDICT)
async def infer_with_version(name: NamePath, version: VersionPath, request: Request) -> Response:
    """Answer rows with a version of a model."""
    return await _infer(request, name, version)


async def _metadata(request: Request, name: str, version: str | None = None) -> Response:
    served = await find(request, name, version)
    versions = await run_in_threadpool(versions_of, services_of(request), owner_of(request), name)
    return json_response(model_documents.metadata(served, versions))


async def _ready(request: Request, name: str, version: str | None = None) -> Response:
    await find(request, name, version)
    return json_response({"name": name, "ready": True})


async def _infer(request: Request, name: str, version: str | None = None) -> Response:
    services, headers = services_of(request), request.headers
    body = await request.body()
    begun = time.perf_counter_ns()
    served = await find(request, name, version)
    encoding, length = encoding_of(request), headers.get(HEADER_LENGTH)

    def read() -> Asked:
        content = unpacked(body, encoding, services.max_predict_bytes)
        return read_request(served, content, _header_length(length, len(content)), services.max_json_bytes)

    asked = await in_turn(services, size_to_read(body, encoding), read)
    read_at = time.perf_counter_ns()
    try:
        answer = await services.gathering.answer(served, asked.rows)
    except InvalidRows:
        statistics_of(request).failed(served, begun)
        raise
    answered_at = time.perf_counter_ns()
    accepted = accepted_encoding(headers.get("accept-encoding", ""))
    response = await in_turn(services, answer.values.nbytes, partial(_write, served, answer, asked, accepted))
    statistics_of(request).succeeded(served, asked.rows.count, begun, read_at, answered_at)
    return response


def _header_length(header: str | None, size: int) -> int | None:
    """Return how many bytes of a body are JSON; None where all are."""
    if header is None:
        return None
    if not header.isdecimal() or len(header) > 18 or int(header) > size:
        text = f"inference header size should be in range (0, {size}), got: {header[:64]}"
        raise Refused(HTTPStatus.BAD_REQUEST, text)
    return int(header)


def _write(served: Served, answer: Answer, asked: Asked, encoding: str | None) -> Response:
    parts = to_parts(served, answer.values, asked.outputs, asked.id, answer.warnings)
    content, headers = b"".join(parts), {}
    if len(parts) > 1:
        headers[HEADER_LENGTH] = str(len(parts[0]))
    if encoding is not None:
        content = compress(content, encoding)
        headers["Content-Encoding"] = encoding
    return Response(
        content, headers=headers, media_type="application/octet-stream" if len(parts) > 1 else "application/json"
    )
