"""/jobs/{id}/plots: pictures of a training, as SVG or PNG."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import WithJsonSchema

from service.api.dependencies import DatabaseDependency, ServicesDependency
from service.api.formats.negotiation import answer_type
from service.api.formats.openapi import NOT_ACCEPTABLE
from service.api.gate.scopes import needs
from service.api.services import Services
from service.api.strict_bodies import StrictRoute
from service.api.waiting import has_tag
from service.domain.keys import Scope
from service.use_cases.plots import PLOT_NAMES, Plot, PlotForm, find_plot, known_plot

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=StrictRoute)

MEDIA_TYPES: dict[PlotForm, str] = {"svg": "image/svg+xml", "png": "image/png"}
MAX_LAYER = 2**31 - 1
SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""An SVG may be opened as a page: it runs nothing and fetches nothing; its larger areas are images within the file."""
PLOT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture",
        "content": {"image/svg+xml": {"schema": {"type": "string"}}, "image/png": {"schema": {}}},
        "headers": {"ETag": {"description": "Of all that it shows", "schema": {"type": "string"}}},
    },
    304: {"description": "Nothing has changed since that ETag"},
    406: NOT_ACCEPTABLE,
}
"""What a route that answers with a plot says of its answers."""
PlotFile = Annotated[
    str,
    WithJsonSchema(
        {"type": "string", "enum": [name + ending for name in PLOT_NAMES for ending in ("", ".svg", ".png")]}
    ),
    Path(description="Which plot; with .svg or .png behind it, else in the form that Accept names, else as SVG"),
]


@router.get("/{job_id}/plots/{name}", response_class=Response, responses=PLOT_RESPONSES)
@needs(Scope.READ)
async def job_plot(
    job_id: str,
    name: PlotFile,
    request: Request,
    services: ServicesDependency,
    database: DatabaseDependency,
    layer: Annotated[
        int | None,
        Query(ge=1, le=MAX_LAYER, description="Of weights and activation_histograms: the hidden layer, else the last"),
    ] = None,
    metric: Annotated[
        str | None, Query(max_length=100, description="Of learning_curves, such as val_accuracy; else the main ones")
    ] = None,
) -> Response:
    """Draw a training: its learning curves, its layers, or its answers to rows that were held out."""
    stem, form = plot_form(request, name)
    plot = await run_in_threadpool(find_plot, database, job_id, known_plot(stem, PLOT_NAMES), form, layer, metric)
    return await drawn(request, services, plot)


def plot_form(request: Request, name: str) -> tuple[str, PlotForm]:
    """Split the name of a plot from its form: by its ending, else by Accept.

    Raises:
        HTTPException: the client accepts neither form.
    """
    for form in MEDIA_TYPES:
        if name.endswith(f".{form}"):
            return name.removesuffix(f".{form}"), form
    accepted = answer_type(",".join(request.headers.getlist("accept")) or None, tuple(MEDIA_TYPES.values())).name
    return name, next(form for form, kind in MEDIA_TYPES.items() if kind == accepted)


async def drawn(request: Request, services: Services, plot: Plot) -> Response:
    """Answer with a picture, read and drawn when its turn comes; or with 304, and neither, where the client has it.

    Raises:
        NothingToDraw: what it shows is not there, or not yet.
    """
    headers = {"ETag": f'"{plot.sha256[:32]}"', "Vary": "Accept"}
    if has_tag(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    picture = await to_thread.run_sync(plot.draw, limiter=services.drawing)
    headers["ETag"] = f'"{picture.sha256[:32]}"'
    headers["X-Content-Type-Options"] = "nosniff"
    if plot.form == "svg":
        headers["Content-Security-Policy"] = SVG_POLICY
    return Response(picture.content, media_type=MEDIA_TYPES[plot.form], headers=headers)
