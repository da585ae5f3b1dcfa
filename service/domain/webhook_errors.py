"""What can be wrong with a webhook, or with what is asked of one.

SelfnormError
├── InvalidWebhook (InvalidInput)   an address that is not sent to
├── NotFound                        UnknownWebhook, UnknownDelivery
└── Conflict                        TooManyWebhooks, WebhookIsDisabled, DeliveryIsPending
"""

from service.domain.errors import Conflict, InvalidInput, NotFound


class InvalidWebhook(InvalidInput):
    """An address that this service does not send to."""

    code = "invalid_webhook"


class UnknownWebhook(NotFound):
    """No webhook has this id."""

    code = "unknown_webhook"

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"no webhook has the id {webhook_id[:64]!r}; GET /webhooks lists them")


class UnknownDelivery(NotFound):
    """A webhook has no delivery of this number."""

    code = "unknown_delivery"

    def __init__(self, webhook_id: str, number: int) -> None:
        super().__init__(
            f"webhook {webhook_id} has no delivery {number}; GET /webhooks/{webhook_id}/deliveries lists them"
        )


class TooManyWebhooks(Conflict):
    """An owner has as many webhooks as one may have."""

    code = "too_many_webhooks"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"there are {most} webhooks, and more are not allowed; delete one, or let one take more events"
        )


class WebhookIsDisabled(Conflict):
    """Nothing is sent to a webhook that is switched off."""

    code = "webhook_is_disabled"

    def __init__(self, webhook_id: str) -> None:
        super().__init__(
            f'webhook {webhook_id} is switched off; PATCH it with {{"enabled": true}}, then nothing but that is sent '
            "which happens from then on, or is asked for again"
        )


class DeliveryIsPending(Conflict):
    """What is being sent, or waits for its next try, need not be asked for again."""

    code = "delivery_is_pending"

    def __init__(self, number: int) -> None:
        super().__init__(f"delivery {number} has not ended: it is tried again at the time that `next_at` names")
