"""Who did what: every route that changes something leaves one entry, whatever routes there will be."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import update

from service.domain.audit import Action, Actor
from service.storage import audit
from service.storage.audit import EntryFilter
from service.storage.database import Database, database_time
from service.storage.pages import PageRequest
from service.storage.tables import audit_log, webhook_deliveries
from service.sweeper import tidy
from service.use_cases.audit import list_entries, newest_entries
from tests.api import comparing
from tests.api.support import failed, problem, register_model, submit

CHANGES_NOTHING = re.compile("/(predict|invocations|probe|v[12]/.*)")
"""Routes that are asked by POST for what they answer."""
HOOK = {"url": "https://93.184.216.34/", "events": ["job.failed"]}
Ask = Callable[[], Any]


def upload(client: TestClient) -> Any:
    return client.post("/datasets?name=t", content=b"a,b,y\n1,2,3\n3,4,7\n", headers={"Content-Type": "text/csv"})


def test_every_route_that_changes_something_leaves_one_entry(client: TestClient, database: Database) -> None:
    asked = requests(client, database)
    assert asked.keys() == unsafe(client)
    for route, (action, ask) in asked.items():
        before = entries(database)
        answer = ask()
        assert answer.status_code < 300, (route, answer.text)
        after = entries(database)
        assert len(after) == len(before) + 1, route
        entry = after[0]
        assert (entry.action, entry.owner) == (action, "local"), route
        assert entry.actor == Actor(None, answer.headers["x-request-id"], "testclient"), route


def test_what_is_refused_leaves_none(client: TestClient, database: Database) -> None:
    register_model(database)
    before = entries(database)
    for route in unsafe(client):
        method, path = route.split(" ")
        address = re.sub(r"\{(version|number)\}", "7", path)
        answer = client.request(method, re.sub(r"\{\w+\}", "unknown", address), json={"unknown": 1})
        assert 400 <= answer.status_code < 500, (route, answer.text)
    assert entries(database) == before


def test_what_is_only_answered_again_leaves_none(client: TestClient, database: Database) -> None:
    headers = {"Idempotency-Key": "k"}
    for _ in range(2):
        assert client.post("/jobs", json={"dataset": "iris"}, headers=headers).status_code == 202
    client.post("/jobs?validate_only=true", json={"dataset": "iris"})
    assert [entry.action for entry in entries(database)] == [Action.JOB_SUBMITTED]


def test_entries_are_listed_newest_first_by_action_and_by_time(client: TestClient, database: Database) -> None:
    job_id = submit(client)["id"]
    client.post(f"/jobs/{job_id}/cancel")
    first, second = client.get("/audit").json()["items"]
    assert (first["action"], first["target"], first["details"]) == ("job.cancelled", job_id, {})
    assert (second["action"], second["details"]) == ("job.submitted", {"dataset": "iris", "model": "iris"})
    page = client.get("/audit?page_size=1").json()
    rest = client.get(f"/audit?page_token={page['next_page_token']}").json()
    assert (page["items"], rest["items"]) == ([first], [second])
    assert client.get("/audit?action=job.submitted").json()["items"] == [second]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert client.get("/audit", params={"since": later}).json()["items"] == []
    assert client.get("/audit", params={"since": second["at"]}).json()["items"] == [first, second]
    for query in ("action=job.done", "since=yesterday", "since=2026-01-01T00:00:00"):
        assert client.get(f"/audit?{query}").status_code == 422
    allowed = "must be a time as RFC 3339 writes it, such as 2026-01-31T12:00:00Z"
    assert problem(client.get("/audit?since=7d"), 422)["detail"] == f"?since: {allowed}; got '7d'"


def test_owners_see_their_own_entries_and_operators_all(client: TestClient, database: Database) -> None:
    submit(client)
    other = database.owned_by("other", Actor("key-1", "request-1", "192.0.2.1"))
    with other.write() as connection:
        audit.record(connection, Action.KEY_CREATED, "k", name="mine")
    [mine] = list_entries(other, EntryFilter(), PageRequest()).items
    assert (mine.owner, mine.actor) == ("other", Actor("key-1", "request-1", "192.0.2.1"))
    assert "key.created" not in client.get("/audit").text
    assert len(newest_entries(database, None, EntryFilter(), 9)) == 2
    assert newest_entries(database, None, EntryFilter(), 1) == [mine]
    assert newest_entries(database, "other", EntryFilter(), 9) == [mine]


def test_old_entries_go_where_days_are_set(client: TestClient, database: Database) -> None:
    submit(client)
    with database.write() as connection:
        connection.execute(update(audit_log).values(at=database_time(-100 * 86_400.0)))
    submit(client)
    for days, left in ((0, 2), (365, 2), (99, 1)):
        tidy(database, days)
        assert len(entries(database)) == left


def unsafe(client: TestClient) -> set[str]:
    paths: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    return {
        f"{method.upper()} {path}"
        for path, operations in paths.items()
        for method in operations
        if method != "get" and not CHANGES_NOTHING.fullmatch(path)
    }


def entries(database: Database) -> list[Any]:
    return newest_entries(database, None, EntryFilter(), 100)


def requests(client: TestClient, database: Database) -> dict[str, tuple[str, Ask]]:
    """What each route is asked that changes something, and what the audit log calls that."""
    return _of_data(client) | _of_jobs(client, database) | _of_models(client, database) | _of_webhooks(client, database)


def _of_data(client: TestClient) -> dict[str, tuple[str, Ask]]:
    changed, deleted = upload(client).json()["id"], upload(client).json()["id"]
    return {
        "POST /datasets": ("dataset.uploaded", lambda: upload(client)),
        "PATCH /datasets/{dataset_id}": (
            "dataset.changed",
            lambda: client.patch(f"/datasets/{changed}", json={"name": "new"}),
        ),
        "DELETE /datasets/{dataset_id}": ("dataset.deleted", lambda: client.delete(f"/datasets/{deleted}")),
    }


def _of_jobs(client: TestClient, database: Database) -> dict[str, tuple[str, Ask]]:
    first, second, third = (submit(client)["id"] for _ in range(3))
    lost, compared, other = failed(client, database), comparing.submit(client)["id"], comparing.submit(client)["id"]
    spec = {"dataset": "iris", **comparing.TWO_ARMS, "seeds": [0]}
    client.post(f"/jobs/{third}/cancel")
    client.post(f"/comparisons/{other}/cancel")
    return {
        "POST /jobs": ("job.submitted", lambda: client.post("/jobs", json={"dataset": "iris"})),
        "POST /jobs/{job_id}/pause": ("job.paused", lambda: client.post(f"/jobs/{first}/pause")),
        "POST /jobs/{job_id}/resume": ("job.resumed", lambda: client.post(f"/jobs/{first}/resume")),
        "POST /jobs/{job_id}/cancel": ("job.cancelled", lambda: client.post(f"/jobs/{second}/cancel")),
        "POST /jobs/{job_id}/retry": ("job.retried", lambda: client.post(f"/jobs/{lost}/retry")),
        "DELETE /jobs/{job_id}": ("job.deleted", lambda: client.delete(f"/jobs/{third}")),
        "POST /comparisons": ("comparison.submitted", lambda: client.post("/comparisons", json=spec)),
        "POST /comparisons/{comparison_id}/cancel": (
            "comparison.cancelled",
            lambda: client.post(f"/comparisons/{compared}/cancel"),
        ),
        "DELETE /comparisons/{comparison_id}": (
            "comparison.deleted",
            lambda: client.delete(f"/comparisons/{other}"),
        ),
    }


def _of_models(client: TestClient, database: Database) -> dict[str, tuple[str, Ask]]:
    for number in range(3):
        register_model(database, job_id=f"of-model-{number}")
    alias, spec = "/models/m/aliases/a", {"model": "m", "version": 1, "dataset": upload(client).json()["id"]}
    first, second = (client.post("/predictions", json=spec).json()["id"] for _ in range(2))
    client.post(f"/predictions/{second}/cancel")
    client.put(alias, json={"version": 1})
    held = {"dataset": spec["dataset"]}
    return {
        "PUT /models/{name}/aliases/{alias}": ("alias.set", lambda: client.put(alias, json={"version": 2})),
        "POST /models/{name}/aliases/{alias}/rollback": ("alias.rolled_back", lambda: client.post(f"{alias}/rollback")),
        "DELETE /models/{name}/aliases/{alias}": ("alias.removed", lambda: client.delete(alias)),
        "DELETE /models/{name}/versions/{version}": (
            "version.deleted",
            lambda: client.delete("/models/m/versions/3"),
        ),
        "POST /models/{name}/versions/{version}/evaluate": (
            "prediction.submitted",
            lambda: client.post("/models/m/versions/1/evaluate", json=held),
        ),
        "POST /predictions": ("prediction.submitted", lambda: client.post("/predictions", json=spec)),
        "POST /predictions/{prediction_id}/cancel": (
            "prediction.cancelled",
            lambda: client.post(f"/predictions/{first}/cancel"),
        ),
        "DELETE /predictions/{prediction_id}": ("prediction.deleted", lambda: client.delete(f"/predictions/{second}")),
    }


def _of_webhooks(client: TestClient, database: Database) -> dict[str, tuple[str, Ask]]:
    path, other = (f"/webhooks/{client.post('/webhooks', json=HOOK).json()['id']}" for _ in range(2))
    number = client.post(f"{path}/test").json()["number"]
    with database.write() as connection:
        connection.execute(update(webhook_deliveries).values(state="failed"))
    return {
        "POST /webhooks": ("webhook.created", lambda: client.post("/webhooks", json=HOOK)),
        "PATCH /webhooks/{webhook_id}": ("webhook.changed", lambda: client.patch(path, json={"description": "x"})),
        "POST /webhooks/{webhook_id}/rotate-secret": (
            "webhook.secret_rotated",
            lambda: client.post(f"{path}/rotate-secret"),
        ),
        "POST /webhooks/{webhook_id}/test": ("webhook.tested", lambda: client.post(f"{path}/test")),
        "POST /webhooks/{webhook_id}/deliveries/{number}/retry": (
            "webhook.retried",
            lambda: client.post(f"{path}/deliveries/{number}/retry"),
        ),
        "DELETE /webhooks/{webhook_id}": ("webhook.deleted", lambda: client.delete(other)),
    }
