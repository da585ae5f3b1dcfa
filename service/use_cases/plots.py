"""Pictures of a job: which there are, what they show, and how to draw them; it knows no matplotlib."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal, TypeVar, get_args

from service.domain.comparison_errors import NoPlotsHere, UnknownPlot
from service.domain.curves import stride
from service.domain.diagnostics import HeldOut
from service.domain.errors import InvalidInput, Violation
from service.domain.jobs import Job
from service.domain.wording import shown
from service.plots.measures import chosen_metrics, known_metrics, parts, plain
from service.storage import curves, diagnostics, fingerprints, jobs
from service.storage.database import Connection, Database
from service.storage.fingerprints import Fingerprint

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

Name = TypeVar("Name", bound=str)

PLOT_NAMES: tuple[PlotName, ...] = get_args(PlotName)
DRAWN_BY = version("selfnorm")
"""Another version may draw the same values otherwise."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that has been drawn."""

    content: bytes
    sha256: str
    """Of what it depends on, read together with what it shows."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture that has not been drawn yet; nothing that it shows has been read."""

    form: PlotForm
    sha256: str
    """Of what it depends on, which is quick to read, so that a client can be told that it has this picture."""
    draw: Callable[[], Picture]
    """Raises NothingToDraw: what it shows is not there."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a plot shows: how to tell whether it has changed, how to read it, how to make a figure of it."""

    what: tuple[object, ...]
    """Of which thing which plot, and how."""
    fingerprint: Callable[[Connection], Fingerprint]
    values: Callable[[Connection], tuple[object, ...]]
    figure: Callable[..., Any]
    """Makes a figure of ``service.plots`` of the values, and imports it only then."""


def are_drawn() -> bool:
    """Whether this installation can draw; Matplotlib is looked for and not imported."""
    return find_spec("matplotlib") is not None


def planned(database: Database, form: PlotForm, subject: Subject) -> Plot:
    """Plan a picture: read the fingerprint now, all else when it is drawn.

    Raises:
        NoPlotsHere: this installation cannot draw.
    """

    def sha256(connection: Connection) -> str:
        shows = (DRAWN_BY, form, subject.what, subject.fingerprint(connection))
        return hashlib.sha256(repr(shows).encode(errors="backslashreplace")).hexdigest()

    def draw() -> Picture:
        with database.read(steady=True) as connection:
            of_these = sha256(connection)
            values = subject.values(connection)
        made = subject.figure(*values)
        from service.plots.figures import render  # matplotlib takes 50 MB and half a second; most never need it

        return Picture(render(made, form), of_these)

    with database.read() as connection:
        plot = Plot(form, sha256(connection), draw)
    if not are_drawn():
        raise NoPlotsHere
    return plot


def known_plot(name: str, names: tuple[Name, ...]) -> Name:
    """Return the plot of these that is called so.

    Raises:
        UnknownPlot: there is none.
    """
    for known in names:
        if name == known:
            return known
    raise UnknownPlot(name, names)


def find_plot(
    database: Database, job_id: str, name: PlotName, form: PlotForm, layer: int | None = None, metric: str | None = None
) -> Plot:
    """Plan a plot of a job; drawing it says what is wrong with the layer and the metric.

    Raises:
        UnknownJob: there is none with this id.
    """

    def values(connection: Connection) -> tuple[object, ...]:
        job = jobs.get(connection, job_id)
        if name == "learning_curves":
            return _curves(connection, job, metric)
        if name in ("confusion_matrix", "residuals"):
            return (diagnostics.held_out(connection, job_id) or HeldOut("test"),)
        if name in ("activations", "gradients"):
            return (diagnostics.read(connection, job_id, histograms=False),)
        chosen = _known_layer(layer, job.spec["network"]["hidden_layers"])
        kind: Literal["weights", "activations"] = "weights" if name == "weights" else "activations"
        return diagnostics.read_histograms(connection, job_id, kind, chosen), chosen

    def fingerprint(connection: Connection) -> Fingerprint:
        return fingerprints.of_job(connection, job_id)

    return planned(database, form, Subject((name, layer, metric), fingerprint, values, partial(_figure, name)))


def drawn_metrics(connection: Connection, job_ids: Sequence[str], metric: str | None) -> list[str]:
    """Return the metrics to read of some jobs for their learning curves.

    Raises:
        InvalidInput: no job has such a metric.
    """
    known = known_metrics(curves.names(connection, job_ids))
    if metric is not None and known and plain(metric) not in known:
        raise InvalidInput([Violation("?metric", f"must be one of {', '.join(known)}; got {shown(metric)}")])
    return parts(chosen_metrics(known, metric))


def _curves(connection: Connection, job: Job, metric: str | None) -> tuple[object, ...]:
    metrics = drawn_metrics(connection, [job.id], metric)
    found = curves.read(connection, [job.id], metrics, stride([job.epoch]), [job.best_epoch]) if metrics else {}
    best = {} if job.best_epoch is None else {job.model_name: job.best_epoch}
    return {job.model_name: list(found.values())}, metric, best


def _known_layer(layer: int | None, layers: int) -> int:
    """Return the layer that is meant: the last where none is named.

    Raises:
        InvalidInput: there is no such layer.
    """
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
