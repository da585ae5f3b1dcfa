"""What the routes of every protocol need: the services behind a request, and JSON answers with their description."""

from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import Path, Request, Response

from service.api.protocols.statistics import Statistics

NamePath = Annotated[str, Path(description="The model's name")]
VersionPath = Annotated[str, Path(pattern="^[0-9]{1,19}$", description="The version's number")]


def encoding_of(request: Request) -> str:
    """Return how a body was compressed."""
    return request.headers.get("content-encoding", "").strip().lower()


def statistics_of(request: Request) -> Statistics:
    """Return the counts of this process."""
    statistics: Statistics = request.app.state.statistics
    return statistics


def json_response(content: Any, status: int = HTTPStatus.OK) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")


def answers(
    model: Any, others: dict[str, Any] | None = None, status: int = HTTPStatus.OK
) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of an answer; ``others`` are media types beside JSON."""
    return {int(status): {"model": model, **({"content": others} if others else {})}}


def errors(model: Any) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of a protocol's errors."""
    return {"default": {"model": model, "description": "An error"}}
