"""Commands about jobs: list them, look at one, and tell one to stop, to wait or to go on."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import command, connected
from service.cli.options import ApiKey, AsJson, JobId, Limit, Url
from service.cli.printing import put, put_facts, put_json, put_table
from service.cli.reports import facts_of
from service.cli.wording import age, measure

if TYPE_CHECKING:
    from service.api.views.comparisons import ComparisonView
    from service.api.views.jobs import JobView
    from service.client import Client

HEADINGS = ("id", "state", "data set", "model", "epoch", "val_loss", "test", "age", "tags")
TEST_METRICS = ("accuracy", "r2")


def jobs(
    state: Annotated[str | None, typer.Option(help="Only those in this state, such as running.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those that train this model.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only those on this data set.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """List jobs, newest first."""
    with connected(url, api_key) as client:
        found = list(islice(client.jobs.list(state=state, tag=tag, model=model, dataset=dataset), limit))
    if as_json:
        put_json([job.model_dump(mode="json") for job in found])
        return
    put_table(HEADINGS, map(_cells, found), empty=f"no jobs; train one: {command(url, 'train', 'iris')}")


def job(
    job_id: JobId,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Show a job: what was asked, how far it is, what came of it."""
    with connected(url, api_key) as client:
        found = client.jobs.get(job_id)
    if as_json:
        put_json(found.model_dump(mode="json"))
    else:
        put_facts(facts_of(found))


def cancel(job_id: JobId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """End a job, or a comparison with all its jobs, without a model."""
    with connected(url, api_key) as client:
        found = _cancelled(client, job_id)
    _put_state(found, as_json)


def pause(job_id: JobId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Stop a job for a while; a running one is stored first."""
    _tell(lambda client: client.jobs.pause(job_id), as_json, url, api_key)


def resume(job_id: JobId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Let a paused job go on where it was."""
    _tell(lambda client: client.jobs.resume(job_id), as_json, url, api_key)


def retry(job_id: JobId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Try a failed job again, as a new job; its id is printed."""
    _tell(lambda client: client.jobs.retry(job_id), as_json, url, api_key)


def _cancelled(client: "Client", job_id: str) -> "JobView | ComparisonView":
    from service.client import NotFound

    try:
        return client.jobs.cancel(job_id)
    except NotFound as unknown:
        try:
            return client.comparisons.cancel(job_id)
        except NotFound:
            raise unknown from None


def _tell(tell: "Callable[[Client], JobView]", as_json: bool, url: str | None, api_key: str | None) -> None:
    with connected(url, api_key) as client:
        found = tell(client)
    _put_state(found, as_json)


def _put_state(found: "JobView | ComparisonView", as_json: bool) -> None:
    if as_json:
        put_json(found.model_dump(mode="json"))
    else:
        pausing = ", will pause as soon as it is stored" if getattr(found, "pause_requested", False) else ""
        put(f"{found.id}  {found.state}{pausing}")


def _cells(job: "JobView") -> Iterator[object]:
    best, test = job.metrics.best or {}, job.metrics.test or {}
    name = next((name for name in TEST_METRICS if name in test), None)
    yield job.id
    yield job.state
    yield job.spec.dataset
    yield job.spec.model
    yield f"{job.progress.epoch}/{job.progress.epochs}"
    yield measure(best.get("val_loss"))
    yield "" if name is None else f"{name} {measure(test[name])}"
    yield age(job.created_at)
    yield ", ".join(job.tags)
