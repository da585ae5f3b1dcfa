"""/dashboard/jobs/{id}: one job, before, while and after it trains."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from service.api.dashboard.pages import PageRoute, page
from service.api.dependencies import DatabaseDependency, ServicesDependency
from service.api.gate.scopes import needs
from service.api.services import Services
from service.api.strict_bodies import StrictRoute
from service.api.views.events import EventView
from service.api.views.jobs import JobView, MetricsView
from service.api.views.verdicts import FindingView
from service.domain.jobs import RESUMABLE_ERRORS, EventKind, JobState
from service.domain.keys import Scope
from service.domain.self_normalization import (
    EXPLODING_GRADIENT_RATIO,
    EXPLODING_VARIANCE,
    MEAN_DOMAIN,
    THEOREM_1,
    VANISHING_GRADIENT_RATIO,
    VANISHING_VARIANCE,
    VARIANCE_DOMAIN,
)
from service.domain.spec import NetworkSpec
from service.plots.measures import known_metrics
from service.storage.database import Database
from service.use_cases import job_pages, jobs
from service.use_cases.job_pages import WatchedJob
from service.use_cases.plots import PLOT_NAMES
from service.use_cases.short_specs import shortened

router = APIRouter(prefix="/dashboard/jobs", route_class=PageRoute, include_in_schema=False)
readings = APIRouter(prefix="/dashboard/jobs", route_class=StrictRoute, include_in_schema=False)
"""For scripts of this version's pages, as ``chart_data`` is."""

MOST_FEATURES = 1000
MOST_WIDTHS = 8

BOUNDS = {
    "mean": MEAN_DOMAIN,
    "variance": VARIANCE_DOMAIN,
    "tau": THEOREM_1.tau,
    "living_variance": (VANISHING_VARIANCE, EXPLODING_VARIANCE),
    "living_gradient": (VANISHING_GRADIENT_RATIO, EXPLODING_GRADIENT_RATIO),
}
"""Where the theorems hold a layer, and where its signal lives, as charts draw it."""
TITLES = {
    "unknown": ("", "Self-normalization: nobody has looked yet"),
    "held": ("pass", "Held: the network normalizes itself"),
    "left": ("warn", "Left: the network has left the domain in which it normalizes itself"),
    "stable": ("pass", "Stable: no theorem holds this network, and its signal lives"),
    "vanishing": ("fail", "Vanishing: the signal dies on its way through the layers"),
    "exploding": ("fail", "Exploding: the signal grows beyond all bounds on its way through the layers"),
}
"""How a verdict is shown, by its status: the kind of its banner, and its first words."""
TABS = {
    "epochs": "By epoch",
    "layers": "By layer",
    "gradients": "Gradients",
    "weights": "Weights",
    "activations": "Activations",
}
WAITING = {
    "queued": "It waits for a worker. The first point comes with the first epoch.",
    "running": "A worker has it: the table is read, the network is compiled, and the first epoch runs. "
    "Its point comes here by itself.",
    "paused": "It is paused, before its first epoch. Resume it to go on.",
    "cancelling": "It is being cancelled; no epoch has ended.",
    "succeeded": "No epoch is kept.",
    "failed": "It failed before its first epoch ended.",
    "cancelled": "It was cancelled before its first epoch ended.",
}
"""What is said in place of curves, by the state."""


@router.get("/{job_id}")
@needs(Scope.READ)
def job(job_id: str, services: ServicesDependency, database: DatabaseDependency) -> Response:
    """Show a job."""
    found = job_pages.watch_job(database, job_id)
    return page("job.html", here="jobs", **_values(found, _short(services, database, found.job.spec)))


@readings.get("/{job_id}/head")
@needs(Scope.READ)
def head(job_id: str, database: DatabaseDependency) -> JSONResponse:
    """Send a job without its spec, which never changes and, of a wide table, is long."""
    found = jobs.get_job(database, job_id)
    # The view looks at every column of a spec, once a second for everybody who watches.
    brief = replace(found, spec={**found.spec, "features": found.spec["features"][:1]})
    return JSONResponse(JobView.of(brief).model_dump(mode="json", exclude={"spec"}))


def _short(services: Services, database: Database, spec: dict[str, Any]) -> dict[str, Any]:
    """Return what somebody must say to get this job again; of wide tables, for which that takes long, all of it."""
    return spec if len(spec["features"]) > MOST_FEATURES else shortened(database, spec, services.limits)


def _values(found: WatchedJob, short: dict[str, Any]) -> dict[str, Any]:
    view, log = JobView.of(found.job), [EventView.of(event) for event in found.log]
    plain = view.model_dump(mode="json")
    return {
        "job": view,
        "network": network_words(view.spec.network),
        "dataset_name": found.dataset_name,
        "comparison_id": found.comparison_id,
        "lint": [FindingView(**finding) for finding in found.lint],
        "log": log,
        "verdict_kind": _verdict_kind(view),
        "titles": TITLES,
        "tabs": TABS,
        "waiting": WAITING,
        "metric_names": metric_names(view.metrics),
        "spec_json": readable(plain["spec"]),
        "plots": [name for name in PLOT_NAMES if name != _other_answers(view)],
        "data": {
            "job": plain,
            "short": short,
            "comparison": found.comparison_id,
            "events": list(EventKind),
            "last_event": log[0].id if log else 0,
            "bounds": BOUNDS,
            "titles": TITLES,
            "waiting": WAITING,
            "resumable": sorted(RESUMABLE_ERRORS),
        },
    }


def _verdict_kind(view: JobView) -> str:
    kind = TITLES[view.verdict.status if view.verdict else "unknown"][0]
    # Of a training that failed, what was well the last time that somebody looked is no good news.
    return "" if view.state == JobState.FAILED and kind == "pass" else kind


def network_words(network: NetworkSpec) -> str:
    """Say in a few words what network it is."""
    widths = network.widths
    size = f"{len(widths)} \N{MULTIPLICATION SIGN} {widths[0]}" if len(set(widths)) == 1 else _listed(widths)
    if network.kind == "snn":
        return f"SNN, {size}"
    return f"MLP, {size}, {network.activation}, {network.initializer.replace('_', ' ')}"


def _listed(widths: Sequence[int]) -> str:
    more = ", …" if len(widths) > MOST_WIDTHS else ""
    return f"{len(widths)} layers of {', '.join(map(str, widths[:MOST_WIDTHS]))}{more}"


def metric_names(metrics: MetricsView) -> list[str]:
    """Name every metric that was measured, whichever part of the rows it was measured on."""
    parts: Iterable[dict[str, Any]] = (part for part in (metrics.latest, metrics.best, metrics.test) if part)
    return [name for name in known_metrics(name for part in parts for name in part) if name != "epoch"]


def readable(value: Any) -> str:
    """Write JSON for reading: letters as they are; what would show nothing, or turn the line around, written out."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    text = re.sub(r"\[[^][{}]*\]", _in_one_line, text)
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def _in_one_line(found: re.Match[str]) -> str:
    """Write a list of words or numbers on one line, for it may be long, and says little."""
    return re.sub(r"\n\s*", " ", found[0])


def _other_answers(view: JobView) -> str:
    """Return the picture of answers that there is none of for this task."""
    return "residuals" if view.spec.task == "classification" else "confusion_matrix"
