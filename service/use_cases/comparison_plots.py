"""Pictures of a comparison, with all arms in one: which there are, what they show, and how to draw them."""

from collections.abc import Callable
from typing import Any, Literal, get_args

from service.domain.comparison_results import ComparisonResult
from service.domain.errors import InvalidInput, NothingToDraw, UnknownPlot, Violation
from service.domain.wording import shown
from service.plots.measures import known_metrics, plain
from service.storage.database import Database
from service.use_cases.comparisons import comparison_epochs, comparison_result, get_comparison
from service.use_cases.plots import Plot, PlotForm, planned

ComparisonPlotName = Literal["learning_curves", "critical_difference", "depth_sweep"]
COMPARISON_PLOT_NAMES: tuple[ComparisonPlotName, ...] = get_args(ComparisonPlotName)


def known_comparison_plot(name: str) -> ComparisonPlotName:
    """Return the plot that is called so.

    Raises:
        UnknownPlot: there is none.
    """
    for known in COMPARISON_PLOT_NAMES:
        if name == known:
            return known
    raise UnknownPlot(name, COMPARISON_PLOT_NAMES)


def find_comparison_plot(
    database: Database, comparison_id: str, name: ComparisonPlotName, form: PlotForm, metric: str | None = None
) -> Plot:
    """Read what a plot of a comparison shows.

    Raises:
        UnknownComparison: there is none with this id.
        InvalidInput: no job has such a metric.
        NothingToDraw: what it shows is not there, or not yet.
    """
    comparison = get_comparison(database, comparison_id).comparison
    if name == "learning_curves":
        return planned(form, _figure, name, *_curves(database, comparison_id, metric))
    result = comparison_result(database, comparison)
    values = _ranks(result) if name == "critical_difference" else _depths(result)
    return planned(form, _figure, name, *values)


def _curves(database: Database, comparison_id: str, metric: str | None) -> tuple[object, ...]:
    arms = comparison_epochs(database, comparison_id)
    known = known_metrics([records for jobs in arms.values() for records in jobs])
    if metric is not None and known and plain(metric) not in known:
        raise InvalidInput([Violation("?metric", f"must be one of {', '.join(known)}; got {shown(metric)}")])
    return arms, metric


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
