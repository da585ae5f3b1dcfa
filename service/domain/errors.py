"""Every way in which a request or a training can go wrong, one class per fact; no status codes here.

SelfnormError
├── InvalidInput            the caller must change the request; carries every violation
│   ├── InvalidSpec             a job spec that does not fit its data or the limits
│   ├── InvalidRows             rows that a model cannot take
│   ├── NotTrainedWithDropout   a model that has no random samples to give
│   ├── InvalidTable            an uploaded file that is no table
│   └── IdempotencyKeyReused    a key under which another request came before
├── MalformedRequest        not even the form is right
│   └── InvalidPageToken, InvalidIdempotencyKey
├── NotFound                UnknownDataset, UnknownJob, UnknownPrediction, UnknownVersion, UnknownAlias, FileNotKept
│   └── UnknownModel            NoVersionLeft
├── Conflict                the thing exists, its state forbids it
│   ├── JobIsFinal, JobIsNotFinal, JobIsCancelling, JobDidNotFail, SplitNotDrawn, NoResult
│   ├── DatasetInUse, DatasetHasJobs, DatasetIsBuiltin, DatasetIsGone, DatasetNotHere
│   ├── ModelNotReady, VersionHasAliases, VersionInUse, NothingToGoBackTo
│   └── RequestStillRunning     the first request under this key has not been answered yet
├── TrainingFailed          a job ends as failed: training_errors.py
├── LeaseLost               another worker owns the job now; write nothing more
└── CorruptBlob             stored bytes do not have their hash
"""

from collections.abc import Sequence
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


class NotTrainedWithDropout(InvalidInput):
    """The uncertainty of a network is measured with the dropout that it was trained with; this one had none."""

    code = "not_trained_with_dropout"

    def __init__(self, name: str, version: int) -> None:
        detail = (
            f"cannot be had of version {version} of model {name!r}: its network was trained without dropout, so that "
            "every sample would be the same. Leave the field out, or train a network with "
            '"dropout" above 0, such as 0.05'
        )
        super().__init__([Violation("#/uncertainty", detail)])


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


class UnknownModel(NotFound):
    """No model has this name."""

    code = "unknown_model"

    def __init__(self, name: str) -> None:
        super().__init__(f"no model is named {name[:64]!r}; GET /models lists them")


class NoVersionLeft(UnknownModel):
    """The model is known, and every version of it has been deleted."""

    code = "no_version_left"

    def __init__(self, name: str) -> None:
        NotFound.__init__(
            self, f'every version of model {name!r} has been deleted; a new job with "model": "{name}" adds one'
        )


class UnknownVersion(NotFound):
    """The model has no such version."""

    code = "unknown_version"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"model {name!r} has no version {version}; GET /models/{name} lists its versions")


class UnknownAlias(NotFound):
    """The model has no such alias."""

    code = "unknown_alias"

    def __init__(self, name: str, alias: str, known: Sequence[str] = ()) -> None:
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        others = f"its aliases are {', '.join(known[:10])}{more}" if known else "it has none"
        super().__init__(
            f"model {name!r} has no alias {alias[:64]!r}; {others}. PUT /models/{name}/aliases/NAME sets one; "
            "a version's number, or neither of the two for the default, does as well"
        )


class FileNotKept(NotFound):
    """The version was registered before files of this kind were kept."""

    code = "file_not_kept"

    def __init__(self, name: str, version: int, file: str) -> None:
        super().__init__(
            f"version {version} of model {name!r} was registered before {file} was kept, and it cannot be made from "
            "what is stored; model.onnx and encoder.json are there. Train it again to have one"
        )


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


class ModelNotReady(Conflict):
    """The first version of this model is still being trained."""

    code = "model_not_ready"

    def __init__(self, name: str, job_id: str, state: str) -> None:
        super().__init__(
            f"model {name!r} has no version yet: its job {job_id} is {state}; wait with GET /jobs/{job_id}?wait=30"
        )


class VersionHasAliases(Conflict):
    """Aliases stand for this version, so it cannot be deleted."""

    code = "version_has_aliases"

    def __init__(self, name: str, version: int, aliases: Sequence[str]) -> None:
        super().__init__(
            f"version {version} of model {name!r} is what {', '.join(aliases[:10])} stands for; set the alias to "
            "another version or remove it, then delete the version"
        )


class VersionInUse(Conflict):
    """Predictions that have not ended need this version."""

    code = "version_in_use"

    def __init__(self, name: str, version: int, jobs: int) -> None:
        super().__init__(
            f"{jobs} unfinished prediction(s) need version {version} of model {name!r}; cancel them or wait, "
            "then delete it"
        )


class NothingToGoBackTo(Conflict):
    """The alias stood for no other version before, or for none that still exists."""

    code = "nothing_to_go_back_to"

    def __init__(self, name: str, alias: str, version: int | None) -> None:
        now = "has been removed" if version is None else f"stands for version {version}"
        super().__init__(
            f"alias {alias!r} of model {name!r} {now}, and no version that it stood for before is left; "
            f"PUT /models/{name}/aliases/{alias} sets it to any version"
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
