"""Comparisons: submit, look at, hold the arms against each other, cancel, delete."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

from service.domain.audit import Action
from service.domain.comparison_completion import CompletedComparison, PlannedJob, complete_comparison, dataset_of
from service.domain.comparison_results import ComparisonResult, curves_needed, result_of
from service.domain.comparison_spec import ComparisonSpec
from service.domain.comparisons import ComparedJob, Comparison
from service.domain.datasets import Dataset
from service.domain.errors import InvalidSpec, UnknownDataset, Violation
from service.domain.jobs import JobState
from service.domain.limits import Limits
from service.domain.quotas import NO_QUOTAS, Quotas
from service.storage import audit, comparisons, datasets, fingerprints, jobs, outcomes, pages
from service.storage.database import Connection, Database
from service.use_cases.idempotency import KeyedRequest, Outcome, StoredAnswer, once, replay
from service.use_cases.quotas import with_room

TOLD_BY = version("selfnorm")
"""Another version may make another result of the same epochs."""


@dataclass(frozen=True, slots=True)
class FullComparison:
    """A comparison with its jobs, and with its result where that was read."""

    comparison: Comparison
    jobs: Sequence[ComparedJob]
    result: ComparisonResult | None = None
    """What it has come to so far; None while no job has begun."""
    sha256: str | None = None
    """Changes with anything of it; read together with it."""


def submit_comparison_once(
    database: Database,
    spec: ComparisonSpec,
    limits: Limits,
    request: KeyedRequest | None,
    answer: Callable[[FullComparison], StoredAnswer],
    quotas: Quotas = NO_QUOTAS,
) -> Outcome[FullComparison]:
    """Complete a comparison and store it with all its jobs, unless this request has been answered before.

    Ring the doorbell for every job after this returns.

    Raises:
        InvalidSpec: it does not fit its data set or the limits.
        QuotaExceeded: its owner has no room for so many.
        IdempotencyKeyReused: another request came under this key.
    """
    if replayed := replay(database, request):
        return replayed
    dataset, completed = _completed(
        database, spec, limits
    )  # nobody waits for a lock meanwhile: it takes up to a second

    def submit(connection: Connection) -> FullComparison:
        now = _dataset(connection, spec, for_use=True)
        return _add(connection, completed if now == dataset else complete_comparison(spec, now, limits))

    # Two hundred jobs are some hundred rows: nobody else is to wait for the end of a commit that is shared with them.
    return once(database, request, with_room(quotas, submit), answer, takes_long=True)


def validate_comparison(database: Database, spec: ComparisonSpec, limits: Limits) -> CompletedComparison:
    """Answer as a submission would, without making anything.

    Raises:
        InvalidSpec: it does not fit its data set or the limits.
    """
    return _completed(database, spec, limits)[1]


def get_comparison(database: Database, comparison_id: str) -> Comparison:
    """Read one comparison.

    Raises:
        UnknownComparison: there is none with this id.
    """
    with database.read() as connection:
        return comparisons.get(connection, comparison_id)


def comparison_sha256(database: Database, comparison_id: str) -> str:
    """Read what tells whether a comparison, its jobs or its result have changed; it needs no epochs.

    Raises:
        UnknownComparison: there is none with this id.
    """
    with database.read() as connection:
        return _sha256(connection, comparison_id)


def look_at_comparison(database: Database, comparison_id: str) -> FullComparison:
    """Read one comparison with its jobs, and hold the arms against each other, as far as the jobs have come.

    Raises:
        UnknownComparison: there is none with this id.
    """
    with database.read(steady=True) as connection:
        found = _read(connection, comparison_id)
        result = read_result(connection, found.comparison)
        return replace(found, result=result, sha256=_sha256(connection, comparison_id))


def list_comparisons(database: Database, page: pages.PageRequest) -> pages.Page[Comparison]:
    """List comparisons, newest first."""
    with database.read() as connection:
        return comparisons.list_page(connection, page)


def cancel_comparison(database: Database, comparison_id: str) -> bool:
    """Ask that every job that has not ended does so without a model; say whether there were any.

    Raises:
        UnknownComparison: there is none with this id.
        ComparisonIsFinal: all of its jobs have ended, and none was cancelled.
    """
    with database.write(alone=True) as connection:  # up to two hundred jobs
        audit.record(connection, Action.COMPARISON_CANCELLED, comparison_id)
        return comparisons.request_cancel(connection, comparison_id)


def delete_comparison(database: Database, comparison_id: str) -> None:
    """Delete a comparison that has ended, with its jobs; their models stay.

    Raises:
        UnknownComparison: there is none with this id.
        ComparisonIsNotFinal: a job has not ended.
    """
    with database.write(alone=True) as connection:
        comparisons.remove(connection, comparison_id)
        audit.record(connection, Action.COMPARISON_DELETED, comparison_id)


def read_result(connection: Connection, comparison: Comparison, *, with_curves: bool = True) -> ComparisonResult | None:
    """Hold the arms against each other, as far as their jobs have come; None while none has begun.

    Without curves it says nothing of levels, saved epochs and claims, and reads one epoch of each job.
    """
    if comparison.state is JobState.QUEUED:
        return None
    spec = ComparisonSpec.model_validate(comparison.spec)
    found = outcomes.read(connection, comparison.id, curves_needed(spec) if with_curves else ())
    return result_of(spec, comparison.ground, found)


def _completed(database: Database, spec: ComparisonSpec, limits: Limits) -> tuple[Dataset, CompletedComparison]:
    with database.read() as connection:
        dataset = _dataset(connection, spec, for_use=False)
    return dataset, complete_comparison(spec, dataset, limits)


def _dataset(connection: Connection, spec: ComparisonSpec, *, for_use: bool) -> Dataset:
    try:
        return datasets.get(connection, dataset_of(spec), for_use=for_use)
    except UnknownDataset as error:
        raise InvalidSpec([Violation("#/dataset", str(error))]) from None


def _add(connection: Connection, completed: CompletedComparison) -> FullComparison:
    comparison_id = secrets.token_hex(10)
    members = [_add_job(connection, planned) for planned in completed.jobs]
    stored = completed.spec.model_dump(mode="json")
    comparisons.add(connection, comparison_id, stored, completed.ground, completed.warnings, members)
    about = {"dataset": stored["dataset"], "jobs": len(members)}
    audit.record(connection, Action.COMPARISON_SUBMITTED, comparison_id, **about)
    return _read(connection, comparison_id)


def _add_job(connection: Connection, planned: PlannedJob) -> ComparedJob:
    job_id = secrets.token_hex(10)
    lint = [finding.to_dict() for finding in planned.findings]
    jobs.add(connection, job_id, planned.spec.model_dump(mode="json"), planned.warnings, lint=lint, joins=False)
    return ComparedJob(planned.arm, planned.seed, job_id, JobState.QUEUED)


def _read(connection: Connection, comparison_id: str) -> FullComparison:
    found = comparisons.get(connection, comparison_id)
    return FullComparison(found, comparisons.members(connection, comparison_id))


def _sha256(connection: Connection, comparison_id: str) -> str:
    shows = (TOLD_BY, fingerprints.of_comparison(connection, comparison_id))
    return hashlib.sha256(repr(shows).encode(errors="backslashreplace")).hexdigest()
