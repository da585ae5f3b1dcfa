"""Pictures of a comparison, with all arms in one: which there are, what they show, and how to draw them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from service.domain.comparison_errors import NothingToDraw
from service.domain.comparison_results import ComparisonResult
from service.domain.comparisons import ComparedJob
from service.domain.curves import stride
from service.domain.jobs import JobState
from service.storage import comparisons, curves, fingerprints
from service.storage.database import Connection, Database
from service.storage.fingerprints import Fingerprint
from service.use_cases.comparisons import read_result
from service.use_cases.plots import Plot, PlotForm, Subject, drawn_metrics, planned


@dataclass(frozen=True, slots=True)
class ShownArm:
    """An arm in a picture of learning curves."""

    arm: str
    jobs: Sequence[ComparedJob]
    note: str = ""
    """What the jobs are that have not succeeded."""


ComparisonPlotName = Literal["learning_curves", "critical_difference", "depth_sweep"]
COMPARISON_PLOT_NAMES: tuple[ComparisonPlotName, ...] = get_args(ComparisonPlotName)


def find_comparison_plot(
    database: Database, comparison_id: str, name: ComparisonPlotName, form: PlotForm, metric: str | None = None
) -> Plot:
    """Plan a plot of a comparison; drawing it says what is wrong with the metric.

    Raises:
        UnknownComparison: there is none with this id.
    """

    def values(connection: Connection) -> tuple[object, ...]:
        if name == "learning_curves":
            return _curves(connection, comparison_id, metric)
        result = read_result(connection, comparisons.get(connection, comparison_id), with_curves=False)
        return _ranks(result) if name == "critical_difference" else _depths(result)

    def fingerprint(connection: Connection) -> Fingerprint:
        return fingerprints.of_comparison(connection, comparison_id)

    return planned(database, form, Subject((name, metric), fingerprint, values, partial(_figure, name)))


def _curves(connection: Connection, comparison_id: str, metric: str | None) -> tuple[object, ...]:
    shown = shown_arms(comparisons.members(connection, comparison_id))
    job_ids = [job.id for one in shown for job in one.jobs]
    metrics = drawn_metrics(connection, job_ids, metric)
    every = stride([job.epoch for one in shown for job in one.jobs])
    found = curves.read(connection, job_ids, metrics, every) if metrics else {}
    arms = {one.arm: [found[job.id] for job in one.jobs if job.id in found] for one in shown}
    return arms, metric, None, {one.arm: one.note for one in shown if one.note}


def shown_arms(members: Sequence[ComparedJob]) -> list[ShownArm]:
    """Choose the jobs whose mean is drawn: those that have succeeded, as in the result, for an arm that has one.

    Of another arm it is those that have not ended, else those that failed or were cancelled: curves that go on, or were
    cut off, are not mixed with others.
    """
    found = []
    for arm in dict.fromkeys(job.arm for job in members):
        begun = [job for job in members if job.arm == arm and job.epoch]
        succeeded = [job for job in begun if job.state is JobState.SUCCEEDED]
        unfinished = [job for job in begun if not job.state.is_final]
        if succeeded:
            found.append(ShownArm(arm, succeeded))
        elif unfinished:
            found.append(ShownArm(arm, unfinished, "not finished"))
        elif begun:
            found.append(ShownArm(arm, begun, "failed"))
    return found


def _ranks(result: ComparisonResult | None) -> tuple[object, ...]:
    ranks = None if result is None else result.ranks
    if ranks is None or ranks.critical_difference is None:
        missing = "no two seeds have succeeded with each of two arms or more"
        raise NothingToDraw(missing, "then their ranks can be compared")
    return ranks.average, ranks.critical_difference, ranks.seeds


def _depths(result: ComparisonResult | None) -> tuple[object, ...]:
    if result is None or result.depths is None:
        raise NothingToDraw("no job has begun, or it is no depth sweep", "give the comparison a list of depths")
    scores = {one.arm: {depth: list(seeds.values()) for depth, seeds in one.by_seed.items()} for one in result.depths}
    return scores, {one.arm: one.horizon for one in result.depths}, result.metric


def _figure(name: ComparisonPlotName, *values: Any) -> Any:
    # matplotlib takes 50 MB and half a second; most processes never need it
    from service.plots import critical_difference, depth_sweep, learning_curves

    pictures: dict[ComparisonPlotName, Callable[..., Any]] = {
        "learning_curves": learning_curves.learning_curves,
        "critical_difference": critical_difference.critical_difference,
        "depth_sweep": depth_sweep.depth_sweep,
    }
    return pictures[name](*values)
