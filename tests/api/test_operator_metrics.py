"""/metrics as an operator reads it: requests, jobs, workers, networks; also while the database is down."""

from importlib.metadata import version
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert, update

from service import reference
from service.api.app import create_app
from service.api.services import Services
from service.domain.jobs import JobState
from service.storage import leases, workers
from service.storage.database import Database, database_time
from service.storage.tables import jobs as job_table
from service.storage.tables import webhook_deliveries, webhooks
from service.storage.tables import workers as worker_table
from service.task_queue import Doorbell
from service.use_cases.observation import Observatory
from tests.api.support import claimed, submit
from tests.factories import progress
from tests.served import named, numbers, register

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def series(client: TestClient) -> Series:
    text = client.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def one(found: Series, name: str, **labels: str) -> float:
    return found.get((f"selfnorm_{name}", tuple(sorted(labels.items()))), 0.0)


def labelled(found: Series, name: str, label: str) -> dict[str, float]:
    return {dict(labels)[label]: value for (known, labels), value in found.items() if known == f"selfnorm_{name}"}


def fresh(services: Services) -> None:
    """Let the next look ask the database, not what it said a moment ago."""
    vars(services).pop("observatory", None)


def change(database: Database, job_id: str, **values: Any) -> None:
    with database.write() as connection:
        connection.execute(update(job_table).where(job_table.c.id == job_id).values(**values))


def test_requests_are_counted_by_route_method_and_status(client: TestClient) -> None:
    before = series(client)
    client.get("/jobs/a")
    client.get("/jobs/b?x=1")
    client.get("/not/there")
    client.request("BREW", "/not/there/either")
    client.get("/openapi.json")
    after = series(client)

    def more(name: str, **labels: str) -> float:
        return one(after, name, **labels) - one(before, name, **labels)

    assert more("http_requests_total", method="GET", route="/jobs/{job_id}", status="404") == 2
    assert more("http_requests_total", method="GET", route="/openapi.json", status="200") == 1
    assert more("http_requests_total", method="GET", route="none", status="404") == 1
    assert more("http_requests_total", method="other", route="none", status="404") == 1
    assert more("http_request_duration_seconds_count", method="GET", route="/jobs/{job_id}") == 2
    buckets = {
        dict(labels)["le"]: value - before.get((name, labels), 0)
        for (name, labels), value in after.items()
        if name.endswith("request_duration_seconds_bucket")
        and {("method", "GET"), ("route", "/jobs/{job_id}")} <= set(labels)
    }
    assert buckets["+Inf"] == 2
    assert list(buckets.values()) == sorted(buckets.values())
    assert one(after, "http_requests_in_flight") == 1  # the one that asks


def test_predictions_are_counted_by_version_with_how_long_they_took(
    client: TestClient, database: Database, request: pytest.FixtureRequest
) -> None:
    name = f"timed-{'postgresql' if 'postgresql' in request.node.name else 'sqlite'}"
    register(database, named(numbers("m"), name))
    before = series(client)
    for _ in range(3):
        assert client.post("/predict", json={"model": name, "instances": [[1, 2]]}).status_code == 200
    assert client.post("/predict", json={"model": name, "instances": [["x", 2]]}).status_code == 422
    after = series(client)
    labels = {"owner": "local", "model": name, "version": "1"}
    assert one(after, "prediction_duration_seconds_count", **labels) == 3
    assert 0 < one(after, "prediction_duration_seconds_sum", **labels) < 300
    assert one(after, "model_cache_misses_total") - one(before, "model_cache_misses_total") == 1
    assert one(after, "model_loads_total") - one(before, "model_loads_total") == 1
    assert one(after, "model_cache_hits_total") - one(before, "model_cache_hits_total") >= 2
    assert one(after, "models_loaded_bytes") > 0


def test_webhooks_that_fail_and_what_they_are_told_are_counted(
    client: TestClient, services: Services, database: Database
) -> None:
    ids = [f"hook-{number}" for number in range(3)]
    shared = {"owner": "local", "url": "https://x.invalid/", "events": ["job.failed"], "secret": "whsec_"}
    told = {"webhook_id": ids[0], "message_id": "msg_1", "event": "job.failed", "body": "{}"}
    with database.write() as connection:
        for webhook_id, enabled in zip(ids, (True, True, False), strict=True):
            connection.execute(insert(webhooks).values(id=webhook_id, enabled=enabled, **shared))
        failing = update(webhooks).where(webhooks.c.id != ids[0])
        connection.execute(failing.values(failing_since=database_time(-100)))
        for state in ("pending", "delivered", "delivered", "failed"):
            due = {"next_at": database_time(3600), "state": state}
            connection.execute(insert(webhook_deliveries).values(**told, **due))
    fresh(services)
    found = series(client)
    assert one(found, "webhooks_failing") == 1, "who is switched off does not fail any more"
    assert labelled(found, "webhook_deliveries", "state") == {"pending": 1, "delivered": 2, "failed": 1}


def test_jobs_are_told_by_state_and_the_queue_by_its_oldest(
    client: TestClient, services: Services, database: Database
) -> None:
    ids = [submit(client)["id"] for _ in range(4)]
    held = claimed(database, ids[0])
    client.post(f"/jobs/{ids[1]}/cancel")
    change(database, ids[2], claimable_at=database_time(-100))
    change(database, ids[3], claimable_at=database_time(3600))  # which does not wait: it rests
    found = series(client)
    wanted = {state.value: 0.0 for state in JobState} | {"queued": 2.0, "running": 1.0, "cancelled": 1.0}
    assert labelled(found, "jobs", "state") == wanted
    assert 100 <= one(found, "queue_age_seconds") < 400
    assert one(found, "heartbeat_age_seconds") < 300
    with database.write() as connection:
        leases.record_progress(connection, held, progress(1))
    change(database, ids[0], lease_until=database_time(leases.LEASE_SECONDS - 50), rows_per_second=1234.5)
    change(database, ids[2], claimable_at=database_time(3600))
    fresh(services)
    found = series(client)
    assert 50 <= one(found, "heartbeat_age_seconds") < 350
    assert one(found, "expired_leases") == 1
    assert one(found, "training_rows_per_second") == 1234.5
    assert one(found, "queue_age_seconds") == 0


def test_workers_are_told_by_state_and_by_the_newest_sign(
    client: TestClient, services: Services, database: Database
) -> None:
    assert labelled(series(client), "workers", "state") == {"starting": 0, "idle": 0, "busy": 0, "lost": 0}
    with database.write() as connection:
        for name, state in (("a", "idle"), ("b", "busy"), ("c", "busy"), ("d", "busy")):
            workers.seen(connection, name, "1", state, None)
        silent = {"name": "e", "version": "1", "state": "idle", "seen_at": database_time(-200)}
        connection.execute(insert(worker_table).values(silent))
        gone = update(worker_table).where(worker_table.c.name == "d").values(seen_at=database_time(-100))
        connection.execute(gone)
    fresh(services)
    found = series(client)
    assert labelled(found, "workers", "state") == {"starting": 0, "idle": 1, "busy": 2, "lost": 2}
    assert one(found, "worker_sign_age_seconds") < 90


def test_verdicts_and_failures_of_the_latest_jobs_are_told(
    client: TestClient, services: Services, database: Database
) -> None:
    verdicts = [("running", "held"), ("succeeded", "left"), ("succeeded", "held"), ("succeeded", "held")]
    for state, status in verdicts:
        change(database, submit(client)["id"], state=state, verdict={"status": status, "detail": "x", "advice": []})
    change(database, submit(client)["id"], state="succeeded")  # which nobody has looked at
    for code in ("out_of_memory", "unusable_column", "out_of_memory"):
        change(database, submit(client)["id"], state="failed", error_code=code)
    found = series(client)
    assert one(found, "self_normalization_jobs", state="running", status="held") == 1
    assert one(found, "self_normalization_jobs", state="succeeded", status="held") == 2
    assert one(found, "self_normalization_jobs", state="succeeded", status="left") == 1
    assert labelled(found, "recent_failures", "code") == {"out_of_memory": 2, "unusable_column": 1}


def test_refusals_of_every_kind_are_told_before_there_are_any(client: TestClient) -> None:
    found = series(client)
    assert labelled(found, "rate_limited_total", "limit").keys() == {"requests", "wrong_keys"}
    assert labelled(found, "quota_refusals_total", "quota").keys() >= {"queued_jobs", "datasets", "stored_bytes"}


def test_database_that_is_down_is_told_and_nothing_that_it_would_know(broker_url: str) -> None:
    away = Services(Database("postgresql+psycopg://nobody@127.0.0.1:1/none", 1.5), Doorbell(broker_url))
    with TestClient(create_app(away)) as client:
        found = series(client)
    assert found["selfnorm_database_up", ()] == 0
    assert one(found, "build_info", version=version("selfnorm")) == 1
    assert one(found, "http_requests_in_flight") == 1
    assert not labelled(found, "jobs", "state")
    assert not any("queue_age" in name or "disk" in name for name, _ in found)


def test_everything_that_is_told_is_in_the_reference(client: TestClient) -> None:
    text = client.get("/metrics").text
    told = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE selfnorm_")}
    described = {metric.name for metric in reference.metrics()}
    assert told == described


def test_database_is_asked_once_for_many(client: TestClient, database: Database) -> None:
    observatory = Observatory(database)
    seen = observatory.look()
    submit(client)
    assert observatory.look() is seen
    assert seen is not None
    assert seen.jobs["queued"] == 0
