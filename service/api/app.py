"""The application: routes, errors, and what stands before them."""

from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from service.api import (
    audit,
    comparisons,
    datasets,
    diagnostics,
    errors,
    events,
    health,
    inputs,
    jobs,
    metrics,
    models,
    plots,
    predict,
    predictions,
    webhooks,
)
from service.api.dashboard import registration as dashboard
from service.api.dashboard import sign_in
from service.api.dependencies import database_answers
from service.api.description import Description
from service.api.errors import PROBLEM_TYPE, ProblemView
from service.api.gate.authentication import Authentication
from service.api.gate.entrance import Entrance
from service.api.gate.observation import Observation
from service.api.gate.request_rates import RequestRates
from service.api.gate.scopes import PublicPaths
from service.api.gate.security_headers import SecurityHeaders
from service.api.gate.security_schema import with_security
from service.api.gate.sites import Sites
from service.api.lifetime import lifespan_of
from service.api.methods import Methods
from service.api.protocols import registration as protocols
from service.api.services import Services

OF_THE_DATABASE = (
    datasets,
    jobs,
    comparisons,
    diagnostics,
    plots,
    events,
    models,
    inputs,
    predictions,
    webhooks,
    audit,
)
"""The resources that need the database; they are answered at once while it is down."""
CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
    "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID"],
    "expose_headers": ["ETag", "Location", "Retry-After", "Idempotent-Replayed", "X-Request-Id"],
}
"""What pages of the sites that a setting names may send and see; no cookies, so they need a key of their own."""
PROBLEM = {"schema": {"$ref": "#/components/schemas/ProblemView"}}
DESCRIPTION = "Train self-normalizing neural networks on your data and serve them."


def create_app(services: Services) -> FastAPI:
    """Return the application on these services; its lifespan runs the sweeper and closes the database."""
    app = FastAPIOffline(
        redoc_url=None,
        title="Selfnorm",
        description=DESCRIPTION,
        version=version("selfnorm"),
        lifespan=lifespan_of(services),
        responses={"default": {"model": ProblemView, "description": "An error, as RFC 9457 describes it"}},
    )
    app.state.services = services
    app.state.methods = Methods(app)
    describe = app.openapi
    app.openapi = lambda: _completed(app, describe())  # type: ignore[method-assign]  # FastAPI's documented hook
    _add_routes(app)
    errors.install(app)
    public = PublicPaths(app.routes)
    _protect(app, services, public)
    app.add_middleware(
        Entrance,
        max_body_bytes=services.max_json_bytes,
        max_predict_bytes=services.max_predict_bytes,
        max_upload_bytes=services.max_upload_bytes,
        bounds=services.bounds,
        is_public=public.__contains__,
    )
    if services.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=services.cors_origins, **CORS)
    app.add_middleware(SecurityHeaders)
    # Outermost, so the last: what the others refuse is seen, too.
    app.add_middleware(Observation, traffic=services.traffic, logs_access=services.logs_access)
    return app


def _add_routes(app: FastAPI) -> None:
    # In front of FastAPI's own, which writes the text anew for everybody who asks.
    app.router.routes.insert(0, Description(app.openapi).route("/openapi.json"))
    for module in OF_THE_DATABASE:
        app.include_router(module.router, dependencies=[Depends(database_answers)])
    for module in (predict, health, metrics):
        app.include_router(module.router)
    protocols.install(app)
    dashboard.install(app)


def _protect(app: FastAPI, services: Services, public: PublicPaths) -> None:
    """Put in front of the routes what asks for keys, and before that what turns other web sites away."""
    if services.rates:
        app.add_middleware(RequestRates, rates=services.rates, is_public=public.__contains__)
    if services.authentication:
        app.add_middleware(
            Authentication,
            keys=services.keys,
            is_public=public.__contains__,
            page=sign_in.page_for_stranger,
        )
    app.add_middleware(Sites, hosts=services.hosts, origins=services.cors_origins, needs_key=services.authentication)


def _completed(app: FastAPI, schema: dict[str, Any]) -> dict[str, Any]:
    """Add to the description of the API what FastAPI does not know."""
    schema = _with_problem_type(schema)
    services: Services = app.state.services
    return with_security(app.routes, schema) if services.authentication else schema


def _with_problem_type(schema: dict[str, Any]) -> dict[str, Any]:
    """Give errors the media type that they have; FastAPI describes every model as what else a route answers with."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            content = operation["responses"]["default"]["content"]
            # The protocols have errors of their own, which are plain JSON.
            for kind in [kind for kind, said in content.items() if said == PROBLEM]:
                content[PROBLEM_TYPE] = content.pop(kind)
    return schema
