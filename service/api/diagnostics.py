"""/jobs/{id}/diagnostics and /probe: what the layers of a network look like, while it trains and before."""

from functools import partial
from typing import Annotated

import anyio
from fastapi import APIRouter, Query, Response

from service.api.dependencies import DatabaseDependency, ServicesDependency
from service.api.gate.scopes import needs
from service.api.strict_bodies import StrictRoute
from service.api.views.diagnostics import DiagnosticsView, ProbeView
from service.domain.keys import Scope
from service.domain.spec import JobSpec
from service.use_cases import diagnostics, probe

router = APIRouter(tags=["diagnostics"], route_class=StrictRoute)


@router.get("/jobs/{job_id}/diagnostics", response_model=DiagnosticsView)
@needs(Scope.READ)
def job_diagnostics(
    job_id: str,
    database: DatabaseDependency,
    histograms: Annotated[bool, Query(description="Weights and activations of every layer as histograms, too")] = False,
) -> Response:
    """Read what the layers looked like after the epochs, the lint and the verdict."""
    found = diagnostics.job_diagnostics(database, job_id, histograms=histograms)
    # Written here, in a thread, for it may be megabytes.
    content = DiagnosticsView.of(found, histograms=histograms).model_dump_json().encode()
    return Response(content, media_type="application/json")


@router.post("/probe")
@needs(Scope.SUBMIT)
async def probe_network(spec: JobSpec, services: ServicesDependency, database: DatabaseDependency) -> ProbeView:
    """Feed the untrained network with real rows: moments, gradients, the depth horizon; in seconds, without a job."""
    work = partial(probe.probe, database, spec, services.limits, services.datasets_dir)
    return ProbeView.of(await anyio.to_thread.run_sync(work, limiter=services.probing))
