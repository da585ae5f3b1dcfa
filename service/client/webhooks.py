"""Webhooks: make, look at, change, test, delete; what they were told."""

from collections.abc import Sequence

from service.api.views.webhooks import DeliveryView, NewWebhookView, WebhookView
from service.client import answers
from service.client.methods import AsyncResource, Resource, awaited, listed, listed_async, sent
from service.client.requests import Reference, at, given, listing, with_json
from service.client.steps import Call, Exchange, Listing


def create(url: str, events: Sequence[str], *, description: str | None = None) -> Call[NewWebhookView]:
    """Tell an https address of some events; what comes back holds the secret, which is not shown again."""
    fields = {"url": url, "events": list(events), **given(description=description)}
    return Call(with_json("POST", "/webhooks", fields), answers.view(NewWebhookView), creates=True)


def get(webhook: Reference) -> Call[WebhookView]:
    """Read a webhook."""
    return Call(Exchange("GET", at("webhooks", webhook)), answers.view(WebhookView))


def list_all() -> Listing[WebhookView]:
    """List webhooks, newest first; they come as they are gone through."""
    return Listing(lambda token: Call(listing("/webhooks", token), answers.page(WebhookView)))


def change(
    webhook: Reference,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> Call[WebhookView]:
    """Tell it elsewhere, of something else, or nothing; what is None stays as it is."""
    fields = given(url=url, events=events if events is None else list(events), description=description, enabled=enabled)
    return Call(with_json("PATCH", at("webhooks", webhook), fields), answers.view(WebhookView))


def rotate_secret(webhook: Reference) -> Call[NewWebhookView]:
    """Give it a new secret; for a day, what is sent is signed with the one before as well."""
    return Call(Exchange("POST", at("webhooks", webhook, "rotate-secret")), answers.view(NewWebhookView))


def test(webhook: Reference) -> Call[DeliveryView]:
    """Send it a ``webhook.test``; the delivery tells what came of that."""
    return Call(Exchange("POST", at("webhooks", webhook, "test")), answers.view(DeliveryView), creates=True)


def deliveries(webhook: Reference) -> Listing[DeliveryView]:
    """List what it was told in the last week, or is to be told, newest first."""
    return Listing(
        lambda token: Call(listing(at("webhooks", webhook, "deliveries"), token), answers.page(DeliveryView))
    )


def retry(webhook: Reference, number: int) -> Call[DeliveryView]:
    """Send something again that was sent, or given up."""
    exchange = Exchange("POST", at("webhooks", webhook, "deliveries", number, "retry"))
    return Call(exchange, answers.view(DeliveryView))


def delete(webhook: Reference) -> Call[None]:
    """Delete a webhook; what waits to be sent to it is not sent."""
    return Call(Exchange("DELETE", at("webhooks", webhook)), answers.nothing, removes=True)


class Webhooks(Resource):
    """The webhooks of a service."""

    create = sent(create)
    get = sent(get)
    list = listed(list_all)
    change = sent(change)
    rotate_secret = sent(rotate_secret)
    test = sent(test)
    deliveries = listed(deliveries)
    retry = sent(retry)
    delete = sent(delete)


class AsyncWebhooks(AsyncResource):
    """The webhooks of a service, awaited."""

    create = awaited(create)
    get = awaited(get)
    list = listed_async(list_all)
    change = awaited(change)
    rotate_secret = awaited(rotate_secret)
    test = awaited(test)
    deliveries = listed_async(deliveries)
    retry = awaited(retry)
    delete = awaited(delete)
