"""Routes of other protocols, whose errors are in the shape that their clients read."""

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError

from service.api.gate.scopes import ScopedRoute
from service.api.rephrasing import Refused, as_refused, error_text, rephrase
from service.api.services import Services
from service.domain.errors import InvalidInput
from service.domain.key_errors import MissingScope, NoKey

ROWS = ("#", "#/instances")
"""What the native route calls its rows as a whole."""


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


def _details(error: InvalidInput) -> str:
    """Return what is wrong with rows, without the places where the native route would have it."""
    return "; ".join(f"the request {item.detail}" if item.pointer in ROWS else item.detail for item in error.violations)
