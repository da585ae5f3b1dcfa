"""/predict: raw rows in, answers out."""

from collections.abc import Callable, Coroutine
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Self

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from numpy.typing import NDArray
from pydantic import ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from service.api.answers import to_json
from service.api.dependencies import (
    LARGE_BODY_BYTES,
    Services,
    ServicesDependency,
    StrictRequest,
    StrictRoute,
    find_served,
    media_type,
)
from service.api.hot_path import Ready
from service.api.views import PredictionView
from service.domain.bounds import Between, Frozen, Name
from service.domain.errors import InvalidRows
from service.domain.models import MAX_VERSION
from service.inference.number_bodies import read_many_rows, read_rows
from service.inference.strict_rows import read_fields
from service.use_cases.predict import answer, check_size
from service.use_cases.serving import Served, Serving

PATH = b"/predict"
MOST_CELLS = 16 * 1024
"""So many cells of rows, or numbers of their answers, take a millisecond or so; with more, others would wait."""
JSON = "application/json"
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


class PredictRequest(Asked):
    """Rows for a model."""

    instances: Instances
    """Raw rows: arrays in the order of the model's columns, or objects by column name."""


class PredictRoute(StrictRoute):
    """A route that reads large bodies in threads, few at a time."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the strict handler."""
        usual = super().get_route_handler()

        async def handle(request: Request) -> Response:
            services: Services = request.app.state.services
            strict = StrictRequest(request.scope, request.receive)
            async with services.gathering.room_for(request.headers.get("content-length")):
                body = await strict.body()
                if len(body) > LARGE_BODY_BYTES and media_type(request.headers.get("content-type")) == JSON:
                    answered = await services.gathering.in_thread(
                        lambda: _answer_large(services.serving, body, services.max_json_bytes)
                    )
                    if answered is not None:
                        return Response(answered, media_type=JSON)
                return await usual(strict)

        return handle


router = APIRouter(tags=["predictions"], route_class=PredictRoute)


@router.post("/predict", response_model=PredictionView, response_model_exclude_none=True)
async def predict(body: PredictRequest, services: ServicesDependency) -> Response:
    """Answer raw rows with a model."""
    served = await find_served(services, body.model, body.version, body.alias)
    if _are_few(served, len(body.instances)):
        check_size(served, len(body.instances))
        answered = await services.gathering.answer(served, served.reader.check(body.instances))
        return Response(to_json(served, answered.values, answered.warnings), media_type=JSON)
    written = await services.gathering.in_thread(lambda: _answer_many(served, body.instances))
    return Response(written, media_type=JSON)


def _are_few(served: Served, rows: int) -> bool:
    """Whether so many rows can be looked at, and their answers written, where others wait."""
    return rows * max(served.width, len(served.version.outputs.classes)) <= MOST_CELLS


def _answer_many(served: Served, instances: list[Any]) -> bytes:
    check_size(served, len(instances))
    answered = answer(served, served.reader.check(instances))
    return to_json(served, answered.values, answered.warnings)


def _answer_large(serving: Serving, body: bytes, max_json_bytes: int) -> bytes | None:
    """Answer a large body that is in order; None where it has to be read strictly.

    Raises:
        SelfnormError: there is no such model, or it cannot take the rows.
        HTTPException: it holds more than rows of numbers, and more than ``max_json_bytes``.
    """
    numbers = read_many_rows(body, "instances")
    if numbers is None:
        _check_length(len(body), max_json_bytes)
    fields = read_fields(body) if numbers is None else numbers[0]
    rows = fields.pop("instances", None) if fields is not None and numbers is None else None
    try:
        asked = Asked.model_validate(fields)
    except ValidationError:
        return None
    served = serving.find(asked.model, asked.version, asked.alias)
    if numbers is not None:
        check_size(served, len(numbers[1]))
        checked = served.reader.check_matrix(numbers[1])
    elif type(rows) is list:
        check_size(served, len(rows))
        checked = served.reader.check(rows)
    else:
        return None
    answered = answer(served, checked)
    return to_json(served, answered.values, answered.warnings)


def _check_length(length: int, most: int) -> None:
    if length > most:
        detail = (
            f"a JSON body with more than rows of numbers may have {most:,} bytes; got {length:,}. Send fewer rows at "
            "once, or the rows as text/csv, application/vnd.apache.arrow.stream or application/x-npy"
        )
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def short_way(serving: Serving, _path: bytes, body: bytes) -> Ready | None:
    """Read a small request that a loaded model can answer without a word about its rows; None for any other."""
    numbers = read_rows(body, "instances")
    if numbers is not None:
        fields, matrix = numbers
        served = _named(serving, fields)
        if served is not None and served.takes_numbers:
            is_fit = matrix.shape[1] == served.width and _are_few(served, len(matrix)) and served.guard.are_near(matrix)
            return Ready(served, matrix, partial(_write, served)) if is_fit else None
    return _ready_of_any(serving, body) if len(body) <= LARGE_BODY_BYTES else None


def _ready_of_any(serving: Serving, body: bytes) -> Ready | None:
    """Do so for rows with names, texts and gaps."""
    fields = read_fields(body)
    if fields is None or type(instances := fields.pop("instances", None)) is not list:
        return None
    served = _named(serving, fields)
    if served is None or not _are_few(served, len(instances)):
        return None
    try:
        checked = served.reader.check(instances)
    except InvalidRows:
        return None
    encoded = checked.encoded()
    if checked.warnings or not served.guard.are_near(encoded):
        return None
    return Ready(served, encoded, partial(_write, served))


def _named(serving: Serving, fields: dict[str, Any]) -> Served | None:
    """Return the version that the fields beside the rows name, where it is loaded and they hold nothing else."""
    name, version, alias = fields.pop("model", None), fields.pop("version", None), fields.pop("alias", None)
    is_known = type(name) is str and (version is None or type(version) is int) and (alias is None or type(alias) is str)
    if fields or not is_known or (version is not None and alias is not None):
        return None
    return serving.known(name, version, alias)


def _write(served: Served, values: NDArray[np.floating]) -> bytes:
    return to_json(served, values, served.guard.warnings)
