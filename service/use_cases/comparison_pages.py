"""What somebody who watches comparisons looks at: a list with verdicts, and the curves of all arms of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain.comparisons import ComparedJob, Comparison
from service.domain.curves import Curves, stride
from service.plots.measures import known_metrics, parts, plain
from service.storage import comparisons, curves, job_list
from service.storage.database import Connection, Database
from service.storage.pages import Page, PageRequest
from service.use_cases.comparison_plots import ShownArm, shown_arms
from service.use_cases.comparisons import read_result


@dataclass(frozen=True, slots=True)
class ListedComparison:
    """A comparison in a list."""

    comparison: Comparison
    dataset_name: str | None
    """None where the data set has been deleted."""
    verdict: str | None
    """What it has come to so far, in words; None while no job has begun."""


@dataclass(frozen=True, slots=True)
class ComparisonCurves:
    """A metric of all arms over the epochs; of very many epochs every so many-th."""

    metric: str | None
    metrics: Sequence[str]
    """What can be asked for."""
    every: int
    arms: Sequence[tuple[ShownArm, Sequence[tuple[ComparedJob, Curves]]]]


def list_with_verdicts(database: Database, page: PageRequest) -> Page[ListedComparison]:
    """List comparisons with what they have come to, newest first."""
    with database.read(steady=True) as connection:
        found = comparisons.list_page(connection, page)
        names = job_list.dataset_names(connection, (comparison.spec["dataset"] for comparison in found.items))
        return Page([_listed(connection, comparison, names) for comparison in found.items], found.next_token)


def dataset_name(database: Database, dataset_id: str) -> str | None:
    """Return what a data set is called; None where it has been deleted."""
    with database.read() as connection:
        return job_list.dataset_names(connection, [dataset_id]).get(dataset_id)


def read_curves(database: Database, comparison_id: str, metric: str | None) -> ComparisonCurves:
    """Read a metric of the jobs whose mean is drawn, on training and on validation rows; the loss where it has no such.

    Raises:
        UnknownComparison: there is none with this id.
    """
    with database.read(steady=True) as connection:
        comparisons.get(connection, comparison_id)
        shown = shown_arms(comparisons.members(connection, comparison_id))
        job_ids = [job.id for arm in shown for job in arm.jobs]
        metrics = known_metrics(curves.names(connection, job_ids))
        chosen = plain(metric or "")
        if chosen not in metrics:
            chosen = metrics[0] if metrics else ""
        every = max(1, stride([job.epoch for arm in shown for job in arm.jobs]))
        found = curves.read(connection, job_ids, parts([chosen]), every) if chosen else {}
    arms = [(arm, [(job, found[job.id]) for job in arm.jobs if job.id in found]) for arm in shown]
    return ComparisonCurves(chosen or None, metrics, every, arms)


def _listed(connection: Connection, comparison: Comparison, names: Mapping[str, str]) -> ListedComparison:
    result = read_result(connection, comparison, with_curves=False)
    name = names.get(comparison.spec["dataset"])
    return ListedComparison(comparison, name, None if result is None else result.verdict)
