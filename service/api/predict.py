"""/predict: raw rows in, answers out."""

from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Self

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from service.api.answers import to_json
from service.api.dependencies import OwnerDependency, ServicesDependency
from service.api.formats import openapi
from service.api.formats.answering import answer_in_formats, respond, wanted_by
from service.api.gate.scopes import needs
from service.api.metering.traffic import note_model
from service.api.services import Services, find_served, owner_of
from service.api.strict_bodies import LARGE_BODY_BYTES, StrictRequest, StrictRoute
from service.api.views.predict import PredictionView
from service.domain.bounds import Between, Frozen, Name
from service.domain.errors import InvalidInput, Violation
from service.domain.keys import Scope
from service.domain.models import MAX_VERSION
from service.domain.strict_json import crowd
from service.inference.number_bodies import read_many_rows
from service.inference.rows import CheckedRows
from service.inference.strict_rows import read_fields
from service.use_cases import insight
from service.use_cases.predict import Answer, answer, check_size
from service.use_cases.serving import Served

JSON = "application/json"
MOST_CELLS = 16 * 1024
"""So many cells of rows are looked at in a few milliseconds; with more, others would wait."""
_VALUE = {"type": ["number", "boolean", "string", "null"]}
Instances = Annotated[
    list[Any],
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [{"type": "array", "items": _VALUE}, {"type": "object", "additionalProperties": _VALUE}]
            },
        }
    ),
]


class Asked(Frozen):
    """Which model is asked."""

    model: Name
    """The model's name."""
    version: Annotated[int | None, Between(1, MAX_VERSION)] = None
    """Which version; null: the default, which is what the alias `production` stands for, else the newest."""
    alias: Name | None = None
    """Which alias, instead of a version."""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if self.version is not None and self.alias is not None:
            raise PydanticCustomError("version_and_alias", "names a version and an alias; leave one of them out")
        return self


class UncertaintyRequest(Frozen):
    """How the uncertainty of an answer is to be measured."""

    samples: Annotated[int, Between(1, insight.MAX_SAMPLES)] = 100
    """How many thinned networks answer."""
    seed: Annotated[int, Between(0, insight.MAX_SEED)] = 0
    """Which ones: equal seeds give equal samples."""


class PredictRequest(Asked):
    """Rows for a model."""

    instances: Instances
    """Raw rows: arrays in the order of the model's columns, or objects by column name."""
    uncertainty: UncertaintyRequest | None = None
    """Measure how sure the network is, by Monte-Carlo dropout; for networks that were trained with dropout."""
    explain: bool = False
    """Say what each feature contributes to each answer, by integrated gradients."""


class PredictRoute(StrictRoute):
    """A route that takes other formats than JSON, and reads large bodies in threads, few at a time."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the strict handler."""
        usual = super().get_route_handler()

        async def handle(request: Request) -> Response:
            services: Services = request.app.state.services
            async with services.gathering.room_for(request.headers.get("content-length")):
                if answered := await answer_in_formats(request, services):
                    return answered
                strict = StrictRequest(request.scope, request.receive)
                strict.max_values = None
                if len(body := await strict.body()) > LARGE_BODY_BYTES:
                    wanted = wanted_by(request)
                    large = await services.gathering.in_thread(lambda: _answer_large(services, owner_of(request), body))
                    if large is not None:
                        note_model(large[0])
                        return await respond(services, wanted, *large)
                return await usual(strict)

        return handle


router = APIRouter(tags=["predictions"], route_class=PredictRoute)


@router.post(
    "/predict",
    response_model=PredictionView,
    response_model_exclude_none=True,
    responses={
        200: {"content": openapi.RESPONSE_CONTENT, "headers": openapi.RESPONSE_HEADERS},
        406: openapi.NOT_ACCEPTABLE,
    },
    openapi_extra={"parameters": openapi.QUERY_PARAMETERS, "requestBody": {"content": openapi.REQUEST_CONTENT}},
)
@needs(Scope.PREDICT)
async def predict(
    body: PredictRequest, request: Request, services: ServicesDependency, owner: OwnerDependency
) -> Response:
    """Answer raw rows with a model.

    Rows come as JSON, or, with the model in the address, as CSV, NDJSON, an Arrow stream or a NumPy array; answers as
    any of them, by the header Accept.
    """
    wanted = wanted_by(request)
    served = await find_served(services, owner, body.model, body.version, body.alias)
    check_size(served, len(body.instances))
    check = partial(served.reader.check, body.instances)
    are_few = len(body.instances) * served.width <= MOST_CELLS
    checked = check() if are_few else await services.gathering.in_thread(check)
    if body.uncertainty is None and not body.explain:
        return await respond(services, wanted, served, await services.gathering.answer(served, checked))
    _check_is_json(wanted.name)
    answered = await services.gathering.answer(served, checked)
    more = await services.gathering.in_thread(lambda: _look_behind(services, served, checked, answered, body))
    return Response(to_json(served, answered.values, answered.warnings, more), media_type=JSON)


def _look_behind(
    services: Services, served: Served, checked: CheckedRows, answered: Answer, asked: PredictRequest
) -> dict[str, dict[str, Any]]:
    """Return what was asked beside the answer: how sure it is, and what contributes to it."""
    version, encoded = served.version, checked.encoded()
    load = partial(services.serving.weights, version)
    more = {}
    if asked.uncertainty is not None:
        samples, seed = asked.uncertainty.samples, asked.uncertainty.seed
        more["uncertainty"] = asdict(insight.uncertainty(version, load, encoded, samples, seed))
    if asked.explain:
        more["explanations"] = asdict(insight.explain(version, load, encoded, answered.values.argmax(axis=1)))
    return more


def _check_is_json(wanted: str) -> None:
    if wanted != JSON:
        detail = f"is part of answers in JSON only; accept {JSON}, not {wanted}, or leave uncertainty and explain out"
        raise InvalidInput([Violation("header/Accept", detail)])


def _answer_large(services: Services, owner: str, body: bytes) -> tuple[Served, Answer] | None:
    """Answer a large body that is in order; None where it has to be read strictly.

    Raises:
        SelfnormError: there is no such model, or it cannot take the rows.
        HTTPException: it is too large for one that holds more than rows of numbers.
    """
    numbers = read_many_rows(body, "instances")
    if numbers is None:
        _check_length(body, services.max_json_bytes)
    fields = read_fields(body) if numbers is None else numbers[0]
    rows = fields.pop("instances", None) if fields is not None and numbers is None else None
    try:
        asked = Asked.model_validate(fields)
    except ValidationError:
        return None
    if numbers is None and not isinstance(rows, list):
        return None
    served = services.serving.find(owner, asked.model, asked.version, asked.alias)
    if numbers is not None:
        check_size(served, len(numbers[1]))
        return served, answer(served, served.reader.check_matrix(numbers[1]))
    assert isinstance(rows, list)
    check_size(served, len(rows))
    return served, answer(served, served.reader.check(rows))


def _check_length(body: bytes, most: int) -> None:
    too_large = crowd(body)
    if len(body) > most:
        too_large = f"a JSON body with more than rows of numbers may have {most:,} bytes; got {len(body):,}"
    if too_large:
        advice = "Send fewer rows at once, or the rows as text/csv, application/vnd.apache.arrow.stream or "
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{too_large}. {advice}application/x-npy")
