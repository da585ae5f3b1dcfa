"""Jobs: submit, check, look at, wait for, cancel, pause, resume, try again, delete."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

from pydantic import BaseModel

from service.api.views.diagnostics import DiagnosticsView
from service.api.views.events import EventView
from service.api.views.jobs import EpochsView, JobView, SplitView, ValidatedView
from service.client import answers
from service.client.events import JobUpdate, watched, watched_async
from service.client.methods import AsyncResource, Resource, awaited, listed, listed_async, sent
from service.client.progress import Progress
from service.client.requests import Reference, at, fields_of, given, listing, with_json
from service.client.steps import Call, Exchange, Listing, Steps
from service.client.waiting import wait_for
from service.domain.jobs import JobState, Measure
from service.domain.spec import JobSpec, Task

PlotFormat = Literal["svg", "png"]


class TrainingFields(TypedDict, total=False):
    """The fields of a ``JobSpec`` beside the data, as keywords; what each is where it is left out is said there."""

    features: Sequence[str] | None
    task: Task | None
    network: BaseModel | Mapping[str, Any]
    training: BaseModel | Mapping[str, Any]
    preparation: BaseModel | Mapping[str, Any]
    model: str | None
    tags: Sequence[str]


class JobFields(TrainingFields, total=False):
    """The fields of a ``JobSpec``."""

    dataset: Reference
    target: str | None


def submit(spec: JobSpec | Mapping[str, Any] | None = None, /, **fields: Unpack[JobFields]) -> Call[JobView]:
    """Train a network: a ``JobSpec``, a mapping, or its fields by name, which take the place of the spec's own."""
    return Call(with_json("POST", "/jobs", fields_of(spec, fields)), answers.view(JobView), creates=True)


def validate(spec: JobSpec | Mapping[str, Any] | None = None, /, **fields: Unpack[JobFields]) -> Call[ValidatedView]:
    """Say what a job would be, what it would cost, and whether its network can normalize itself; make nothing."""
    exchange = with_json("POST", "/jobs", fields_of(spec, fields), params={"validate_only": "true"})
    return Call(exchange, answers.view(ValidatedView))


def get(job: Reference) -> Call[JobView]:
    """Read a job."""
    return Call(Exchange("GET", at("jobs", job)), answers.view(JobView))


def list_all(
    *, state: JobState | str | None = None, tag: str | None = None, model: str | None = None, dataset: str | None = None
) -> Listing[JobView]:
    """List jobs, newest first; they come as they are gone through."""
    wanted = given(state=state, tag=tag, model=model, dataset=dataset)
    return Listing(lambda token: Call(listing("/jobs", token, **wanted), answers.page(JobView)))


def wait(
    job: Reference, timeout_seconds: float | None = None, *, progress: Progress[JobView] = False
) -> Steps[JobView]:
    """Wait until a job has succeeded, and return it; ``progress`` shows a bar, or is called with the job.

    Raises:
        JobFailed, JobCancelled: it ended otherwise; the error has the job.
        JobTimeout: so many seconds were over before; it goes on.
    """
    return wait_for(at("jobs", job), JobView, "job", timeout_seconds, progress)


def cancel(job: Reference) -> Call[JobView]:
    """Ask that a job ends without a model."""
    return _told(job, "cancel")


def pause(job: Reference) -> Call[JobView]:
    """Ask that a job stops for a while; a running one is stored first, and is running until then."""
    return _told(job, "pause")


def resume(job: Reference) -> Call[JobView]:
    """Let a paused job wait in line again; it goes on where it was."""
    return _told(job, "resume")


def retry(job: Reference) -> Call[JobView]:
    """Try a failed job again, as a new job, which is returned."""
    return _told(job, "retry", creates=True)


def delete(job: Reference) -> Call[None]:
    """Delete a job that has ended; its model stays."""
    return Call(Exchange("DELETE", at("jobs", job)), answers.nothing, removes=True)


def metrics(job: Reference) -> Call[list[dict[str, Measure]]]:
    """Read every finished epoch: ``epoch``, its metrics, ``learning_rate`` and ``seconds``."""
    read = answers.view(EpochsView)
    return Call(Exchange("GET", at("jobs", job, "metrics")), lambda answer: read(answer).items)


def events(job: Reference) -> Listing[EventView]:
    """Read what has happened to a job so far, oldest first; ``watch`` goes on from there."""
    return Listing(
        lambda token: Call(
            listing(at("jobs", job, "events"), token),
            answers.page(EventView),
        )
    )


def diagnostics(job: Reference, *, histograms: bool = False) -> Call[DiagnosticsView]:
    """Read what the layers looked like after the epochs, the lint and the verdict."""
    params = {"histograms": "true"} if histograms else {}
    return Call(Exchange("GET", at("jobs", job, "diagnostics"), params), answers.view(DiagnosticsView))


def plot(
    job: Reference,
    name: str,
    format: PlotFormat = "svg",  # noqa: A002  # what users call it
    *,
    layer: int | None = None,
    metric: str | None = None,
) -> Call[bytes]:
    """Draw a training: ``learning_curves``, ``activations``, ``gradients``, ``weights``, ``residuals`` and so on."""
    exchange = Exchange("GET", at("jobs", job, "plots", f"{name}.{format}"), given(layer=layer, metric=metric))
    return Call(exchange, answers.content)


def split(job: Reference) -> Call[SplitView]:
    """Say how the rows were divided."""
    return Call(Exchange("GET", at("jobs", job, "split")), answers.view(SplitView))


def split_rows(job: Reference) -> Call[list[str]]:
    """Name the part of every row, in the table's order: ``training``, ``validation``, ``test`` or ``left_out``."""
    exchange = Exchange("GET", at("jobs", job, "split", "rows"))
    return Call(exchange, lambda answer: [line.partition(",")[2] for line in answer.text.splitlines()[1:]])


def _told(job: Reference, what: str, *, creates: bool = False) -> Call[JobView]:
    return Call(Exchange("POST", at("jobs", job, what)), answers.view(JobView), creates=creates)


class Jobs(Resource):
    """The trainings of a service."""

    submit = sent(submit)
    validate = sent(validate)
    get = sent(get)
    list = listed(list_all)
    wait = sent(wait)
    cancel = sent(cancel)
    pause = sent(pause)
    resume = sent(resume)
    retry = sent(retry)
    delete = sent(delete)
    metrics = sent(metrics)
    events = listed(events)
    diagnostics = sent(diagnostics)
    plot = sent(plot)
    split = sent(split)
    split_rows = sent(split_rows)

    def watch(self, job: Reference) -> Iterator[JobUpdate]:
        """Give what has happened to a job and what happens from now on, until it has ended, each once and in order.

        Broken connections and services that start again are survived.
        """
        return watched(self._sender, job)


class AsyncJobs(AsyncResource):
    """The trainings of a service, awaited."""

    submit = awaited(submit)
    validate = awaited(validate)
    get = awaited(get)
    list = listed_async(list_all)
    wait = awaited(wait)
    cancel = awaited(cancel)
    pause = awaited(pause)
    resume = awaited(resume)
    retry = awaited(retry)
    delete = awaited(delete)
    metrics = awaited(metrics)
    events = listed_async(events)
    diagnostics = awaited(diagnostics)
    plot = awaited(plot)
    split = awaited(split)
    split_rows = awaited(split_rows)

    def watch(self, job: Reference) -> AsyncIterator[JobUpdate]:
        """Give what has happened to a job and what happens from now on, until it has ended, each once and in order.

        Broken connections and services that start again are survived.
        """
        return watched_async(self._sender, job)
