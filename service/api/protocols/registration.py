"""The protocols' routes, put into the application; what is none of them is refused as each protocol does."""

from collections.abc import Callable

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from service.api.gate.scopes import needs
from service.api.protocols import invocations, model_repository, open_inference, tensorflow_serving
from service.api.protocols.repository import OnlyModel
from service.api.protocols.route import ProtocolRoute
from service.api.protocols.statistics import Statistics
from service.api.rephrasing import Refused
from service.domain.keys import Scope

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def install(app: FastAPI) -> None:
    """Add every protocol to the application."""
    app.state.statistics = Statistics()
    app.state.only_model = OnlyModel()
    # Before the others, for /v2/models/stats is no model.
    for router in (model_repository.router, open_inference.router, tensorflow_serving.router, invocations.router):
        app.include_router(router)
    app.include_router(_elsewhere("/v1", tensorflow_serving.malformed))
    app.include_router(_elsewhere("/v2", _no_address))


def _elsewhere(start: str, refusal: Callable[[Request], Refused]) -> APIRouter:
    """Return a route for every address that begins so and that no other route has taken."""
    router = APIRouter(route_class=_Elsewhere)

    @needs(*Scope)
    async def refuse(request: Request) -> Response:
        raise refusal(request)

    router.add_api_route(start + "/{rest:path}", refuse, methods=METHODS, include_in_schema=False, response_model=None)
    return router


class _Elsewhere(ProtocolRoute):
    """A route that only refuses: whoever may come here without a key, by a public address, may be told so."""

    async def handle(self, scope: Connection, receive: Receive, send: Send) -> None:
        await APIRoute.handle(self, scope, receive, send)


def _no_address(request: Request) -> Refused:
    routes = (*model_repository.router.routes, *open_inference.router.routes)
    taken = [route for route in routes if route.matches(request.scope)[0] == Match.PARTIAL]
    if taken:
        methods = {method for route in taken for method in getattr(route, "methods", None) or ()}
        return Refused(405, "Method Not Allowed", {"Allow": ", ".join(sorted(methods))})
    return Refused(404, "Not Found")
