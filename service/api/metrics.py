"""/metrics: what this service counts and sees, for Prometheus; of all API processes together."""

import os

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from service.api.dependencies import ServicesDependency
from service.api.gate.scopes import ScopedRoute, needs
from service.api.metering.gauges import DatabaseGauges
from service.domain.keys import Scope

disable_created_metrics()  # type: ignore[no-untyped-call]  # it ships no types; several processes have none either
router = APIRouter(tags=["operations"], route_class=ScopedRoute)

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder of several processes' counts."""


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
@needs(Scope.ADMIN)
def metrics(services: ServicesDependency) -> Response:
    """Tell what was counted, in the text format of Prometheus."""
    services.update_metrics()
    registry = REGISTRY
    if SHARED in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it ships no types
    seen = CollectorRegistry()
    seen.register(DatabaseGauges(services.observatory))
    return Response(generate_latest(registry) + generate_latest(seen), media_type=CONTENT_TYPE_LATEST)
