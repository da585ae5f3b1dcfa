"""Errors as other protocols say them: whatever goes wrong is put into the shape that their clients read."""

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError

from service.api.errors import PROBLEM_TYPE
from service.api.scopes import ScopedRoute
from service.api.services import Services
from service.domain.errors import InvalidInput
from service.domain.key_errors import MissingScope, NoKey

KEPT_HEADERS = ("retry-after", "x-request-id", "www-authenticate")
ROWS = ("#", "#/instances")
"""What the native route calls its rows as a whole."""


class Refused(Exception):
    """A request that a protocol refuses, in its own words."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers
        super().__init__(text)


def error_text(_status: int, text: str) -> bytes:
    """Return an error as TensorFlow Serving and the Open Inference Protocol have it."""
    return orjson.dumps({"error": text})


class ProtocolRoute(ScopedRoute):
    """A route whose errors are those of its protocol."""

    def write_error(self, status: int, text: str) -> bytes:
        """Return the JSON of an error."""
        return error_text(status, text)

    def bad_address(self, _request: Request) -> Refused:
        """Say of an address that it cannot be one of the protocol's."""
        return Refused(HTTPStatus.NOT_FOUND, "Not Found")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                async with _room_for(request):
                    return await handler(request)
            except Exception as error:  # noqa: BLE001  # the application's handlers are asked what to say of it
                refused = await self._refusal(request, error)
                content = self.write_error(refused.status, str(refused))
                return Response(content, refused.status, refused.headers, media_type="application/json")

        return handle

    async def refuse(self, request: Request, error: MissingScope | NoKey) -> Response:
        """Return the answer to a request whose key does not open this route."""
        return rephrase(request.url.path, await super().refuse(request, error))

    async def _refusal(self, request: Request, error: Exception) -> Refused:
        if isinstance(error, Refused):
            return error
        if isinstance(error, InvalidInput):
            return Refused(HTTPStatus.BAD_REQUEST, _details(error))
        if isinstance(error, RequestValidationError):
            return self.bad_address(request)
        handlers = request.app.exception_handlers
        handler = next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)
        return as_refused(await handler(request, error))


def _room_for(request: Request) -> AbstractAsyncContextManager[None]:
    """Let few large bodies in at a time; a compressed one may be large whatever its length."""
    if request.method != "POST":
        return nullcontext()
    services: Services = request.app.state.services
    length = None if "content-encoding" in request.headers else request.headers.get("content-length")
    return services.gathering.room_for(length)


def as_refused(problem: Response) -> Refused:
    """Take status, text and headers from an error as native routes have it."""
    kept = {name: value for name, value in problem.headers.items() if name in KEPT_HEADERS}
    return Refused(problem.status_code, orjson.loads(problem.body)["detail"], kept)


def rephrase(path: str, problem: Response) -> Response:
    """Return an error of the application in the shape of the protocol that its address belongs to."""
    if problem.headers.get("content-type") != PROBLEM_TYPE or not path.startswith(("/v1/", "/v2", "/invocations")):
        return problem
    refused = as_refused(problem)
    write = mlflow_error if path == "/invocations" else error_text
    content = write(refused.status, str(refused))
    return Response(content, refused.status, refused.headers, media_type="application/json")


MLFLOW_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    413: "BAD_REQUEST",
    503: "TEMPORARILY_UNAVAILABLE",
}


def mlflow_error(status: int, text: str) -> bytes:
    """Return an error as MLflow's scoring server has it."""
    return orjson.dumps({"error_code": MLFLOW_CODES.get(status, "INTERNAL_ERROR"), "message": text})


def _details(error: InvalidInput) -> str:
    """Return what is wrong with rows, without the places where the native route would have it."""
    return "; ".join(f"the request {item.detail}" if item.pointer in ROWS else item.detail for item in error.violations)
