"""/dashboard/comparisons: networks held against each other; the list, the form of a new one, and one's result."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from service.api.dashboard import comparison_fields
from service.api.dashboard.chart_data import short
from service.api.dashboard.comparison_tables import tables_of
from service.api.dashboard.job import readable
from service.api.dashboard.pages import PageRoute, page
from service.api.dependencies import DatabaseDependency, PageDependency
from service.api.gate.scopes import needs
from service.api.strict_bodies import StrictRoute
from service.api.views.comparisons import ComparisonView
from service.api.waiting import has_tag
from service.domain.comparison_spec import ComparisonSpec
from service.domain.curves import Curves
from service.domain.datasets import TRAINABLE_KINDS
from service.domain.keys import Scope
from service.storage.pages import PageRequest
from service.use_cases import comparison_pages, comparisons, job_list
from service.use_cases.comparisons import FullComparison

router = APIRouter(prefix="/dashboard/comparisons", route_class=PageRoute, include_in_schema=False)
data = APIRouter(route_class=StrictRoute, include_in_schema=False)
"""What scripts of the pages read anew, which no contract covers."""

PAGE_SIZE = 20
Text = Annotated[str, Query(max_length=1000)]


@router.get("")
@needs(Scope.READ)
def list_comparisons(database: DatabaseDependency, wanted: PageDependency) -> Response:
    """Show comparisons, newest first."""
    found = comparison_pages.list_with_verdicts(database, PageRequest(PAGE_SIZE, wanted.token))
    return page(
        "comparisons.html",
        here="comparisons",
        items=found.items,
        next_token=found.next_token,
        is_first=wanted.token is None,
        first_sentence=first_sentence,
    )


@router.get("/new")
@needs(Scope.READ)
def new_comparison(database: DatabaseDependency, dataset: Text = "", preset: Text = "") -> Response:
    """Show the form of a comparison."""
    return page(
        "comparison-new.html",
        here="comparisons",
        groups=comparison_fields.groups(),
        datasets=job_list.dataset_choices(database, dataset or None),
        presets=comparison_fields.PRESET_WORDS,
        given={
            "dataset": dataset,
            "preset": preset if preset in comparison_fields.PRESET_WORDS else "",
            "arms": comparison_fields.known_arms(),
            "sizes": comparison_fields.SIZES,
            "presets": comparison_fields.preset_specs(),
            "trainable": TRAINABLE_KINDS,
        },
    )


@router.get("/{comparison_id}")
@needs(Scope.READ)
def comparison(comparison_id: str, database: DatabaseDependency) -> Response:
    """Show a comparison."""
    found = comparisons.look_at_comparison(database, comparison_id)
    view, now = ComparisonView.whole(found), _shown(found)
    spec = view.spec.model_dump(mode="json")
    return page(
        "comparison.html",
        here="comparisons",
        comparison=view,
        dataset_name=comparison_pages.dataset_name(database, spec["dataset"]),
        shown=now,
        spec_json=readable(spec),
        data={"id": view.id, "task": spec["task"], "short": _short(view.spec), "shown": now},
    )


@data.get("/{comparison_id}/shown")
@needs(Scope.READ)
def shown(comparison_id: str, request: Request, database: DatabaseDependency) -> Response:
    """Send what the page shows; or 304, where the script has it."""
    tag = _tag(comparisons.comparison_sha256(database, comparison_id))
    if has_tag(request, tag):
        return Response(status_code=304, headers={"ETag": tag})
    found = comparisons.look_at_comparison(database, comparison_id)
    return JSONResponse(_shown(found), headers={"ETag": _tag(found.sha256 or ""), "Cache-Control": "no-cache"})


@data.get("/{comparison_id}/curves")
@needs(Scope.READ)
def curves(comparison_id: str, database: DatabaseDependency, metric: Text = "") -> JSONResponse:
    """Send a metric of every arm and seed over the epochs, as charts need it."""
    found = comparison_pages.read_curves(database, comparison_id, metric)
    arms = [
        {
            "arm": arm.arm,
            "note": arm.note,
            "runs": [_run(job.seed, curves, found.metric or "") for job, curves in runs],
        }
        for arm, runs in found.arms
    ]
    return JSONResponse({"metric": found.metric, "metrics": list(found.metrics), "every": found.every, "arms": arms})


def first_sentence(verdict: str | None) -> str:
    """Return the first sentence of a verdict; a dot within a number ends none."""
    return (verdict or "").partition(". ")[0].rstrip(".") + "." if verdict else ""


def _shown(found: FullComparison) -> dict[str, Any]:
    """Return everything of a comparison that changes while it runs."""
    view = ComparisonView.whole(found)
    rows: dict[str, list[dict[str, Any]]] = {}
    for job in view.jobs:
        rows.setdefault(job.arm, []).append({"seed": job.seed, "id": job.id, "state": job.state})
    result = found.result
    return {
        "state": view.state,
        "progress": view.progress.model_dump(),
        "verdict": [] if view.verdict is None else _sentences(view.verdict),
        "has_winner": result is not None and any(t.significant for t in result.tests if t.metric == result.metric),
        "tables": [] if result is None else [asdict(table) for table in tables_of(result)],
        "depths": None if result is None or result.depths is None else [asdict(depth) for depth in result.depths],
        "metric": None if result is None else result.metric,
        "jobs": [{"arm": arm, "seeds": seeds} for arm, seeds in rows.items()],
    }


def _short(spec: ComparisonSpec) -> dict[str, Any]:
    """Return what somebody must say to get this comparison again."""
    # With a preset, what is left out is the preset's, which may be no default.
    return spec.model_dump(mode="json", exclude_defaults=spec.preset is None)


def _sentences(verdict: str) -> list[str]:
    *others, last = verdict.split(". ")
    return [*(f"{sentence}." for sentence in others), last]


def _run(seed: int, found: Curves, metric: str) -> dict[str, Any]:
    training, validation = (found.values.get(part + metric) for part in ("", "val_"))
    return {
        "seed": seed,
        "epochs": found.epochs.tolist(),
        "training": [] if training is None else short(training.tolist()),
        "validation": [] if validation is None else short(validation.tolist()),
    }


def _tag(sha256: str) -> str:
    return f'"{sha256[:32]}"'


router.include_router(data)
