"""``selfnorm webhooks``: tell an address what happens."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import command, connected
from service.cli.options import ApiKey, AsJson, Limit, Url
from service.cli.printing import note, put, put_json, put_table
from service.cli.wording import age

if TYPE_CHECKING:
    from service.api.views.webhooks import DeliveryView, WebhookView

HEADINGS = ("id", "url", "events", "state", "age")
DELIVERY_HEADINGS = ("number", "event", "state", "tries", "answer", "age")

WebhookId = Annotated[str, typer.Argument(metavar="ID", help="The webhook's id.", show_default=False)]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def webhooks() -> None:
    """Tell an address of what happens to your jobs."""


@app.command()
def create(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="An https address, to which events are sent.")],
    events: Annotated[
        list[str],
        typer.Option("--event", metavar="EVENT", help="What to tell of, such as job.failed; may be repeated."),
    ],
    description: Annotated[str | None, typer.Option(help="What it is for.", show_default=False)] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Make a webhook and print its secret, this once: receivers know by it who sends."""
    with connected(url, api_key) as client:
        made = client.webhooks.create(address, events, description=description)
    if as_json:
        put_json(made.model_dump(mode="json"))
        return
    put(made.secret)
    note(f"webhook {made.id}; try it: {command(url, 'webhooks', 'test', made.id)}")


@app.command("list")
def list_(limit: Limit = 50, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """List webhooks, newest first."""
    with connected(url, api_key) as client:
        found = list(islice(client.webhooks.list(), limit))
    if as_json:
        put_json([each.model_dump(mode="json") for each in found])
    else:
        put_table(HEADINGS, map(_cells, found), empty="no webhooks")


@app.command("test")
def send_test(webhook: WebhookId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Send it something to see whether it arrives."""
    with connected(url, api_key) as client:
        sent = client.webhooks.test(webhook)
    if as_json:
        put_json(sent.model_dump(mode="json"))
    else:
        put(f"delivery {sent.number} is sent; what came of it: {command(url, 'webhooks', 'deliveries', webhook)}")


@app.command()
def deliveries(
    webhook: WebhookId, limit: Limit = 20, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None
) -> None:
    """List what it was told, or is to be told, newest first."""
    with connected(url, api_key) as client:
        found = list(islice(client.webhooks.deliveries(webhook), limit))
    if as_json:
        put_json([each.model_dump(mode="json") for each in found])
    else:
        put_table(DELIVERY_HEADINGS, map(_delivery_cells, found), empty="nothing so far")


@app.command()
def retry(
    webhook: WebhookId,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The delivery's number.", show_default=False)],
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Send something again that was sent, or given up."""
    with connected(url, api_key) as client:
        sent = client.webhooks.retry(webhook, number)
    if as_json:
        put_json(sent.model_dump(mode="json"))
    else:
        put(f"delivery {sent.number} is sent again")


@app.command()
def enable(webhook: WebhookId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Tell it of what happens from now on."""
    _switch(webhook, as_json, url, api_key, enabled=True)


@app.command()
def disable(webhook: WebhookId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Tell it nothing; what waits to be sent to it is given up."""
    _switch(webhook, as_json, url, api_key, enabled=False)


@app.command()
def rotate_secret(webhook: WebhookId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Give it a new secret and print it, this once; for a day the one before signs as well."""
    with connected(url, api_key) as client:
        made = client.webhooks.rotate_secret(webhook)
    if as_json:
        put_json(made.model_dump(mode="json"))
    else:
        put(made.secret)


@app.command("rm")
def remove(webhook: WebhookId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Remove one; what waits to be sent to it is not sent."""
    with connected(url, api_key) as client:
        client.webhooks.delete(webhook)
    if as_json:
        put_json({"id": webhook, "removed": True})
    else:
        put(f"removed {webhook}")


def _switch(webhook: str, as_json: bool, url: str | None, api_key: str | None, *, enabled: bool) -> None:
    with connected(url, api_key) as client:
        changed = client.webhooks.change(webhook, enabled=enabled)
    if as_json:
        put_json(changed.model_dump(mode="json"))
    else:
        put(f"{changed.id} is {'on' if changed.enabled else 'off'}")


def _cells(webhook: "WebhookView") -> list[object]:
    state = "on" if webhook.enabled else f"off: {webhook.disabled_because}" if webhook.disabled_because else "off"
    failing = f", failing since {age(webhook.failing_since)}" if webhook.enabled and webhook.failing_since else ""
    return [webhook.id, webhook.url, ", ".join(webhook.events), state + failing, age(webhook.created_at)]


def _delivery_cells(delivery: "DeliveryView") -> list[object]:
    answer = delivery.error or delivery.status
    return [delivery.number, delivery.event, delivery.state, delivery.attempts, answer, age(delivery.created_at)]
