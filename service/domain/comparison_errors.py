"""What can be wrong with comparisons and plots, one class per fact.

NotFound
└── UnknownComparison, UnknownPlot, NoPlotsHere
Conflict
├── ComparisonIsFinal, ComparisonIsNotFinal, JobInComparison
└── NothingToDraw           a plot whose values are not there
"""

from collections.abc import Sequence

from service.domain.errors import Conflict, NotFound


class UnknownComparison(NotFound):
    """No comparison has this id."""

    code = "unknown_comparison"

    def __init__(self, comparison_id: str) -> None:
        super().__init__(f"no comparison has the id {comparison_id[:64]!r}; GET /comparisons lists them")


class UnknownPlot(NotFound):
    """No plot has this name."""

    code = "unknown_plot"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no plot {name[:64]!r}; there are {', '.join(known)}, also with .svg or .png behind")


class NoPlotsHere(NotFound):
    """No plots are drawn by this installation, which lacks the extra ``plots``."""

    code = "no_plots_here"

    def __init__(self) -> None:
        super().__init__(
            "this installation draws no plots; the page of the job or comparison does, and so would this one "
            "with Matplotlib (pip install '.[plots]' in the checkout, or the image api-full)"
        )


class ComparisonIsFinal(Conflict):
    """A comparison whose jobs have all ended cannot be cancelled any more."""

    code = "comparison_is_final"

    def __init__(self, comparison_id: str, state: str) -> None:
        super().__init__(
            f"comparison {comparison_id} has ended as {state}; only one that has not ended can be cancelled"
        )


class ComparisonIsNotFinal(Conflict):
    """A comparison with jobs that have not ended cannot be deleted."""

    code = "comparison_is_not_final"

    def __init__(self, comparison_id: str, unfinished: int) -> None:
        super().__init__(
            f"{unfinished} job(s) of comparison {comparison_id} have not ended; cancel it and wait, then delete it"
        )


class JobInComparison(Conflict):
    """A job that belongs to a comparison cannot be deleted on its own."""

    code = "job_in_comparison"

    def __init__(self, job_id: str, comparison_id: str) -> None:
        super().__init__(
            f"job {job_id} belongs to comparison {comparison_id}, whose result needs it; "
            f"DELETE /comparisons/{comparison_id} deletes it together with the others"
        )


class NothingToDraw(Conflict):
    """What a plot shows is not there, or not yet."""

    code = "nothing_to_draw"

    def __init__(self, missing: str, when: str) -> None:
        super().__init__(f"there is nothing to draw: {missing}; {when}")
