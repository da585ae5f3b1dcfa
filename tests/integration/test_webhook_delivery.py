"""What webhooks are told, on both databases: stored with what it tells of, sent until it is taken, never lost."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update
from standardwebhooks import Webhook as Verifier

from service import webhook_sender
from service.domain.audit import Action
from service.domain.quotas import TooManyDeliveries
from service.domain.webhook_errors import DeliveryIsPending, WebhookIsDisabled
from service.domain.webhooks import RETRY_SECONDS, ClaimedDelivery, Delivery, WebhookChange, WebhookSpec
from service.outbound import Outbound
from service.storage import deliveries, jobs, leases, webhooks
from service.storage.audit import EntryFilter
from service.storage.database import Database, database_time
from service.storage.pages import PageRequest
from service.storage.tables import webhook_deliveries
from service.storage.tables import webhooks as table
from service.sweeper import tidy
from service.use_cases import audit
from service.use_cases.idempotency import StoredAnswer
from service.use_cases.webhooks import (
    NewWebhook,
    WebhookRules,
    change_webhook,
    create_webhook_once,
    get_webhook,
    list_deliveries,
    retry_delivery,
    rotate_secret,
    test_webhook_once,
)
from service.webhook_sender import WebhookSender
from tests.factories import stored_job
from tests.receiver import Receiver, receiving

test_webhook_once.__test__ = False  # type: ignore[attr-defined]  # a use case whose name begins as those of tests do

NEAR = Outbound(allow_private=True)
ALL_ENDS = ("job.succeeded", "job.failed", "job.cancelled")
ANSWER = StoredAnswer(200, {}, b"")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


def made(database: Database, url: str, *events: Any) -> NewWebhook:
    spec = WebhookSpec(url=url, events=events or ("job.cancelled",))
    outcome = create_webhook_once(database, spec, WebhookRules(NEAR), None, lambda _: ANSWER)
    assert outcome.made is not None
    return outcome.made


def cancelled(database: Database, job_id: str = "job-1") -> str:
    stored_job(database, job_id)
    with database.write() as connection:
        jobs.request_cancel(connection, job_id)
    return job_id


def send_due(database: Database) -> list[ClaimedDelivery]:
    everybody = database.for_everybody()
    taken = webhook_sender.claim(everybody)
    for claimed in taken:
        webhook_sender.send(everybody, NEAR, claimed)
    return taken


def told(database: Database, webhook: NewWebhook) -> list[Delivery]:
    return list_deliveries(database, webhook.webhook.id, PageRequest(100)).items


def let_time_go_by(database: Database, seconds: float) -> None:
    with database.write() as connection:
        connection.execute(update(webhook_deliveries).values(next_at=database_time(-1)))
        connection.execute(
            update(table).where(table.c.failing_since.is_not(None)).values(failing_since=database_time(-seconds))
        )


def waits(database: Database, webhook: NewWebhook) -> float:
    """For how long, from now, the last delivery waits for its next try."""
    with database.read() as connection:
        now = connection.execute(select(database_time())).scalar_one()
    return (told(database, webhook)[0].next_at - now).total_seconds()


def test_what_happens_is_told_once_signed_and_under_one_id(database: Database, receiver: Receiver) -> None:
    webhook = made(database, receiver.url)
    cancelled(database)
    assert len(send_due(database)) == 1
    assert send_due(database) == []
    [taken] = receiver.taken
    body = Verifier(webhook.secret).verify(taken.body, taken.headers)
    assert (body["type"], body["data"]["id"], body["data"]["state"]) == ("job.cancelled", "job-1", "cancelled")
    assert taken.headers["content-type"] == "application/json"
    [delivery] = told(database, webhook)
    assert (delivery.state, delivery.status, delivery.attempts) == ("delivered", 204, 1)
    assert delivery.message_id == taken.headers["webhook-id"]


def test_what_does_not_come_about_is_not_told(database: Database, receiver: Receiver) -> None:
    webhook = made(database, receiver.url)
    stored_job(database)

    def fails() -> None:
        with database.write() as connection:
            jobs.request_cancel(connection, "job-1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert told(database, webhook) == []


def test_only_what_was_asked_for_is_told_and_only_to_the_owner(database: Database, receiver: Receiver) -> None:
    mine, others = made(database, receiver.url, "job.failed"), database.owned_by("somebody")
    theirs = made(others, receiver.url, *ALL_ENDS)
    cancelled(database)
    assert (told(database, mine), told(others, theirs)) == ([], [])
    cancelled(others, "job-2")
    assert [delivery.event for delivery in told(others, theirs)] == ["job.cancelled"]


def test_every_try_has_the_same_id_and_body_and_waits_longer(database: Database, receiver: Receiver) -> None:
    webhook = made(database, receiver.url)
    cancelled(database)
    receiver.statuses.extend([500, 302, 404, 503])
    for attempt, seconds in enumerate(RETRY_SECONDS[:4], 1):
        assert len(send_due(database)) == 1
        [delivery] = told(database, webhook)
        assert (delivery.state, delivery.attempts, delivery.status is not None) == ("pending", attempt, True)
        assert 0.75 * seconds - 2 < waits(database, webhook) <= 1.25 * seconds
        assert send_due(database) == []
        let_time_go_by(database, 60)
    assert get_webhook(database, webhook.webhook.id).failing_since is not None
    send_due(database)
    assert told(database, webhook)[0].state == "delivered"
    assert get_webhook(database, webhook.webhook.id).failing_since is None
    assert len({(taken.headers["webhook-id"], taken.body) for taken in receiver.taken}) == 1
    assert len(receiver.taken) == 5


def test_what_is_wrong_is_said_without_addresses(database: Database) -> None:
    webhook = made(database, "http://127.0.0.1:9/")
    cancelled(database)
    send_due(database)
    assert told(database, webhook)[0].error == "no connection could be made"
    let_time_go_by(database, 0)
    everybody = database.for_everybody()
    [claimed] = webhook_sender.claim(everybody)
    webhook_sender.send(everybody, Outbound(), claimed)
    error = told(database, webhook)[0].error or ""
    assert "not public" in error
    assert "127" not in error


def test_a_sender_that_dies_before_it_marks_leaves_it_to_another(database: Database, receiver: Receiver) -> None:
    webhook = made(database, receiver.url)
    cancelled(database)
    [claimed] = webhook_sender.claim(database.for_everybody())
    NEAR.post(claimed.url, {"webhook-id": claimed.message_id}, claimed.body.encode())
    assert send_due(database) == []
    let_time_go_by(database, 0)
    [again] = send_due(database)
    assert (again.message_id, again.attempt) == (claimed.message_id, 2)
    assert [taken.headers["webhook-id"] for taken in receiver.taken] == [claimed.message_id] * 2
    with database.for_everybody().write() as connection:  # the first one wakes up
        deliveries.mark_failed(connection, claimed, 500, "late", 5.0)
    assert told(database, webhook)[0].state == "delivered"


def test_of_many_senders_one_has_it(database: Database, receiver: Receiver) -> None:
    for number in range(4):
        owned = database.owned_by(f"team-{number}")
        made(owned, receiver.url)
        cancelled(owned, f"job-{number}")
    barrier = threading.Barrier(8)

    def claim(_: int) -> list[int]:
        barrier.wait()
        with database.for_everybody().write() as connection:
            return [claimed.number for claimed in deliveries.claim(connection, 8)]

    with ThreadPoolExecutor(8) as pool:
        found = [number for numbers in pool.map(claim, range(8)) for number in numbers]
    assert sorted(found) == sorted(set(found))
    assert len(found) == 4


def test_one_thing_at_a_time_is_taken_for_each_webhook_the_oldest_first(database: Database, receiver: Receiver) -> None:
    first, second = made(database, receiver.url), made(database, receiver.url)
    for number in range(3):
        cancelled(database, f"job-{number}")
    taken = webhook_sender.claim(database.for_everybody())
    assert {claimed.webhook_id for claimed in taken} == {first.webhook.id, second.webhook.id}
    assert {json.loads(claimed.body)["data"]["id"] for claimed in taken} == {"job-0"}
    busy = {first.webhook.id}
    assert {claimed.webhook_id for claimed in webhook_sender.claim(database.for_everybody(), 8, busy)} == {
        second.webhook.id
    }


def test_owners_take_turns_and_have_two_on_their_way_at_most(database: Database, receiver: Receiver) -> None:
    many, few = database.owned_by("many"), database.owned_by("few")
    theirs = [made(many, receiver.url).webhook.id for _ in range(5)]
    for number in range(3):
        cancelled(many, f"many-{number}")
    [single] = [made(few, receiver.url).webhook.id]
    cancelled(few, "few-0")
    everybody = database.for_everybody()
    taken = [claimed.webhook_id for claimed in webhook_sender.claim(everybody, 2)]
    assert single in taken, "its turn comes before the second one of the owner with many"
    [first] = set(taken) - {single}
    second = [claimed.webhook_id for claimed in webhook_sender.claim(everybody, 8, {first, single})]
    assert len(second) == 1, "with the one that is on its way, that makes two"
    assert set(second) < set(theirs) - {first}
    assert webhook_sender.claim(everybody, 8, {first, single, *second}) == []
    assert len(webhook_sender.claim(everybody, 8, set())) == 2


def test_what_waits_for_a_webhook_is_not_added_to_by_hand_without_end(database: Database, receiver: Receiver) -> None:
    webhook_id = made(database, receiver.url).webhook.id
    with database.write() as connection:
        deliveries.add(connection, [webhook_id] * (deliveries.MOST_WAITING - 1), "webhook.test", {})
    test_webhook_once(database, webhook_id, None, lambda _: ANSWER)
    with pytest.raises(TooManyDeliveries, match="100 deliveries or more wait for this webhook"):
        test_webhook_once(database, webhook_id, None, lambda _: ANSWER)
    with database.write() as connection:
        done = update(webhook_deliveries).where(webhook_deliveries.c.webhook_id == webhook_id)
        connection.execute(done.values(state="delivered"))
    test_webhook_once(database, webhook_id, None, lambda _: ANSWER)


def test_a_receiver_that_has_gone_is_told_nothing_more(database: Database, receiver: Receiver) -> None:
    webhook = made(database, receiver.url)
    for number in range(2):
        cancelled(database, f"job-{number}")
    receiver.statuses.append(410)
    send_due(database)
    found = get_webhook(database, webhook.webhook.id)
    assert not found.enabled
    assert "410" in (found.disabled_because or "")
    assert [delivery.state for delivery in told(database, webhook)] == ["failed", "failed"]
    cancelled(database, "job-3")
    assert len(told(database, webhook)) == 2
    disabled = audit.list_entries(database, EntryFilter(Action.WEBHOOK_DISABLED), PageRequest()).items
    assert [(entry.target, entry.actor.key_id) for entry in disabled] == [(webhook.webhook.id, None)]


@pytest.mark.parametrize(("days", "enabled"), [(2, True), (3, False)])
def test_what_was_tried_for_days_is_given_up_and_so_is_a_webhook_that_took_nothing_meanwhile(
    database: Database, days: int, *, enabled: bool
) -> None:
    webhook = made(database, "http://127.0.0.1:9/")
    cancelled(database)
    for _ in range(len(RETRY_SECONDS) + 1):
        assert told(database, webhook)[0].state == "pending"
        send_due(database)
        let_time_go_by(database, days * 86_400)
    assert told(database, webhook)[0].state == "failed"
    assert get_webhook(database, webhook.webhook.id).enabled is enabled


def test_a_webhook_that_is_switched_off_is_told_nothing_until_it_is_on_again(
    database: Database, receiver: Receiver
) -> None:
    webhook = made(database, receiver.url)
    webhook_id, rules = webhook.webhook.id, WebhookRules(NEAR)
    cancelled(database, "job-1")
    change_webhook(database, webhook_id, WebhookChange(enabled=False), rules)
    cancelled(database, "job-2")
    assert send_due(database) == []
    [missed] = told(database, webhook)
    assert missed.error == "the webhook was switched off"
    for refused in (
        lambda: test_webhook_once(database, webhook_id, None, lambda _: ANSWER),
        lambda: retry_delivery(database, webhook_id, missed.number),
    ):
        with pytest.raises(WebhookIsDisabled):
            refused()
    change_webhook(database, webhook_id, WebhookChange(enabled=True), rules)
    retry_delivery(database, webhook_id, missed.number)
    with pytest.raises(DeliveryIsPending):
        retry_delivery(database, webhook_id, missed.number)
    assert len(send_due(database)) == 1
    assert json.loads(receiver.taken[0].body)["data"]["id"] == "job-1"


def test_after_a_change_of_the_secret_both_sign_for_a_day(database: Database, receiver: Receiver) -> None:
    webhook = made(database, receiver.url)
    new = rotate_secret(database, webhook.webhook.id)
    cancelled(database, "job-1")
    send_due(database)
    for secret in (webhook.secret, new.secret):
        Verifier(secret).verify(receiver.taken[0].body, receiver.taken[0].headers)
    with database.write() as connection:
        connection.execute(update(table).values(previous_until=database_time(-1)))
    cancelled(database, "job-2")
    send_due(database)
    assert receiver.taken[1].headers["webhook-signature"].count("v1,") == 1
    Verifier(new.secret).verify(receiver.taken[1].body, receiver.taken[1].headers)


def test_what_was_sent_is_forgotten_after_a_week_and_what_waits_is_not(database: Database, receiver: Receiver) -> None:
    webhook = made(database, receiver.url)
    cancelled(database, "job-1")
    send_due(database)
    cancelled(database, "job-2")
    with database.write() as connection:
        old = {"created_at": database_time(-8 * 86_400.0)}
        connection.execute(update(webhook_deliveries).values(**old))
        done = webhook_deliveries.c.state == "delivered"
        connection.execute(update(webhook_deliveries).where(done).values(finished_at=database_time(-8 * 86_400.0)))
    tidy(database)
    assert [delivery.state for delivery in told(database, webhook)] == ["pending"]


def test_threads_send_and_one_that_hangs_holds_up_no_other(database: Database, receiver: Receiver) -> None:
    with receiving() as hanging:
        hanging.gate.clear()
        made(database, hanging.url)
        made(database, receiver.url)
        sender = WebhookSender(database, NEAR)
        sender.start()
        try:
            for number in range(3):
                cancelled(database, f"job-{number}")
            taken = receiver.wait_for(3)
            hanging.wait_for(1)
        finally:
            sender.stop()
        assert [json.loads(one.body)["data"]["id"] for one in taken] == ["job-0", "job-1", "job-2"]
        assert len(hanging.taken) == 1


def test_a_deleted_webhook_takes_what_waits_with_it(database: Database, receiver: Receiver) -> None:
    webhook = made(database, receiver.url)
    cancelled(database)
    [claimed] = webhook_sender.claim(database.for_everybody())
    with database.write() as connection:
        webhooks.remove(connection, webhook.webhook.id)
    webhook_sender.send(database.for_everybody(), NEAR, claimed)
    assert send_due(database) == []


def test_jobs_of_workers_are_told_of_too(database: Database, receiver: Receiver) -> None:
    webhook = made(database, receiver.url, "job.started", *ALL_ENDS)
    worker = database.for_everybody()
    for job_id in ("job-1", "job-2", "job-3"):
        stored_job(database, job_id)
        with worker.write() as connection:
            held = leases.claim(connection, job_id, "w")
            assert held is not None
        with database.write() as connection:
            if job_id == "job-1":
                leases.succeed(connection, held, best_epoch=0, test_metrics=None, version=1)
            else:
                leases.fail(connection, held, "out_of_memory", "why")
    events = [delivery.event for delivery in reversed(told(database, webhook))]
    assert events == ["job.started", "job.succeeded", "job.started", "job.failed", "job.started", "job.failed"]
