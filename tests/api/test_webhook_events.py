"""What webhooks are told is what the API shows at that moment, and each thing is told once."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.domain.jobs import Claim
from service.domain.verdict import Verdict
from service.domain.webhooks import EVENT_NAMES
from service.outbound import Outbound
from service.storage import leases
from service.storage.database import Database
from service.use_cases.webhooks import WebhookRules
from tests.api import comparing
from tests.api.support import claimed, failed, register_model, submit
from tests.factories import measured, progress, saved_state
from tests.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def near(services: Services) -> Iterator[TestClient]:
    """A service that may send to this machine."""
    rules = WebhookRules(Outbound(allow_private=True))
    with TestClient(create_app(replace(services, webhooks=rules)), raise_server_exceptions=False) as opened:
        yield opened


def made(client: TestClient, url: str, *events: str) -> dict[str, Any]:
    body: dict[str, Any] = client.post("/webhooks", json={"url": url, "events": events}).json()
    return body


def ends(database: Database, held: Claim) -> None:
    with database.write() as connection:
        leases.succeed(connection, held, best_epoch=0, test_metrics=None, version=1)


def data_of(receiver: Receiver, *events: str) -> list[dict[str, Any]]:
    """What was told, in order, when so much has been told."""
    bodies = [json.loads(taken.body) for taken in receiver.wait_for(len(events))]
    assert [body["type"] for body in bodies] == list(events)
    return [body["data"] for body in bodies]


def agrees(told: dict[str, Any], shown: dict[str, Any], *beside: str) -> None:
    """Check that what was told is what the API shows, but for what only one of them has."""
    assert told.keys() - shown.keys() == {*beside}
    for name in told.keys() & shown.keys():
        assert told[name] == shown[name], name


def test_what_is_told_of_a_training_is_what_the_api_shows(
    near: TestClient, database: Database, receiver: Receiver
) -> None:
    made(near, receiver.url, "job.started", "verdict.self_normalization_lost", "job.failed", "job.succeeded")
    job_id = submit(near, tags=["a"])["id"]
    held = claimed(database, job_id)
    verdict = Verdict("vanishing", "layer 3 is dead", 1, 3, "learning_rate", ("try less",))
    with database.write() as connection:
        leases.record_looks(connection, held, [], [verdict])
        leases.record(connection, held, progress(2), 1, [measured(1), measured(2)], saved_state(2))
    with database.write() as connection:
        leases.succeed(connection, held, best_epoch=1, test_metrics={"accuracy": 0.5}, version=7)
    events = ("job.started", "verdict.self_normalization_lost", "job.succeeded")
    started, lost, ended = data_of(receiver, *events)
    assert (started["state"], started["verdict"]) == ("running", None)
    assert (lost["state"], lost["verdict"]["layer"]) == ("running", 3)
    shown = near.get(f"/jobs/{job_id}").json()
    agrees(ended, shown, "dataset")
    assert ended["dataset"] == shown["spec"]["dataset"]
    assert (ended["model"], ended["metrics"]["best"]["epoch"]) == (shown["model"], 1)


def test_what_is_told_of_a_failure_is_what_the_api_shows(
    near: TestClient, database: Database, receiver: Receiver
) -> None:
    made(near, receiver.url, "job.failed")
    job_id = failed(near, database)
    [told] = data_of(receiver, "job.failed")
    agrees(told, near.get(f"/jobs/{job_id}").json(), "dataset")
    assert told["error"] == {"code": "worker_lost", "detail": "why"}


def test_what_is_told_of_a_prediction_is_what_the_api_shows(
    near: TestClient, database: Database, receiver: Receiver
) -> None:
    made(near, receiver.url, *[name for name in EVENT_NAMES if name.startswith("prediction")])
    register_model(database)
    rows = b"a,b\n1,2\n3,4\n"
    dataset = near.post("/datasets?name=t", content=rows, headers={"Content-Type": "text/csv"}).json()["id"]
    first, second = (near.post("/predictions", json={"model": "m", "dataset": dataset}).json()["id"] for _ in range(2))
    near.post(f"/predictions/{first}/cancel")
    held = claimed(database, second)
    with database.write() as connection:
        leases.fail(connection, held, "corrupt_blob", "why")
    for told in data_of(receiver, "prediction.cancelled", "prediction.failed"):
        shown = near.get(f"/predictions/{told['id']}").json()
        agrees(told, shown, "dataset", "model")
        assert told["model"] == {"name": "m", "version": 1}


def test_the_end_of_a_comparison_is_told_once_also_where_its_last_jobs_end_at_the_same_time(
    near: TestClient, database: Database, receiver: Receiver
) -> None:
    webhook = made(near, receiver.url, "comparison.finished")
    comparison = comparing.submit(near, seeds=[0])
    first, second = (claimed(database, job_id) for job_id in comparing.ids_of(comparison))
    other = threading.Thread(target=ends, args=(database, second))
    with database.write() as connection:
        leases.succeed(connection, first, best_epoch=0, test_metrics=None, version=1)
        other.start()  # it does not see this end, unless it waits for it
        other.join(0.5)
    other.join(60)
    [told] = data_of(receiver, "comparison.finished")
    shown = comparing.read(near, comparison)
    agrees({**told, "jobs": None}, {**shown, "jobs": None}, "kind", "dataset")
    assert told["jobs"] == {"succeeded": 2}
    assert len(near.get(f"/webhooks/{webhook['id']}/deliveries").json()["items"]) == 1


def test_a_cancelled_comparison_is_told_of_once(near: TestClient, receiver: Receiver) -> None:
    webhook = made(near, receiver.url, "comparison.finished")
    comparison = comparing.submit(near)
    near.post(f"/comparisons/{comparison['id']}/cancel")
    [told] = data_of(receiver, "comparison.finished")
    assert (told["id"], told["state"], told["jobs"]) == (comparison["id"], "cancelled", {"cancelled": 4})
    assert len(near.get(f"/webhooks/{webhook['id']}/deliveries").json()["items"]) == 1
