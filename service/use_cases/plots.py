"""Pictures of a job: which there are, what they show, and how to draw them; it knows no matplotlib."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, get_args

from service.domain.diagnostics import HeldOut
from service.domain.errors import InvalidInput, NothingToDraw, UnknownPlot, Violation
from service.domain.jobs import Job
from service.domain.wording import shown
from service.plots.measures import known_metrics, plain
from service.storage import diagnostics, jobs
from service.storage.database import Connection, Database

PlotName = Literal[
    "learning_curves",
    "activations",
    "gradients",
    "weights",
    "activation_histograms",
    "confusion_matrix",
    "residuals",
]
PlotForm = Literal["svg", "png"]

PLOT_NAMES: tuple[PlotName, ...] = get_args(PlotName)
DRAWN_BY = version("selfnorm")
"""Another version may draw the same values otherwise."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture that has not been drawn yet."""

    form: PlotForm
    sha256: str
    """Of all that it shows, so that a client can be told that it has this picture without drawing it."""
    draw: Callable[[], bytes]
    """Raises NothingToDraw: what it shows is not there."""


def planned(form: PlotForm, figure: Callable[..., Any], *values: object) -> Plot:
    """Plan a picture; ``figure`` makes a figure of ``service.plots`` of the values, and imports it only then."""

    def draw() -> bytes:
        made = figure(*values)
        from service.plots.figures import render  # matplotlib takes 50 MB and half a second; most never need it

        return render(made, form)

    shows = (DRAWN_BY, form, figure.__qualname__, values)
    return Plot(form, hashlib.sha256(repr(shows).encode(errors="backslashreplace")).hexdigest(), draw)


def known_plot(name: str) -> PlotName:
    """Return the plot that is called so.

    Raises:
        UnknownPlot: there is none.
    """
    for known in PLOT_NAMES:
        if name == known:
            return known
    raise UnknownPlot(name, PLOT_NAMES)


def find_plot(
    database: Database, job_id: str, name: PlotName, form: PlotForm, layer: int | None = None, metric: str | None = None
) -> Plot:
    """Read what a plot of a job shows.

    Raises:
        UnknownJob: there is none with this id.
        InvalidInput: the network has no such layer, or the job no such metric.
        NothingToDraw: what it shows is not there, or not yet.
    """
    with database.read() as connection:
        job = jobs.get(connection, job_id)
        if name == "learning_curves":
            values = _curves(connection, job, metric)
        elif name in ("confusion_matrix", "residuals"):
            values = (diagnostics.held_out(connection, job_id) or HeldOut("test"),)
        else:
            seen = diagnostics.read(connection, job_id)
            layers = max((len(one.layers) for one in seen), default=0)
            with_layer = name in ("weights", "activation_histograms")
            values = (seen, _known_layer(layer, layers)) if with_layer else (seen,)
    return planned(form, _figure, name, *values)


def _curves(connection: Connection, job: Job, metric: str | None) -> tuple[object, ...]:
    records = jobs.epoch_records(connection, job.id)
    known = known_metrics([records])
    if metric is not None and records and plain(metric) not in known:
        raise InvalidInput([Violation("?metric", f"must be one of {', '.join(known)}; got {shown(metric)}")])
    best = {} if job.best_epoch is None else {job.model_name: job.best_epoch}
    return {job.model_name: [records]}, metric, best


def _known_layer(layer: int | None, layers: int) -> int:
    """Return the layer that is meant: the last where none is named."""
    if not layers:
        raise NothingToDraw("no epoch of the network has been looked at", "its layers are, from the first epoch on")
    if layer is not None and layer > layers:
        detail = f"the network has the hidden layers 1 to {layers}; got {layer}"
        raise InvalidInput([Violation("?layer", detail)])
    return layer or layers


def _figure(name: PlotName, *values: Any) -> Any:
    from service.plots import (  # matplotlib, see above
        activations,
        confusion_matrix,
        distributions,
        gradients,
        learning_curves,
        residuals,
    )

    pictures: dict[PlotName, Callable[..., Any]] = {
        "learning_curves": learning_curves.learning_curves,
        "activations": activations.activations,
        "gradients": gradients.gradients,
        "weights": distributions.weights,
        "activation_histograms": distributions.activation_histograms,
        "confusion_matrix": confusion_matrix.confusion_matrix,
        "residuals": residuals.residuals,
    }
    return pictures[name](*values)
