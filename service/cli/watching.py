"""``selfnorm watch``: a job or a comparison until it has ended; leaving it leaves it running."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.comparison_reports import put_comparison
from service.cli.completing import complete_job
from service.cli.connection import connected
from service.cli.following import follow_comparison, follow_job, leaving
from service.cli.options import ApiKey, Url
from service.cli.printing import put_json
from service.cli.reports import put_end, status_of

if TYPE_CHECKING:
    from service.api.views.comparisons import ComparisonView
    from service.api.views.jobs import JobView
    from service.client import Client
    from service.domain.jobs import JobState

WatchedId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The id of a job or a comparison.", autocompletion=complete_job, show_default=False
    ),
]
AsLines = Annotated[
    bool, typer.Option("--json", help="Print every event as a line of JSON, and nothing else on stdout.")
]


def watch(watched_id: WatchedId, as_json: AsLines = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Watch a job or a comparison until it has ended; Ctrl-C leaves it running."""
    from service.client import NotFound

    with connected(url, api_key) as client:
        try:
            job = client.jobs.get(watched_id)
        except NotFound as unknown:
            try:
                comparison = client.comparisons.get(watched_id)
            except NotFound:
                raise unknown from None
            state = watch_comparison(client, comparison, url, as_json).state
        else:
            state = _watch_events(client, job, url) if as_json else watch_job(client, job, url).state
    raise typer.Exit(status_of(state))


def watch_job(client: "Client", job: "JobView", url: str | None, *, as_json: bool = False) -> "JobView":
    """Show a job until it has ended, and return it; words go to stderr where stdout is for JSON."""
    if as_json:
        return follow_job(client, job, sys.stderr, url)
    ended = follow_job(client, job, sys.stdout, url)
    put_end(client, ended, url)
    return ended


def watch_comparison(client: "Client", found: "ComparisonView", url: str | None, as_json: bool) -> "ComparisonView":
    """Show a comparison until it has ended, then its result, and return it."""
    ended = follow_comparison(client, found, sys.stderr if as_json else sys.stdout, url)
    if as_json:
        put_json(ended.model_dump(mode="json"))
    else:
        put_comparison(ended)
    return ended


def _watch_events(client: "Client", job: "JobView", url: str | None) -> "JobState":
    """Print every event of a job as it comes, and return the state that it ended in."""
    with leaving(job.id, url):
        for update in client.jobs.watch(job.id):
            put_json(update.event.model_dump(mode="json"), as_line=True)
    return client.jobs.get(job.id).state
