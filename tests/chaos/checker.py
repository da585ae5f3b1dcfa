"""What must hold after a run, whatever was done to it: one function for each invariant, and each can fail."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from service.domain.jobs import FINAL_STATES, EventKind, JobState
from tests.chaos.history import Call, History
from tests.chaos.snapshot import Snapshot, StoredJob, StoredVersion

FINAL_KINDS = {state.value for state in FINAL_STATES}
CONFLICT, UNAVAILABLE = 409, 503


@dataclass(frozen=True, slots=True)
class Twin:
    """What a spec gives when nothing happens."""

    weights_sha256: str
    curve: str
    """A hash of all that its epochs measured."""


@dataclass(frozen=True)
class Run:
    """A run that is over: what is stored, what was seen, and what was expected."""

    stored: Snapshot
    history: History = field(default_factory=History)
    undisturbed: Mapping[str, Twin] = field(default_factory=dict)
    """By the name of a spec, what it gives when nothing happens."""
    allowed_codes: frozenset[str] = frozenset()
    """Reasons for which a job of this run may fail."""
    unanswered: tuple[str, ...] = ()
    """Requests that were sent again and again, and never answered."""

    def key_of(self, job: StoredJob) -> str | None:
        """Return the key under which a job was submitted; every job of a run has its key among its tags."""
        return next((tag for tag in job.tags if tag in self.history.specs), None)

    def versions_of(self, job: StoredJob) -> list[StoredVersion]:
        """Return the model versions that a job has made."""
        return [version for version in self.stored.versions if version.job_id == job.id]


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be."""

    invariant: str
    detail: str


def check(run: Run) -> list[Violation]:
    """Return everything that is not as it must be."""
    return [Violation(invariant.__name__, detail) for invariant in INVARIANTS for detail in invariant(run)]


def nothing_accepted_is_lost(run: Run) -> Iterator[str]:
    """Every job that was answered with 202 is there, under the key of its request."""
    for key, answered in run.history.accepted().items():
        for job_id in answered:
            job = run.stored.jobs.get(job_id)
            if job is None:
                yield f"job {job_id} was accepted under {key} and is not there"
            elif run.key_of(job) != key:
                yield f"job {job_id} was accepted under {key} and belongs to {run.key_of(job)}"


def one_job_for_each_key(run: Run) -> Iterator[str]:
    """However often a request was sent, it made one job, and every answer named it."""
    counts = Counter(key for job in run.stored.jobs.values() if (key := run.key_of(job)))
    for key, count in counts.items():
        if count > 1:
            yield f"{count} jobs were made under {key}"
    for key, answered in run.history.accepted().items():
        if len(answered) > 1:
            yield f"different jobs were answered to {key}: {', '.join(sorted(answered))}"


def every_job_has_ended(run: Run) -> Iterator[str]:
    """Every job is final, but for those that somebody paused and left so."""
    for job in run.stored.jobs.values():
        left_alone = job.state == JobState.PAUSED and job.id in run.history.paused
        if job.state not in FINAL_STATES and not left_alone:
            yield f"job {job.id} is still {job.state}, after {job.fence} attempts"


def no_job_failed(run: Run) -> Iterator[str]:
    """No job failed for a reason that the run does not expect."""
    for job in run.stored.jobs.values():
        if job.state == JobState.FAILED and job.error_code not in run.allowed_codes:
            yield f"job {job.id} failed: {job.error_code}: {job.error_detail}"
        if job.state != JobState.FAILED and job.error_code is not None:
            yield f"job {job.id} is {job.state} and has the error {job.error_code}"


def one_model_for_each_success(run: Run) -> Iterator[str]:
    """A job that succeeded has one model version, the one that it names; no other job has any."""
    for job in run.stored.jobs.values():
        versions = [version.version for version in run.versions_of(job)]
        wanted = 1 if job.state == JobState.SUCCEEDED else 0
        if len(versions) != wanted:
            yield f"job {job.id} is {job.state} and has {len(versions)} model versions"
        if versions not in ([], [job.model_version]) or (not versions and job.model_version is not None):
            yield f"job {job.id} names model version {job.model_version} and has {versions}"
    for version in run.stored.versions:
        if version.job_id not in run.stored.jobs:
            yield f"version {version.version} of {version.name} belongs to job {version.job_id}, which is not there"


def epochs_have_no_gap(run: Run) -> Iterator[str]:
    """Stored epochs are 1 to n, n is what the job says, and the log tells of the same n, each once and in order."""
    for job in run.stored.jobs.values():
        whole = list(range(1, job.epoch + 1))
        if job.epochs != whole:
            yield f"job {job.id} ({job.state}) says epoch {job.epoch} and has {_shown(job.epochs)}"
        if job.state == JobState.SUCCEEDED and not job.epochs:
            yield f"job {job.id} succeeded without an epoch"
        last = 0
        for event in job.events:
            if event.kind == EventKind.CHECKPOINT_DAMAGED:
                last = event.data["epoch"]
            elif event.kind == EventKind.EPOCH:
                if event.data["epoch"] != last + 1:
                    yield f"job {job.id}: event {event.number} tells of epoch {event.data['epoch']} after {last}"
                last = event.data["epoch"]
            elif event.kind == EventKind.STARTED and event.data["epoch"] != last:
                yield f"job {job.id}: event {event.number} starts from epoch {event.data['epoch']} after {last}"
        if last != job.epoch:
            yield f"job {job.id} says epoch {job.epoch} and its log ends with {last}"


def events_have_no_gap(run: Run) -> Iterator[str]:
    """Events count from 1 to what the job says."""
    for job in run.stored.jobs.values():
        numbers = [event.number for event in job.events]
        if numbers != list(range(1, job.last_event + 1)):
            yield f"job {job.id} says {job.last_event} events and has {_shown(numbers)}"


def attempts_count_up(run: Run) -> Iterator[str]:
    """Every start has a higher attempt than the one before, and the last one is the job's fence."""
    for job in run.stored.jobs.values():
        attempts = [event.data["attempt"] for event in job.all_of(EventKind.STARTED)]
        if any(later <= earlier for earlier, later in itertools.pairwise(attempts)):
            yield f"job {job.id} was started in this order of attempts: {attempts}"
        if job.fence != max(attempts, default=0):
            yield f"job {job.id} has fence {job.fence} after attempts {attempts}"


def nothing_follows_the_end(run: Run) -> Iterator[str]:
    """The log of a job begins with its submission; one that has ended ends with how, which is said only once."""
    for job in run.stored.jobs.values():
        kinds = [event.kind for event in job.events]
        if kinds[:1] != [EventKind.SUBMITTED] or kinds.count(EventKind.SUBMITTED) > 1:
            yield f"job {job.id}: its log does not begin with its one submission: {_shown(kinds)}"
        if ended := [kind for kind in kinds if kind in FINAL_KINDS]:
            if ended != kinds[-1:]:
                yield f"job {job.id}: its log says {ended}, and ends with {kinds[-1]}"
            if ended[-1] != job.state:
                yield f"job {job.id} is {job.state}, and its log says {ended}"
        elif job.state in FINAL_STATES:
            yield f"job {job.id} is {job.state}, and its log does not say so"


def time_goes_forward(run: Run) -> Iterator[str]:
    """Fences, events and epochs never decrease, and what was final stays as it was, in every look at the job table."""
    before: dict[str, tuple[str, int, int, int]] = {}
    for seen in sorted(run.history.sightings, key=lambda sighting: sighting.at):
        state, *counts = before.get(seen.job_id, ("", 0, 0, 0))
        now = (seen.fence, seen.last_event, 0 if _went_back(run, seen.job_id) else seen.epoch)
        if any(later < earlier for earlier, later in zip(counts, now, strict=True)):
            yield f"job {seen.job_id} went from fence, event, epoch {tuple(counts)} to {now}"
        if state in FINAL_KINDS and seen.state != state:
            yield f"job {seen.job_id} was {state} and became {seen.state}"
        before[seen.job_id] = (seen.state, *now)


def answers_stay_true(run: Run) -> Iterator[str]:
    """A later answer never knows less than an earlier one; a job that was answered as final stays as it is."""
    calls: dict[str, list[Call]] = {}
    for call in run.history.calls:
        if call.answer and "id" in call.answer and not call.is_replayed:
            calls.setdefault(call.answer["id"], []).append(call)
    for job_id, told in calls.items():
        told.sort(key=lambda call: call.began)
        job = run.stored.jobs.get(job_id)
        for index, later in enumerate(told):
            assert later.answer is not None
            for earlier in told[:index]:
                assert earlier.answer is not None
                if earlier.ended <= later.began and later.answer["attempts"] < earlier.answer["attempts"]:
                    yield f"job {job_id}: {earlier.answer} was answered before {later.answer}"
            state = later.answer["state"]
            if job is not None and state in FINAL_KINDS and state != job.state:
                yield f"job {job_id} was answered as {state} and is {job.state}"


def cancelled_jobs_have_no_model(run: Run) -> Iterator[str]:
    """A job that was ever said to be cancelled, by an answer or by its log, has no model."""
    cancelled = {answer["id"] for _, answer in run.history.answers() if answer["state"] == JobState.CANCELLED}
    cancelled |= {job.id for job in run.stored.jobs.values() if job.all_of(EventKind.CANCELLED)}
    for version in run.stored.versions:
        if version.job_id in cancelled:
            yield f"job {version.job_id} was cancelled and has version {version.version} of {version.name}"


def every_file_has_its_hash(run: Run) -> Iterator[str]:
    """What models, data sets, splits and saved states refer to is there, whole, with the hash that they name."""
    for sha256, owner in _references(run.stored):
        found = run.stored.blobs.get(sha256)
        if found is None:
            yield f"{owner} refers to the file {sha256}, which is not there"
        elif found != sha256:
            yield f"{owner} refers to the file {sha256}, whose bytes have the hash {found}"
    for sha256, (said, found_size) in run.stored.broken_sizes.items():
        yield f"the file {sha256} says {said} bytes and has {found_size}"


def no_file_is_left_over(run: Run) -> Iterator[str]:
    """Every stored file belongs to something, and jobs that succeeded or were cancelled have no saved states."""
    owned = {sha256 for sha256, _ in _references(run.stored)}
    for sha256 in run.stored.blobs.keys() - owned:
        yield f"the file {sha256} belongs to nothing"
    for job in run.stored.jobs.values():
        if job.state in (JobState.SUCCEEDED, JobState.CANCELLED) and job.checkpoints:
            yield f"job {job.id} is {job.state} and has {len(job.checkpoints)} saved states"


def twins_are_equal(run: Run) -> Iterator[str]:
    """What was disturbed has the weights and epochs of what was not, bit for bit, unless the model says why not."""
    for version, twin in twins(run):
        if version.warnings:
            continue
        if version.weights_sha256 != twin.weights_sha256:
            yield f"job {version.job_id} has weights {version.weights_sha256}, its twin {twin.weights_sha256}"
        if run.stored.jobs[version.job_id].curve != twin.curve:
            yield f"job {version.job_id} did not measure what its twin did"


def everything_is_answered(run: Run) -> Iterator[str]:
    """Every request is answered in the end, if it is sent again often enough."""
    for request in run.unanswered:
        yield f"nobody answered {request}"


def answers_are_as_promised(run: Run) -> Iterator[str]:
    """Nothing that the users ask for is wrong: it is done, conflicts with a job's state, or is to be asked again."""
    for call in run.history.calls:
        comes_back = call.status == UNAVAILABLE and call.retry_after is not None
        if call.status is not None and call.status >= 400 and call.status != CONFLICT and not comes_back:
            answer = f"{call.status}, Retry-After {call.retry_after}, {call.answer}"
            yield f"{call.method} {call.path} was answered with {answer}"


INVARIANTS: tuple[Callable[[Run], Iterator[str]], ...] = (
    nothing_accepted_is_lost,
    one_job_for_each_key,
    every_job_has_ended,
    no_job_failed,
    one_model_for_each_success,
    epochs_have_no_gap,
    events_have_no_gap,
    attempts_count_up,
    nothing_follows_the_end,
    time_goes_forward,
    answers_stay_true,
    cancelled_jobs_have_no_model,
    every_file_has_its_hash,
    no_file_is_left_over,
    twins_are_equal,
    everything_is_answered,
    answers_are_as_promised,
)


def twins(run: Run) -> Iterator[tuple[StoredVersion, Twin]]:
    """Return each model version with what its spec gives when nothing happens."""
    for version in run.stored.versions:
        job = run.stored.jobs.get(version.job_id)
        key = None if job is None else run.key_of(job)
        if key is not None and run.history.specs[key] in run.undisturbed:
            yield version, run.undisturbed[run.history.specs[key]]


def _references(stored: Snapshot) -> Iterator[tuple[str, str]]:
    for version in stored.versions:
        yield version.weights_sha256, f"version {version.version} of {version.name}"
        yield version.onnx_sha256, f"version {version.version} of {version.name}"
        if version.keras_sha256 is not None:
            yield version.keras_sha256, f"version {version.version} of {version.name}"
    for name, sha256 in stored.tables.items():
        yield sha256, f"data set {name}"
    for job in stored.jobs.values():
        if job.split_sha256 is not None:
            yield job.split_sha256, f"the split of job {job.id}"
        for sha256 in job.checkpoints:
            yield sha256, f"a saved state of job {job.id}"


def _went_back(run: Run, job_id: str) -> bool:
    job = run.stored.jobs.get(job_id)
    return job is not None and bool(job.all_of(EventKind.CHECKPOINT_DAMAGED))


def _shown(values: list[int] | list[str]) -> str:
    return str(values) if len(values) <= 12 else f"{values[:6]} ... {values[-6:]} ({len(values)} in all)"
