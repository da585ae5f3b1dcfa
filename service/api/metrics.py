"""/metrics: what this service counts, for Prometheus; of all API processes together."""

import os

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from service.api.dependencies import ServicesDependency

router = APIRouter(tags=["operations"])

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder of several processes' counts."""


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(services: ServicesDependency) -> Response:
    """Tell what was counted, in the text format of Prometheus."""
    services.counts.update()
    registry = REGISTRY
    if SHARED in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it ships no types
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
