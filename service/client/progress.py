"""Shows how far a job has come while it is waited for: as a bar, in terminals and notebooks, or to a function."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Job = TypeVar("Job")
Progress = bool | Callable[[Job], object] | None
"""True: a bar. A function: it is called with the job whenever it has been looked at. False or None: nothing."""


@contextmanager
def reporting(progress: Progress[Any], what: str) -> Iterator[Callable[[Any], object] | None]:
    """Give the function that is to be told of a job; None where nobody wants to know."""
    if callable(progress):
        yield progress
    elif not progress:
        yield None
    else:
        with _bar(what) as report:
            yield report


@contextmanager
def _bar(what: str) -> Iterator[Callable[[Any], object]]:
    from rich import progress as rich  # it takes a tenth of a second, and few programs show a bar

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[said]}"),
    )
    with rich.Progress(*columns) as bar:
        task = bar.add_task(what, total=1.0, said="")

        def report(job: Any) -> None:
            description = f"{what} {job.id[:8]} {job.state}"
            bar.update(task, description=description, completed=_fraction(job), said=_said(job))

        yield report


def _fraction(job: Any) -> float:
    """Return which part is done, of a job or a prediction by their fraction, of a comparison by its jobs."""
    progress = job.progress
    if hasattr(progress, "fraction"):
        return float(progress.fraction)
    return progress.finished_jobs / progress.total if progress.total else 0.0


def _said(job: Any) -> str:
    """Say in a few words what is known beside the part that is done."""
    progress = job.progress
    if hasattr(progress, "epoch"):
        latest = job.metrics.latest or {}
        shown = [f"{name} {latest[name]:.4g}" for name in ("val_loss", "loss") if isinstance(latest.get(name), float)]
        return "  ".join([f"epoch {progress.epoch}/{progress.epochs}", *shown[:1]])
    if hasattr(progress, "rows"):
        return f"{progress.rows_done:,}/{progress.rows:,} rows"
    return f"{progress.finished_jobs}/{progress.total} jobs"
