"""Every way in which a request or a training can go wrong, one class per fact; no status codes here.

What is said of models and their versions is in ``model_errors``, of comparisons and plots in ``comparison_errors``,
why a job fails in ``training_errors``.

SelfnormError
├── InvalidInput            the caller must change the request; carries every violation
│   ├── InvalidSpec             a job spec that does not fit its data or the limits
│   ├── InvalidRows             rows that a model cannot take
│   ├── InvalidTable            an uploaded file that is no table
│   └── IdempotencyKeyReused    a key under which another request came before
├── MalformedRequest        not even the form is right
│   └── InvalidPageToken, InvalidIdempotencyKey
├── NotFound                UnknownDataset, UnknownJob, UnknownPrediction
├── Conflict                the thing exists, its state forbids it
│   ├── JobIsFinal, JobIsNotFinal, JobIsCancelling, JobDidNotFail, SplitNotDrawn, NoResult
│   ├── DatasetInUse, DatasetHasJobs, DatasetIsBuiltin, DatasetIsGone, DatasetNotHere
│   └── RequestStillRunning     the first request under this key has not been answered yet
├── TrainingFailed          a job ends as failed: training_errors.py
├── LeaseLost               another worker owns the job now; write nothing more
└── CorruptBlob             stored bytes do not have their hash
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong: where (a JSON pointer such as ``#/network/units``) and what."""

    pointer: str
    detail: str


class SelfnormError(Exception):
    """Base of every error that this project raises on purpose."""

    code: ClassVar[str] = "error"
    """A stable word for programs."""


class InvalidInput(SelfnormError):
    """Well formed but not acceptable."""

    code = "invalid"

    def __init__(self, violations: list[Violation]) -> None:
        self.violations = violations
        super().__init__("; ".join(f"{item.pointer}: {item.detail}" for item in violations))


class InvalidSpec(InvalidInput):
    """A job spec that does not fit its data set or the limits of this service."""

    code = "invalid_spec"


class InvalidRows(InvalidInput):
    """Rows that a model cannot take."""

    code = "invalid_rows"


class InvalidTable(InvalidInput):
    """An uploaded file that cannot be read as a table."""

    code = "invalid_table"


class IdempotencyKeyReused(InvalidInput):
    """Another request came under this key before."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        detail = (
            f"the key {key[:64]!r} came before with another request, that is with another method, address, type or "
            "body; repeat that request as it was, or give this one a key of its own"
        )
        super().__init__([Violation("header/Idempotency-Key", detail)])


class MalformedRequest(SelfnormError):
    """The request has not the form that the contract describes."""

    code = "malformed_request"


class InvalidPageToken(MalformedRequest):
    """A page token that this service did not give out."""

    code = "invalid_page_token"

    def __init__(self) -> None:
        super().__init__("page_token is not one that this service gave; take next_page_token from the page before")


class InvalidIdempotencyKey(MalformedRequest):
    """A key that cannot be one, or several."""

    code = "invalid_idempotency_key"

    def __init__(self, keys: list[str]) -> None:
        got = f"{keys[0][:64]!r}, {len(keys[0])} characters" if len(keys) == 1 else f"{len(keys)} of them"
        super().__init__(
            f"the header Idempotency-Key must come once, with 1 to 255 printable ASCII characters; got {got}. "
            "Take a random one, a UUID for example"
        )


class NotFound(SelfnormError):
    """Nothing of that kind under that name."""

    code = "not_found"


class UnknownDataset(NotFound):
    """No data set has this id."""

    code = "unknown_dataset"

    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"no data set has the id {dataset_id[:64]!r}; GET /datasets lists them")


class UnknownJob(NotFound):
    """No job has this id."""

    code = "unknown_job"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id[:64]!r}; GET /jobs lists them")


class UnknownPrediction(NotFound):
    """No prediction over a data set has this id."""

    code = "unknown_prediction"

    def __init__(self, prediction_id: str) -> None:
        super().__init__(f"no prediction has the id {prediction_id[:64]!r}; GET /predictions lists them")


class Conflict(SelfnormError):
    """The state of the thing forbids what was asked."""

    code = "conflict"


class JobIsFinal(Conflict):
    """A job that has ended cannot be changed any more."""

    code = "job_is_final"

    def __init__(self, job_id: str, state: str, wanted: str) -> None:
        super().__init__(f"job {job_id} has ended as {state}; only a job that has not ended can be {wanted}")


class JobIsCancelling(Conflict):
    """A job that is about to be cancelled can be neither paused nor resumed."""

    code = "job_is_cancelling"

    def __init__(self, job_id: str, wanted: str) -> None:
        super().__init__(f"somebody asked to cancel job {job_id}, so it cannot be {wanted}")


class JobDidNotFail(Conflict):
    """Only a failed job can be tried again."""

    code = "job_did_not_fail"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"job {job_id} is {state}; only a failed job can be tried again. POST its spec to /jobs instead"
        )


class JobIsNotFinal(Conflict):
    """A job that still runs cannot be deleted."""

    code = "job_is_not_final"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id} is {state}; cancel it first, then delete it")


class SplitNotDrawn(Conflict):
    """No worker has begun with this job, so no row has a part yet."""

    code = "split_not_drawn"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"job {job_id} is {state} and has no stored split: rows are divided when a worker begins with them"
        )


class NoResult(Conflict):
    """A prediction has no result: it has not ended, or not well."""

    code = "no_result"

    def __init__(self, prediction_id: str, state: str, *, is_final: bool) -> None:
        advice = "read it to see why" if is_final else f"wait with GET /predictions/{prediction_id}?wait=30"
        super().__init__(f"prediction {prediction_id} is {state} and has no result; {advice}")


class DatasetInUse(Conflict):
    """Jobs that have not ended need this data set."""

    code = "dataset_in_use"

    def __init__(self, dataset_id: str, jobs: int) -> None:
        super().__init__(f"{jobs} unfinished job(s) need data set {dataset_id}; cancel them or wait, then delete it")


class DatasetHasJobs(Conflict):
    """Jobs were made on this data set, so that its columns must stay what those jobs took them for."""

    code = "dataset_has_jobs"

    def __init__(self, dataset_id: str) -> None:
        super().__init__(
            f"there are jobs on data set {dataset_id}, so the kinds of its columns stay as they are; "
            "upload the table again with other kinds, or delete those jobs first"
        )


class DatasetIsBuiltin(Conflict):
    """Built-in data sets belong to the service."""

    code = "dataset_is_builtin"

    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"{dataset_id} is built in and cannot be changed or deleted; only uploads can")


class DatasetIsGone(Conflict):
    """A job cannot be tried again without its data set."""

    code = "dataset_is_gone"

    def __init__(self, job_id: str, dataset_id: str) -> None:
        super().__init__(f"job {job_id} cannot be tried again: its data set {dataset_id} has been deleted")


class DatasetNotHere(Conflict):
    """The rows of this built-in data set are not on this machine."""

    code = "dataset_not_here"

    def __init__(self, dataset_id: str) -> None:
        super().__init__(
            f"the rows of {dataset_id} are not stored here: a worker downloads them when a job needs them. "
            "Set SELFNORM_DATASETS_DIR to a folder that holds its files to read them from there"
        )


class RequestStillRunning(Conflict):
    """The first request under this key has not been answered yet."""

    code = "request_still_running"

    def __init__(self, key: str) -> None:
        super().__init__(f"the request under the key {key[:64]!r} is still being served; repeat it in a second")


class LeaseLost(SelfnormError):
    """Another worker owns the job now."""

    code = "lease_lost"

    def __init__(self, job_id: str, fence: int) -> None:
        super().__init__(f"job {job_id} is no longer held under fence {fence}")


class CorruptBlob(SelfnormError):
    """Stored bytes are missing or do not have their hash."""

    code = "corrupt_blob"

    def __init__(self, sha256: str) -> None:
        super().__init__(f"the stored bytes {sha256} are missing or damaged; restore the database from a backup")
