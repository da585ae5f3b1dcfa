"""Webhooks: make, look at, change, test, delete; what they were told, and telling it again."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from service.domain.audit import Action
from service.domain.errors import Violation
from service.domain.webhook_errors import InvalidWebhook
from service.domain.webhooks import (
    MAX_WEBHOOKS,
    TEST,
    Delivery,
    Webhook,
    WebhookChange,
    WebhookSpec,
    check_url,
    new_secret,
)
from service.outbound import NotPublic, Outbound
from service.storage import audit, deliveries, pages, webhooks
from service.storage.database import Connection, Database
from service.use_cases.idempotency import KeyedRequest, Outcome, StoredAnswer, once

PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """What this service allows of webhooks."""

    outbound: Outbound = field(default_factory=Outbound)
    most: int = MAX_WEBHOOKS
    """So many may an owner have."""

    def check(self, url: str) -> None:
        """Refuse an address to which nothing would be sent; a name that cannot be looked up now is taken.

        Raises:
            InvalidWebhook: it is not a plain https address, or not a public one.
        """
        check_url(url, allow_http=self.outbound.allow_private)
        parts = urlsplit(url)
        try:
            self.outbound.check(parts.hostname or "", parts.port or PORTS[parts.scheme])
        except NotPublic as error:
            raise InvalidWebhook([Violation("#/url", str(error))]) from None


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook with its secret, which is shown this once."""

    webhook: Webhook
    secret: str = field(repr=False)


def create_webhook_once(
    database: Database,
    spec: WebhookSpec,
    rules: WebhookRules,
    request: KeyedRequest | None,
    answer: Callable[[NewWebhook], StoredAnswer],
) -> Outcome[NewWebhook]:
    """Store a webhook with a new secret, unless this request has been answered before.

    The stored answer holds the secret for a week, beside the webhook, which holds it for good.

    Raises:
        InvalidWebhook: its address is not one that is sent to.
        TooManyWebhooks: there are as many as one may have.
        IdempotencyKeyReused: another request came under this key.
    """
    rules.check(spec.url)  # nobody waits for a lock meanwhile

    def create(connection: Connection) -> NewWebhook:
        webhook_id, secret = secrets.token_hex(10), new_secret()
        webhooks.add(connection, webhook_id, spec, secret, rules.most)
        audit.record(connection, Action.WEBHOOK_CREATED, webhook_id, **_told(spec.model_dump(exclude_none=True)))
        return NewWebhook(webhooks.get(connection, webhook_id), secret)

    return once(database, request, create, answer)


def get_webhook(database: Database, webhook_id: str) -> Webhook:
    """Read one webhook."""
    with database.read() as connection:
        return webhooks.get(connection, webhook_id)


def list_webhooks(database: Database, page: pages.PageRequest) -> pages.Page[Webhook]:
    """List webhooks, newest first."""
    with database.read() as connection:
        return webhooks.list_page(connection, page)


def change_webhook(database: Database, webhook_id: str, change: WebhookChange, rules: WebhookRules) -> Webhook:
    """Tell it elsewhere, of something else, or nothing.

    Raises:
        UnknownWebhook: there is none with this id.
        InvalidWebhook: its address is not one that is sent to.
    """
    values = change.model_dump(exclude_none=True)
    if change.url is not None:
        rules.check(change.url)
    with database.write() as connection:
        if values:
            webhooks.change(connection, webhook_id, values)
        audit.record(connection, Action.WEBHOOK_CHANGED, webhook_id, **_told(values))
        return webhooks.get(connection, webhook_id)


def rotate_secret(database: Database, webhook_id: str) -> NewWebhook:
    """Give a webhook a new secret; for a day, what is sent is signed with the one before as well.

    Raises:
        UnknownWebhook: there is none with this id.
    """
    secret = new_secret()
    with database.write() as connection:
        webhooks.rotate(connection, webhook_id, secret)
        audit.record(connection, Action.WEBHOOK_SECRET_ROTATED, webhook_id)
        return NewWebhook(webhooks.get(connection, webhook_id), secret)


def test_webhook_once(
    database: Database, webhook_id: str, request: KeyedRequest | None, answer: Callable[[Delivery], StoredAnswer]
) -> Outcome[Delivery]:
    """Tell a webhook that it is being tried, unless this request has been answered before.

    Raises:
        UnknownWebhook: there is none with this id.
        WebhookIsDisabled: it is switched off.
        TooManyDeliveries: much waits to be sent to it.
        IdempotencyKeyReused: another request came under this key.
    """

    def test(connection: Connection) -> Delivery:
        found = webhooks.get(connection, webhook_id)
        deliveries.check_enabled(connection, webhook_id)
        deliveries.check_room(connection, webhook_id)
        data = {"webhook": webhook_id, "description": found.description, "events": list(found.events)}
        deliveries.add(connection, [webhook_id], TEST, data)
        audit.record(connection, Action.WEBHOOK_TESTED, webhook_id)
        return deliveries.newest(connection, webhook_id)

    return once(database, request, test, answer)


def list_deliveries(database: Database, webhook_id: str, page: pages.PageRequest) -> pages.Page[Delivery]:
    """List what a webhook was told, or is to be told, newest first.

    Raises:
        UnknownWebhook: there is none with this id.
    """
    with database.read() as connection:
        webhooks.get(connection, webhook_id)
        return deliveries.list_page(connection, webhook_id, page)


def retry_delivery(database: Database, webhook_id: str, number: int) -> Delivery:
    """Let something be sent again that was sent, or given up.

    Raises:
        UnknownWebhook, UnknownDelivery: there is no such thing.
        WebhookIsDisabled: it is switched off.
        TooManyDeliveries: much waits to be sent to it.
        DeliveryIsPending: it is being sent, or waits for its next try.
    """
    with database.write() as connection:
        webhooks.get(connection, webhook_id)
        deliveries.check_enabled(connection, webhook_id)
        deliveries.check_room(connection, webhook_id)
        again = deliveries.retry(connection, webhook_id, number)
        audit.record(connection, Action.WEBHOOK_RETRIED, webhook_id, delivery=number)
        return again


def delete_webhook(database: Database, webhook_id: str) -> None:
    """Delete a webhook; what waits to be sent to it is not sent.

    Raises:
        UnknownWebhook: there is none with this id.
    """
    with database.write() as connection:
        webhooks.remove(connection, webhook_id)
        audit.record(connection, Action.WEBHOOK_DELETED, webhook_id)


def _told(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the audit log is told of a webhook: of its address only the host, for the rest may hold a secret."""
    host = {"host": urlsplit(values["url"]).hostname} if "url" in values else {}
    return host | {name: value for name, value in values.items() if name != "url"}
