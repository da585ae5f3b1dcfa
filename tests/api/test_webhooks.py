"""Webhooks over HTTP: what they are told is what the API shows, and their secrets are shown once."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from standardwebhooks import Webhook as Verifier

from service.api.app import create_app
from service.api.services import Services
from service.domain.webhooks import EVENT_NAMES
from service.outbound import Outbound
from service.storage.database import Database
from service.use_cases.webhooks import WebhookRules
from tests.api.support import problem
from tests.receiver import Receiver, receiving

PUBLIC = "https://93.184.216.34/hooks"


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """One kind of database does: what both must do is in test_webhook_events and tests/integration."""
    return sqlite_database


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def near(services: Services) -> Iterator[TestClient]:
    """A service that may send to this machine."""
    rules = WebhookRules(Outbound(allow_private=True), most=3)
    with TestClient(create_app(replace(services, webhooks=rules)), raise_server_exceptions=False) as opened:
        yield opened


def made(client: TestClient, url: str = PUBLIC, *events: str, **headers: str) -> dict[str, Any]:
    answer = client.post("/webhooks", json={"url": url, "events": events or ["job.failed"]}, headers=headers)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/webhooks/{body['id']}"
    return body


def test_secret_is_shown_when_it_is_made_and_nowhere_else(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = made(client)
    path = f"/webhooks/{body['id']}"
    secret = body.pop("secret")
    assert secret.startswith("whsec_")
    assert client.get(path).json() == body
    texts = [client.get(path).text, client.get("/webhooks").text, client.patch(path, json={"enabled": True}).text]
    texts.append(client.post(f"{path}/test").text)
    texts += [client.get(f"{path}/deliveries").text, client.get("/audit").text, client.get("/openapi.json").text]
    new = client.post(f"{path}/rotate-secret").json()["secret"]
    assert new != secret
    for text in (*texts, caplog.text):
        assert secret.removeprefix("whsec_") not in text
        assert new.removeprefix("whsec_") not in text


def test_audit_log_names_the_host_and_not_the_address_which_may_hold_a_secret(client: TestClient) -> None:
    body = made(client, f"{PUBLIC}/T0K3N")
    client.patch(f"/webhooks/{body['id']}", json={"url": f"{PUBLIC}/T0K3N2"})
    changed, created = client.get("/audit").json()["items"]
    assert created["details"] == {"host": "93.184.216.34", "events": ["job.failed"]}
    assert changed["details"] == {"host": "93.184.216.34"}


def test_one_key_makes_one_webhook_and_shows_its_secret_again(client: TestClient) -> None:
    first = made(client, **{"Idempotency-Key": "k"})
    again = client.post("/webhooks", json={"url": PUBLIC, "events": ["job.failed"]}, headers={"Idempotency-Key": "k"})
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first
    assert len(client.get("/webhooks").json()["items"]) == 1


def test_a_webhook_is_changed_field_by_field_and_deleted(client: TestClient) -> None:
    body = made(client)
    path = f"/webhooks/{body['id']}"
    changed = client.patch(path, json={"events": ["job.started", "job.started"], "description": "mine"}).json()
    assert (changed["events"], changed["description"], changed["url"]) == (["job.started"], "mine", PUBLIC)
    assert client.patch(path, json={"enabled": False}).json()["enabled"] is False
    problem(client.post(f"{path}/test"), 409)
    assert client.delete(path).status_code == 204
    for answer in (
        client.get(path),
        client.delete(path),
        client.get(f"{path}/deliveries"),
        client.post(f"{path}/test"),
    ):
        assert problem(answer, 404)["code"] == "unknown_webhook"


def test_unknown_events_are_refused_with_those_that_there_are(client: TestClient) -> None:
    body = problem(client.post("/webhooks", json={"url": PUBLIC, "events": ["job.done"]}), 422)
    assert [violation["pointer"] for violation in body["errors"]] == ["#/events/0"]
    for name in EVENT_NAMES:
        assert name in body["errors"][0]["detail"]
    assert "job.done" in body["errors"][0]["detail"]


def test_private_addresses_are_refused_when_they_are_named(client: TestClient) -> None:
    path = f"/webhooks/{made(client)['id']}"
    for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:10.0.0.1]", "10.1.1.1:8443"):
        asked = {"url": f"https://{host}/", "events": ["job.failed"]}
        body = problem(client.post("/webhooks", json=asked), 422)
        assert (body["code"], body["errors"][0]["pointer"]) == ("invalid_webhook", "#/url"), host
        assert "not public" in body["detail"], host
        assert problem(client.patch(path, json={"url": asked["url"]}), 422)["code"] == "invalid_webhook"
    assert client.get(path).json()["url"] == PUBLIC


def test_an_owner_has_so_many_and_no_more(near: TestClient, receiver: Receiver) -> None:
    for _ in range(3):
        made(near, receiver.url)
    answer = near.post("/webhooks", json={"url": receiver.url, "events": ["job.failed"]})
    assert problem(answer, 409)["code"] == "too_many_webhooks"


def test_a_test_is_told_and_can_be_told_again(near: TestClient, receiver: Receiver) -> None:
    body = made(near, receiver.url)
    path = f"/webhooks/{body['id']}"
    delivery = near.post(f"{path}/test").json()
    assert (delivery["event"], delivery["state"]) == ("webhook.test", "pending")
    [taken] = receiver.wait_for(1)
    assert Verifier(body["secret"]).verify(taken.body, taken.headers)["data"]["webhook"] == body["id"]
    retry = f"{path}/deliveries/{delivery['number']}/retry"
    while (answer := near.post(retry)).status_code == 409:  # until it is marked as delivered
        assert problem(answer, 409)["code"] == "delivery_is_pending"
    assert answer.status_code == 202
    assert [one.headers["webhook-id"] for one in receiver.wait_for(2)] == [delivery["message_id"]] * 2
    assert problem(near.post(f"{path}/deliveries/{delivery['number'] + 1}/retry"), 404)["code"] == "unknown_delivery"
