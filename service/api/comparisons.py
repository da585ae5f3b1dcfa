"""/comparisons: train networks on the same rows and hold them against each other; look at it, wait for it, cancel."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import WithJsonSchema

from service.api.dependencies import DatabaseDependency, KeyedDependency, PageDependency, ServicesDependency, answer_of
from service.api.gate.scopes import needs
from service.api.plots import PLOT_RESPONSES, drawn, plot_form
from service.api.strict_bodies import StrictRoute
from service.api.views.base import PageView
from service.api.views.comparisons import ComparisonItemView, ComparisonView, ValidatedComparisonView
from service.api.waiting import WaitParameter, has_tag, wait_for
from service.domain.comparison_spec import ComparisonSpec
from service.domain.keys import Scope
from service.use_cases import comparisons
from service.use_cases.comparison_plots import COMPARISON_PLOT_NAMES, find_comparison_plot
from service.use_cases.comparisons import FullComparison
from service.use_cases.idempotency import StoredAnswer
from service.use_cases.plots import known_plot

router = APIRouter(prefix="/comparisons", tags=["comparisons"], route_class=StrictRoute)

RETRY_AFTER_SECONDS = 1
PLOT_FILES = [name + ending for name in COMPARISON_PLOT_NAMES for ending in ("", ".svg", ".png")]
PlotFile = Annotated[
    str,
    WithJsonSchema({"type": "string", "enum": PLOT_FILES}),
    Path(description="Which plot; with .svg or .png behind it, else in the form that Accept names, else as SVG"),
]


@router.post(
    "",
    status_code=202,
    response_model=ComparisonView,
    responses={200: {"model": ValidatedComparisonView, "description": "What validate_only answers"}},
)
@needs(Scope.SUBMIT)
def submit(
    spec: ComparisonSpec,
    services: ServicesDependency,
    database: DatabaseDependency,
    keyed: KeyedDependency,
    validate_only: Annotated[bool, Query(description="Answer as the real call would, without making anything")] = False,
) -> Response:
    """Train several networks on the same rows, from the same seeds, and hold them against each other."""
    if validate_only:
        completed = comparisons.validate_comparison(database, spec, services.limits)
        return JSONResponse(ValidatedComparisonView.of(completed).model_dump(mode="json"))
    with services.running.serving(keyed):
        outcome = comparisons.submit_comparison_once(database, spec, services.limits, keyed, submitted, services.quotas)
    for job in outcome.made.jobs if outcome.made is not None else ():
        services.doorbell.ring(job.id)
    return answer_of(outcome)


def submitted(found: FullComparison) -> StoredAnswer:
    """Answer that a comparison has been made."""
    headers = {"Location": f"/comparisons/{found.comparison.id}", "Retry-After": str(RETRY_AFTER_SECONDS)}
    return StoredAnswer(202, headers, ComparisonView.whole(found).model_dump_json().encode())


@router.get("")
@needs(Scope.READ)
def list_comparisons(database: DatabaseDependency, page: PageDependency) -> PageView[ComparisonItemView]:
    """List comparisons, newest first, without their results."""
    found = comparisons.list_comparisons(database, page)
    return PageView(items=[ComparisonItemView.of(item) for item in found.items], next_page_token=found.next_token)


@router.get(
    "/{comparison_id}",
    response_model=ComparisonView,
    responses={304: {"description": "Nothing has changed since that ETag"}},
)
@needs(Scope.READ)
async def get_comparison(
    comparison_id: str,
    request: Request,
    services: ServicesDependency,
    database: DatabaseDependency,
    wait: WaitParameter = 0,
) -> Response:
    """Read a comparison with its result, as far as its jobs have come."""
    if wait:
        await wait_for(services, lambda: comparisons.get_comparison(database, comparison_id), wait)
    etag = _etag(await run_in_threadpool(comparisons.comparison_sha256, database, comparison_id))
    if has_tag(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    found = await run_in_threadpool(comparisons.look_at_comparison, database, comparison_id)
    return await run_in_threadpool(_shown, found, 200, {"ETag": _etag(found.sha256 or "")})


@router.get("/{comparison_id}/plots/{name}", response_class=Response, responses=PLOT_RESPONSES)
@needs(Scope.READ)
async def comparison_plot(
    comparison_id: str,
    name: PlotFile,
    request: Request,
    services: ServicesDependency,
    database: DatabaseDependency,
    metric: Annotated[
        str | None, Query(max_length=100, description="Of learning_curves, such as val_accuracy; else the main ones")
    ] = None,
) -> Response:
    """Draw all arms in one picture: their learning curves, their ranks, or how they fare by depth."""
    stem, form = plot_form(request, name)
    known = known_plot(stem, COMPARISON_PLOT_NAMES)
    plot = await run_in_threadpool(find_comparison_plot, database, comparison_id, known, form, metric)
    return await drawn(request, services, plot)


@router.post(
    "/{comparison_id}/cancel",
    status_code=202,
    response_model=ComparisonView,
    responses={200: {"model": ComparisonView, "description": "All jobs have ended already, some as cancelled"}},
)
@needs(Scope.SUBMIT)
def cancel(comparison_id: str, database: DatabaseDependency) -> Response:
    """Ask that all of a comparison's jobs end without a model."""
    was_unfinished = comparisons.cancel_comparison(database, comparison_id)
    found = comparisons.look_at_comparison(database, comparison_id)
    return _shown(found, 202 if was_unfinished else 200)


@router.delete("/{comparison_id}", status_code=204)
@needs(Scope.SUBMIT)
def delete(comparison_id: str, database: DatabaseDependency) -> None:
    """Delete a comparison whose jobs have ended, together with them; their models stay."""
    comparisons.delete_comparison(database, comparison_id)


def _shown(found: FullComparison, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(ComparisonView.whole(found).model_dump_json(), status, headers, media_type="application/json")


def _etag(sha256: str) -> str:
    return f'"{sha256[:32]}"'
