"""/webhooks: tell somebody else what happens; make, look at, change, test, delete, and see what was told."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service.api.dependencies import DatabaseDependency, KeyedDependency, PageDependency, ServicesDependency, answer_of
from service.api.gate.scopes import needs
from service.api.strict_bodies import StrictRoute
from service.api.views.base import PageView
from service.api.views.webhooks import DeliveryView, NewWebhookView, WebhookView
from service.domain.keys import Scope
from service.domain.webhooks import Delivery, WebhookChange, WebhookSpec
from service.use_cases import webhooks
from service.use_cases.idempotency import StoredAnswer
from service.use_cases.webhooks import NewWebhook

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=StrictRoute)

NumberParameter = Annotated[int, Path(ge=1, lt=2**63, description="The number of a delivery")]


@router.post("", status_code=201, response_model=NewWebhookView)
@needs(Scope.SUBMIT)
def create(
    spec: WebhookSpec, services: ServicesDependency, database: DatabaseDependency, keyed: KeyedDependency
) -> Response:
    """Tell an address of what happens to your jobs; the answer holds the secret, which is not shown again."""
    with services.running.serving(keyed):
        return answer_of(webhooks.create_webhook_once(database, spec, services.webhooks, keyed, _created))


@router.get("")
@needs(Scope.READ)
def list_webhooks(database: DatabaseDependency, page: PageDependency) -> PageView[WebhookView]:
    """List webhooks, newest first."""
    found = webhooks.list_webhooks(database, page)
    return PageView(items=[WebhookView.of(item) for item in found.items], next_page_token=found.next_token)


@router.get("/{webhook_id}")
@needs(Scope.READ)
def get_webhook(webhook_id: str, database: DatabaseDependency) -> WebhookView:
    """Read a webhook."""
    return WebhookView.of(webhooks.get_webhook(database, webhook_id))


@router.patch("/{webhook_id}")
@needs(Scope.SUBMIT)
def change(
    webhook_id: str, body: WebhookChange, services: ServicesDependency, database: DatabaseDependency
) -> WebhookView:
    """Tell it elsewhere, of something else, or nothing."""
    return WebhookView.of(webhooks.change_webhook(database, webhook_id, body, services.webhooks))


@router.post("/{webhook_id}/rotate-secret")
@needs(Scope.SUBMIT)
def rotate_secret(webhook_id: str, database: DatabaseDependency) -> NewWebhookView:
    """Give it a new secret; for a day, what is sent is signed with the one before as well."""
    made = webhooks.rotate_secret(database, webhook_id)
    return NewWebhookView.with_secret(made.webhook, made.secret)


@router.post("/{webhook_id}/test", status_code=202, response_model=DeliveryView)
@needs(Scope.SUBMIT)
def test(
    webhook_id: str, services: ServicesDependency, database: DatabaseDependency, keyed: KeyedDependency
) -> Response:
    """Send it a `webhook.test`; the delivery tells what came of that."""
    with services.running.serving(keyed):
        return answer_of(webhooks.test_webhook_once(database, webhook_id, keyed, _tested))


@router.get("/{webhook_id}/deliveries")
@needs(Scope.READ)
def list_deliveries(webhook_id: str, database: DatabaseDependency, page: PageDependency) -> PageView[DeliveryView]:
    """List what it was told in the last week, or is to be told, newest first."""
    found = webhooks.list_deliveries(database, webhook_id, page)
    return PageView(items=[DeliveryView.of(item) for item in found.items], next_page_token=found.next_token)


@router.post("/{webhook_id}/deliveries/{number}/retry", status_code=202)
@needs(Scope.SUBMIT)
def retry(webhook_id: str, number: NumberParameter, database: DatabaseDependency) -> DeliveryView:
    """Send something again that was sent, or given up."""
    return DeliveryView.of(webhooks.retry_delivery(database, webhook_id, number))


@router.delete("/{webhook_id}", status_code=204)
@needs(Scope.SUBMIT)
def delete(webhook_id: str, database: DatabaseDependency) -> None:
    """Delete a webhook; what waits to be sent to it is not sent."""
    webhooks.delete_webhook(database, webhook_id)


def _created(made: NewWebhook) -> StoredAnswer:
    view = NewWebhookView.with_secret(made.webhook, made.secret)
    return StoredAnswer(201, {"Location": f"/webhooks/{made.webhook.id}"}, view.model_dump_json().encode())


def _tested(delivery: Delivery) -> StoredAnswer:
    return StoredAnswer(202, {}, DeliveryView.of(delivery).model_dump_json().encode())
