"""What charts of a job are drawn from: compact JSON for scripts of this version's pages, which no contract covers."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse

from service.api.dependencies import DatabaseDependency
from service.api.gate.scopes import needs
from service.api.strict_bodies import StrictRoute
from service.domain.diagnostics import Diagnosis
from service.domain.keys import Scope
from service.use_cases import job_pages

router = APIRouter(prefix="/dashboard/jobs", route_class=StrictRoute, include_in_schema=False)

MAX_NUMBER = 2**31 - 1
DIGITS = 6
"""More than anybody sees in a chart."""

After = Annotated[int, Query(ge=-1, le=MAX_NUMBER)]


@router.get("/{job_id}/curves")
@needs(Scope.READ)
def curves(job_id: str, database: DatabaseDependency) -> JSONResponse:
    """Send what the epochs measured, a list for every metric."""
    found = job_pages.read_curves(database, job_id)
    if found.curves is None:
        return JSONResponse({"every": found.every, "epochs": [], "metrics": {}})
    metrics = {name: short(values.tolist()) for name, values in found.curves.values.items()}
    known = {name: values for name, values in metrics.items() if any(value is not None for value in values)}
    return JSONResponse({"every": found.every, "epochs": found.curves.epochs.tolist(), "metrics": known})


@router.get("/{job_id}/layers")
@needs(Scope.READ)
def layers(job_id: str, database: DatabaseDependency, after: After = -1) -> JSONResponse:
    """Send what the layers looked like after later epochs than one, a list over the layers for every number."""
    found = job_pages.read_layers(database, job_id, after)
    return JSONResponse({"items": [_look(diagnosis) for diagnosis in found]})


@router.get("/{job_id}/distributions/{kind}/{layer}")
@needs(Scope.READ)
def distributions(
    job_id: str,
    kind: Literal["weights", "activations"],
    layer: Annotated[int, Path(ge=1, le=MAX_NUMBER)],
    database: DatabaseDependency,
    after: After = -1,
) -> JSONResponse:
    """Send how the weights or the activations of a layer were distributed after later epochs than one."""
    found = job_pages.read_distributions(database, job_id, kind, layer, after)
    return JSONResponse({"items": [{"epoch": epoch, **asdict(histogram)} for epoch, histogram in found]})


def short(values: Iterable[float | None]) -> list[float | None]:
    """Return numbers as a chart needs them; None for those that are not finite."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}") for value in values]


def _look(diagnosis: Diagnosis) -> dict[str, Any]:
    rows = diagnosis.layers_to_json()
    names = [name for name in rows[0] if name != "layer"] if rows else []
    return {"epoch": diagnosis.epoch, **{name: short(row[name] for row in rows) for name in names}}
