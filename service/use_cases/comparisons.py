"""Comparisons: submit, look at, hold the arms against each other, cancel, delete."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.domain.comparison_completion import CompletedComparison, PlannedJob, complete_comparison, dataset_of
from service.domain.comparison_results import ComparisonResult, level_metric, result_of
from service.domain.comparison_spec import ComparisonSpec
from service.domain.comparisons import ComparedJob, Comparison
from service.domain.errors import InvalidSpec, UnknownDataset, Violation
from service.domain.jobs import EpochRecord, JobState
from service.domain.limits import Limits
from service.storage import comparisons, datasets, jobs, pages
from service.storage.database import Connection, Database
from service.use_cases.idempotency import KeyedRequest, Outcome, StoredAnswer, once


@dataclass(frozen=True, slots=True)
class FullComparison:
    """A comparison with its jobs."""

    comparison: Comparison
    jobs: Sequence[ComparedJob]

    @property
    def state(self) -> JobState:
        """How it stands."""
        return self.comparison.state


def submit_comparison_once(
    database: Database,
    spec: ComparisonSpec,
    limits: Limits,
    request: KeyedRequest | None,
    answer: Callable[[FullComparison], StoredAnswer],
) -> Outcome[FullComparison]:
    """Complete a comparison and store it with all its jobs, unless this request has been answered before.

    Ring the doorbell for every job after this returns.

    Raises:
        InvalidSpec: it does not fit its data set or the limits.
        IdempotencyKeyReused: another request came under this key.
    """
    # Two hundred jobs are some hundred rows: nobody else is to wait for the end of a commit that is shared with them.
    return once(database, request, lambda connection: _submit(connection, spec, limits), answer, takes_long=True)


def validate_comparison(database: Database, spec: ComparisonSpec, limits: Limits) -> CompletedComparison:
    """Answer as a submission would, without making anything.

    Raises:
        InvalidSpec: it does not fit its data set or the limits.
    """
    with database.read() as connection:
        return _complete(connection, spec, limits, for_use=False)


def get_comparison(database: Database, comparison_id: str) -> FullComparison:
    """Read one comparison with its jobs."""
    with database.read() as connection:
        return _read(connection, comparison_id)


def list_comparisons(database: Database, page: pages.PageRequest) -> pages.Page[Comparison]:
    """List comparisons, newest first."""
    with database.read() as connection:
        return comparisons.list_page(connection, page)


def cancel_comparison(database: Database, comparison_id: str) -> FullComparison:
    """Ask that every job that has not ended does so without a model; a cancelled comparison stays so.

    Raises:
        UnknownComparison: there is none with this id.
        ComparisonIsFinal: all of its jobs have ended, and it is not cancelled.
    """
    with database.write() as connection:
        comparisons.request_cancel(connection, comparison_id)
        return _read(connection, comparison_id)


def delete_comparison(database: Database, comparison_id: str) -> None:
    """Delete a comparison that has ended, with its jobs; their models stay.

    Raises:
        UnknownComparison: there is none with this id.
        ComparisonIsNotFinal: a job has not ended.
    """
    with database.write(alone=True) as connection:
        comparisons.remove(connection, comparison_id)


def comparison_result(database: Database, comparison: Comparison) -> ComparisonResult | None:
    """Hold the arms against each other, as far as their jobs have come; None while none has begun."""
    if comparison.state is JobState.QUEUED:
        return None
    spec = ComparisonSpec.model_validate(comparison.spec)
    with database.read() as connection:
        outcomes = comparisons.outcomes(connection, comparison.id, dict.fromkeys(["val_loss", level_metric(spec)]))
    return result_of(spec, comparison.ground, outcomes)


def comparison_epochs(database: Database, comparison_id: str) -> Mapping[str, Sequence[Sequence[EpochRecord]]]:
    """Read every finished epoch by arm, and within it by seed.

    Raises:
        UnknownComparison: there is none with this id.
    """
    with database.read() as connection:
        comparisons.get(connection, comparison_id)
        return comparisons.epoch_records(connection, comparison_id)


def _submit(connection: Connection, spec: ComparisonSpec, limits: Limits) -> FullComparison:
    completed = _complete(connection, spec, limits, for_use=True)
    comparison_id = secrets.token_hex(10)
    members = [_add_job(connection, planned) for planned in completed.jobs]
    stored = completed.spec.model_dump(mode="json")
    comparisons.add(connection, comparison_id, stored, completed.ground, completed.warnings, members)
    return _read(connection, comparison_id)


def _complete(connection: Connection, spec: ComparisonSpec, limits: Limits, *, for_use: bool) -> CompletedComparison:
    try:
        dataset = datasets.get(connection, dataset_of(spec), for_use=for_use)
    except UnknownDataset as error:
        raise InvalidSpec([Violation("#/dataset", str(error))]) from None
    return complete_comparison(spec, dataset, limits)


def _add_job(connection: Connection, planned: PlannedJob) -> ComparedJob:
    job_id = secrets.token_hex(10)
    lint = [finding.to_dict() for finding in planned.findings]
    jobs.add(connection, job_id, planned.spec.model_dump(mode="json"), planned.warnings, lint=lint)
    return ComparedJob(planned.arm, planned.seed, job_id, JobState.QUEUED)


def _read(connection: Connection, comparison_id: str) -> FullComparison:
    found = comparisons.get(connection, comparison_id)
    return FullComparison(found, comparisons.members(connection, comparison_id))
