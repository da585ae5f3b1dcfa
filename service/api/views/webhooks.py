"""What HTTP shows of webhooks and of what they were told."""

from datetime import datetime

from service.api.views.base import View
from service.domain.webhooks import Delivery, DeliveryState, Webhook


class WebhookView(View):
    """Where somebody wants to hear of what."""

    id: str
    url: str
    events: list[str]
    description: str | None
    enabled: bool
    disabled_because: str | None
    """Why the service itself stopped telling it."""
    failing_since: datetime | None
    """Null where the last thing sent was taken."""
    created_at: datetime

    @classmethod
    def of(cls, webhook: Webhook) -> "WebhookView":
        """Show a webhook."""
        return cls(
            id=webhook.id,
            url=webhook.url,
            events=list(webhook.events),
            description=webhook.description,
            enabled=webhook.enabled,
            disabled_because=webhook.disabled_because,
            failing_since=webhook.failing_since,
            created_at=webhook.created_at,
        )


class NewWebhookView(WebhookView):
    """A webhook with its secret, which is shown this once."""

    secret: str
    """`whsec_` and 32 bytes in base64; what is sent is signed with it."""

    @classmethod
    def with_secret(cls, webhook: Webhook, secret: str) -> "NewWebhookView":
        """Show a webhook and its secret."""
        return cls(**WebhookView.of(webhook).model_dump(), secret=secret)


class DeliveryView(View):
    """One thing that a webhook is told."""

    number: int
    message_id: str
    """The header `webhook-id`, the same at every try."""
    event: str
    state: DeliveryState
    attempts: int
    next_at: datetime | None
    """When it is tried, again or at all; null where it has ended."""
    status: int | None
    """Of the last answer."""
    error: str | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryView":
        """Show a delivery."""
        return cls(
            number=delivery.number,
            message_id=delivery.message_id,
            event=delivery.event,
            state=delivery.state,
            attempts=delivery.attempts,
            next_at=delivery.next_at if delivery.state == "pending" else None,
            status=delivery.status,
            error=delivery.error,
            created_at=delivery.created_at,
            finished_at=delivery.finished_at,
        )
