"""Webhooks as their owners see them: made, read, listed, changed, deleted. Secrets stay inside."""

from typing import Any

from sqlalchemy import Connection, RowMapping, Update, delete, func, insert, select, update

from service.domain.webhook_errors import TooManyWebhooks, UnknownWebhook
from service.domain.webhooks import BOTH_SECRETS_SECONDS, Webhook, WebhookSpec
from service.storage import deliveries, pages
from service.storage.database import database_time
from service.storage.owners import mine, owner_of
from service.storage.tables import webhooks

_SHOWN = [column for column in webhooks.c if column.name not in ("secret", "previous_secret", "previous_until")]


def add(connection: Connection, webhook_id: str, spec: WebhookSpec, secret: str, most: int) -> None:
    """Store a new webhook; an owner may have ``most`` of them, and a few more where several are made at once.

    Raises:
        TooManyWebhooks: there are so many already.
    """
    query = select(func.count()).select_from(webhooks).where(mine(connection, webhooks))
    if connection.execute(query).scalar_one() >= most:
        raise TooManyWebhooks(most)
    values: dict[str, Any] = {"url": spec.url, "events": _unique(spec.events), "description": spec.description}
    owner = owner_of(connection)
    connection.execute(insert(webhooks).values(id=webhook_id, owner=owner, enabled=True, secret=secret, **values))


def get(connection: Connection, webhook_id: str) -> Webhook:
    """Read one webhook.

    Raises:
        UnknownWebhook: there is none with this id.
    """
    query = select(*_SHOWN).where(mine(connection, webhooks), webhooks.c.id == webhook_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise UnknownWebhook(webhook_id)
    return _webhook(row)


def list_page(connection: Connection, page: pages.PageRequest) -> pages.Page[Webhook]:
    """List webhooks, newest first."""
    query = select(*_SHOWN).where(mine(connection, webhooks))
    rows, token = pages.fetch(connection, query, webhooks.c.number, page)
    return pages.Page([_webhook(row) for row in rows], token)


def change(connection: Connection, webhook_id: str, values: dict[str, Any]) -> None:
    """Store other values; one that is switched off is told nothing, nor what waited for it.

    Raises:
        UnknownWebhook: there is none with this id.
    """
    if "events" in values:
        values = {**values, "events": _unique(values["events"])}
    if "enabled" in values:
        values = {**values, "disabled_because": None, "failing_since": None}
    _change(connection, webhook_id, _mine(connection, webhook_id).values(**values))
    if values.get("enabled") is False:
        deliveries.give_up(connection, deliveries.are_of(connection, webhook_id), "the webhook was switched off")


def rotate(connection: Connection, webhook_id: str, secret: str) -> None:
    """Store another secret; the one before signs as well for a day.

    Raises:
        UnknownWebhook: there is none with this id.
    """
    until = database_time(BOTH_SECRETS_SECONDS)
    before = {"previous_secret": webhooks.c.secret, "previous_until": until}
    _change(connection, webhook_id, _mine(connection, webhook_id).values(secret=secret, **before))


def remove(connection: Connection, webhook_id: str) -> None:
    """Delete a webhook with all that it was or was to be told.

    Raises:
        UnknownWebhook: there is none with this id.
    """
    gone = delete(webhooks).where(mine(connection, webhooks), webhooks.c.id == webhook_id)
    if connection.execute(gone).rowcount == 0:
        raise UnknownWebhook(webhook_id)


def _mine(connection: Connection, webhook_id: str) -> Update:
    return update(webhooks).where(mine(connection, webhooks), webhooks.c.id == webhook_id)


def _change(connection: Connection, webhook_id: str, statement: Update) -> None:
    if connection.execute(statement).rowcount == 0:
        raise UnknownWebhook(webhook_id)


def _unique(events: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(events))


def _webhook(row: RowMapping) -> Webhook:
    return Webhook(
        id=row["id"],
        number=row["number"],
        url=row["url"],
        events=tuple(row["events"]),
        description=row["description"],
        enabled=row["enabled"],
        disabled_because=row["disabled_because"],
        failing_since=row["failing_since"],
        created_at=row["created_at"],
    )
