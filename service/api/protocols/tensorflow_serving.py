"""TensorFlow Serving's REST API: predict, classify, regress, the status of a model, and its signatures."""

import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.gate.scopes import needs
from service.api.protocols import tensorflow_documents
from service.api.protocols.bodies import in_turn, size_to_read, unpacked
from service.api.protocols.exchange import (
    NamePath,
    VersionPath,
    answers,
    encoding_of,
    errors,
    json_response,
    statistics_of,
)
from service.api.protocols.repository import versions_of
from service.api.protocols.route import ProtocolRoute
from service.api.protocols.signatures import signature_of
from service.api.protocols.tensorflow_requests import CLASSIFY, PREDICT, REGRESS, Asked, read_examples, read_predict
from service.api.protocols.views import (
    ErrorTextView,
    ExamplesBody,
    ModelStatusView,
    PredictBody,
    PredictionsView,
    ResultsView,
    ServableMetadataView,
    json_body,
)
from service.api.rephrasing import Refused
from service.api.services import find_served, owner_of, services_of
from service.domain.errors import InvalidRows, NotFound
from service.domain.keys import Scope
from service.domain.model_errors import ModelNotReady, UnknownModel
from service.domain.models import MAX_VERSION
from service.use_cases.predict import Answer
from service.use_cases.serving import Served

LabelPath = Annotated[str, Path(description="An alias")]
Reader = Callable[[Served, bytes, int], Asked]


@dataclass(frozen=True, slots=True)
class Meant:
    """The version that an address means."""

    name: str
    version: str | None = None
    label: str | None = None


Action = Callable[[Request, Meant], Coroutine[Any, Any, Response]]


def malformed(request: Request) -> Refused:
    """Refuse an address that is none of the protocol's."""
    return Refused(HTTPStatus.BAD_REQUEST, f"Malformed request: {request.method} {request.url.path[:200]}")


class TensorFlowRoute(ProtocolRoute):
    """A route of TensorFlow Serving."""

    def bad_address(self, request: Request) -> Refused:
        """Say of an address that it cannot be one of the protocol's."""
        return malformed(request)


router = APIRouter(tags=["TensorFlow Serving"], route_class=TensorFlowRoute, responses=errors(ErrorTextView))


async def predict(request: Request, meant: Meant) -> Response:
    """Answer rows with a number or probabilities for each, row by row or as a whole."""
    return await _answer(request, meant, read_predict)


async def classify(request: Request, meant: Meant) -> Response:
    """Answer examples with the probability of each class."""
    return await _answer(request, meant, partial(read_examples, method=CLASSIFY), CLASSIFY)


async def regress(request: Request, meant: Meant) -> Response:
    """Answer examples with a number for each."""
    return await _answer(request, meant, partial(read_examples, method=REGRESS), REGRESS)


async def status(request: Request, meant: Meant) -> Response:
    """List the versions of a model that can be asked."""
    return json_response(tensorflow_documents.status(await _versions(request, meant)))


async def metadata(request: Request, meant: Meant) -> Response:
    """Describe the signatures of a version."""
    return json_response(tensorflow_documents.metadata(await _find(request, meant)))


def _add(method: str, suffix: str, action: Action, *scopes: Scope, **described: Any) -> None:
    """Add an action under its three addresses: for the default version, for one by number, for one by alias."""

    async def of_default(name: NamePath, request: Request) -> Response:
        return await action(request, Meant(name))

    async def of_version(name: NamePath, version: VersionPath, request: Request) -> Response:
        return await action(request, Meant(name, version=version))

    async def of_label(name: NamePath, label: LabelPath, request: Request) -> Response:
        return await action(request, Meant(name, label=label))

    ways: dict[str, Callable[..., Any]] = {
        "": of_default,
        "/versions/{version}": of_version,
        "/labels/{label}": of_label,
    }
    for address, endpoint in ways.items():
        router.add_api_route(
            f"/v1/models/{{name}}{address}{suffix}",
            needs(*scopes)(endpoint),
            methods=[method],
            response_model=None,
            name=action.__name__,
            description=action.__doc__,
            **described,
        )


_add(
    "POST", ":predict", predict, Scope.PREDICT, responses=answers(PredictionsView), openapi_extra=json_body(PredictBody)
)
_add(
    "POST", ":classify", classify, Scope.PREDICT, responses=answers(ResultsView), openapi_extra=json_body(ExamplesBody)
)
_add("POST", ":regress", regress, Scope.PREDICT, responses=answers(ResultsView), openapi_extra=json_body(ExamplesBody))
_add("GET", "/metadata", metadata, Scope.READ, Scope.PREDICT, responses=answers(ServableMetadataView))
_add("GET", "", status, Scope.READ, Scope.PREDICT, responses=answers(ModelStatusView))


async def _answer(request: Request, meant: Meant, read: Reader, method: str = PREDICT) -> Response:
    services = services_of(request)
    body = await request.body()
    begun = time.perf_counter_ns()
    served = await _find(request, meant)
    _check_method(served, method)
    encoding = encoding_of(request)

    def unpack_and_read() -> Asked:
        return read(served, unpacked(body, encoding, services.max_predict_bytes), services.max_json_bytes)

    asked = await in_turn(services, size_to_read(body, encoding), unpack_and_read)
    read_at = time.perf_counter_ns()
    try:
        answer = await services.gathering.answer(served, asked.rows)
    except InvalidRows:
        statistics_of(request).failed(served, begun)
        raise
    answered_at = time.perf_counter_ns()
    response = await in_turn(services, answer.values.nbytes, partial(_write, served, answer, asked, method))
    statistics_of(request).succeeded(served, asked.rows.count, begun, read_at, answered_at)
    return response


def _check_method(served: Served, method: str) -> None:
    """Refuse to classify with a regression, and the other way round."""
    mine = REGRESS if served.version.outputs.task == "regression" else CLASSIFY
    if method not in (PREDICT, mine):
        words = {CLASSIFY: "classification", REGRESS: "regression"}
        text = (
            f"Expected {words[method]} signature method_name to be tensorflow/serving/{method}. "
            f"Was: tensorflow/serving/{mine}"
        )
        raise Refused(HTTPStatus.BAD_REQUEST, text)


def _write(served: Served, answer: Answer, asked: Asked, method: str) -> Response:
    values = np.ascontiguousarray(answer.values)
    results: Any = values
    if method == REGRESS:
        results = values.reshape(-1)
    elif method == CLASSIFY:
        texts = signature_of(served).label_texts
        results = [list(zip(texts, row, strict=True)) for row in values]
    return json_response({asked.answer_key: results})


async def _find(request: Request, meant: Meant) -> Served:
    """Return the version that an address means.

    Raises:
        Refused: there is no such thing, or nothing of it can be asked yet.
    """
    _check_name(request, meant)
    number = None if meant.version is None else int(meant.version)
    wanted = f"Latest({meant.name[:64]})" if number is None else f"Specific({meant.name[:64]}, {number})"
    missing = f"Servable not found for request: {wanted}"
    if number is not None and number > MAX_VERSION:
        raise Refused(HTTPStatus.NOT_FOUND, missing)
    try:
        return await find_served(services_of(request), owner_of(request), meant.name, number, meant.label)
    except ModelNotReady as error:
        raise Refused(HTTPStatus.NOT_FOUND, f"{missing}; {error}") from None
    except NotFound:
        if meant.label is not None:
            text = f"Unrecognized servable version label: {meant.label[:64]}"
            raise Refused(HTTPStatus.BAD_REQUEST, text) from None
        raise Refused(HTTPStatus.NOT_FOUND, missing) from None


async def _versions(request: Request, meant: Meant) -> list[int]:
    """Return the versions that a status is asked of, newest first."""
    _check_name(request, meant)
    if meant.label is not None:
        return [(await _find(request, meant)).version.version]
    name = meant.name[:64]
    versions: list[int] = []
    with suppress(UnknownModel):
        versions = await run_in_threadpool(versions_of, services_of(request), owner_of(request), meant.name)
    if meant.version is None and not versions:
        raise Refused(HTTPStatus.NOT_FOUND, f"Could not find any versions of model {name}")
    if meant.version is not None and int(meant.version) not in versions:
        raise Refused(HTTPStatus.NOT_FOUND, f"Could not find version {int(meant.version)} of model {name}")
    return versions if meant.version is None else [int(meant.version)]


def _check_name(request: Request, meant: Meant) -> None:
    if ":" in f"{meant.name}{meant.label or ''}":  # it separates what is asked for
        raise malformed(request)
