"""/healthz, /readyz, /version: whether this process lives, and whether it can do its work."""

from importlib.metadata import version

from fastapi import APIRouter, Response

from service.api.dependencies import ServicesDependency
from service.api.gate.scopes import ScopedRoute, public
from service.api.views.health import HealthView, ReadinessView, ServiceVersionView
from service.use_cases import health

router = APIRouter(tags=["operations"], route_class=ScopedRoute)


@router.get("/healthz")
@public
async def healthz() -> HealthView:
    """Whether the process answers."""
    return HealthView()


@router.get("/readyz", responses={503: {"model": ReadinessView, "description": "A part is not fit"}})
@public
def readyz(services: ServicesDependency, response: Response) -> ReadinessView:
    """Whether the database, its migrations and inference are fit."""
    parts = health.readiness(services.database)
    ready = all(state == "ok" for state in parts.values())
    response.status_code = 200 if ready else 503
    if not ready:
        response.headers["Retry-After"] = "2"
    return ReadinessView(status="ready" if ready else "not ready", parts=parts)


@router.get("/version")
@public
async def service_version() -> ServiceVersionView:
    """Which version of the service this is."""
    return ServiceVersionView(version=version("selfnorm"))
