"""The page of a job as it comes from the server, and what its scripts read."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.domain.jobs import EpochRecord, EventKind
from service.storage import leases
from service.storage.database import Database
from service.task_queue import Doorbell
from tests.api import comparing
from tests.api.pages import given, shown, words
from tests.api.support import problem, submit
from tests.api.test_diagnostics import looked_at
from tests.factories import progress, saved_state

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'"


@pytest.fixture
def sqlite_client(sqlite_database: Database, broker_url: str) -> Iterator[TestClient]:
    """For what no other database could change."""
    with TestClient(create_app(Services(sqlite_database, Doorbell(broker_url)))) as opened:
        yield opened


def failed(database: Database, job_id: str, code: str) -> None:
    held = comparing.claimed(database, job_id)
    with database.write() as connection:
        leases.fail(connection, held, code, "why it failed")


def test_job_that_waits_says_where_in_line_and_for_what(sqlite_client: TestClient) -> None:
    submit(sqlite_client)
    job = submit(sqlite_client, model="mine", tags=["first"], network={"kind": "mlp", "units": [8, 4]})
    text = words(shown(sqlite_client, f"/dashboard/jobs/{job['id']}"))
    assert "mine queued" in text
    assert "number 2 in line" in text
    assert "It waits for a worker" in text
    assert "MLP, 2 layers of 8, 4, relu, glorot uniform" in text
    assert "nobody has looked yet" in text
    assert "fail activation" in text, "the lint is told before anything has trained"
    assert "submitted" in text


def test_running_job_shows_verdict_metrics_and_log(client: TestClient, database: Database) -> None:
    job = submit(client, network={"kind": "snn", "units": [20, 20]})["id"]
    looked_at(database, job, 0, 1, 2, gain=3.0)
    page = shown(client, f"/dashboard/jobs/{job}")
    text, verdict = words(page), client.get(f"/jobs/{job}").json()["verdict"]
    assert "Left: the network has left the domain" in text
    assert verdict["detail"] in text
    assert all(advice in text for advice in verdict["advice"])
    assert "Latest, epoch 2" in text
    kinds = re.findall(r'<li data-event="(\w+)"', page)
    assert kinds[-2:] == ["started", "submitted"], "newest first"
    assert given(page)["last_event"] == len(client.get(f"/jobs/{job}/events").json()["items"])
    assert f"/jobs/{job}/plots/learning_curves.svg" in page[page.index("<noscript><img") :], "a picture without scripts"


def test_log_keeps_what_happened_and_only_the_last_epochs(client: TestClient, database: Database) -> None:
    job = submit(client)["id"]
    held = comparing.claimed(database, job)
    records = [EpochRecord(epoch, {"loss": 1.0}, 0.1, 0.1) for epoch in range(1, 201)]
    with database.write() as connection:
        leases.record(connection, held, progress(200), 1, records, saved_state(200))
    page = shown(client, f"/dashboard/jobs/{job}")
    kinds = re.findall(r'<li data-event="(\w+)"', page)
    assert kinds == ["epoch"] * 50 + ["started", "submitted"]


@pytest.mark.parametrize(("code", "resumes"), [("worker_lost", True), ("training_diverged", False)])
def test_failed_job_says_why(sqlite_client: TestClient, sqlite_database: Database, code: str, resumes: bool) -> None:
    job = submit(sqlite_client)["id"]
    failed(sqlite_database, job, code)
    page = shown(sqlite_client, f"/dashboard/jobs/{job}")
    assert f"It failed: {code.replace('_', ' ')}." in words(page)
    assert "why it failed" in words(page)
    assert (code in given(page)["resumable"]) is resumes


def test_job_that_has_succeeded_leads_to_its_model(sqlite_client: TestClient, sqlite_database: Database) -> None:
    job = submit(sqlite_client, model="mine")["id"]
    comparing.trained(sqlite_database, job, 0.4, 0.9, model_version=3)
    page = shown(sqlite_client, f"/dashboard/jobs/{job}")
    assert "It is version 3 of the model mine" in words(page)
    assert 'href="/dashboard/models/mine/predict?version=3"' in page


def test_what_is_not_there_is_a_page_too(sqlite_client: TestClient) -> None:
    assert "nowhere" in words(shown(sqlite_client, "/dashboard/jobs/nowhere", 404))
    assert "nowhere" in words(shown(sqlite_client, "/dashboard/comparisons/nowhere", 404))
    assert "New job" in words(shown(sqlite_client, "/dashboard/jobs/new")), "which is no job called new"
    problem(sqlite_client.get("/dashboard/jobs/nowhere/curves"), 404)
    problem(sqlite_client.get("/dashboard/jobs/nowhere/layers"), 404)
    problem(sqlite_client.get("/dashboard/jobs/nowhere/distributions/weights/1"), 404)
    problem(sqlite_client.get("/dashboard/comparisons/nowhere/shown"), 404)
    problem(sqlite_client.get("/dashboard/comparisons/nowhere/curves"), 404)


def test_curves_are_those_of_the_epochs(client: TestClient, database: Database) -> None:
    job = submit(client)["id"]
    assert client.get(f"/dashboard/jobs/{job}/curves").json() == {"every": 1, "epochs": [], "metrics": {}}
    held = comparing.claimed(database, job)
    losses = [1.23456789, None, 0.5]
    records = [EpochRecord(epoch, {"loss": loss, "val_loss": 2.0}, 0.1, 0.1) for epoch, loss in enumerate(losses, 1)]
    with database.write() as connection:
        leases.record(connection, held, progress(3), 3, records, saved_state(3))
    found = client.get(f"/dashboard/jobs/{job}/curves").json()
    assert found == {"every": 1, "epochs": [1, 2, 3], "metrics": {"loss": [1.23457, None, 0.5], "val_loss": [2.0] * 3}}


def test_of_very_many_epochs_the_best_and_the_last_are_kept(
    sqlite_client: TestClient, sqlite_database: Database
) -> None:
    job = submit(sqlite_client)["id"]
    held = comparing.claimed(sqlite_database, job)
    records = [EpochRecord(epoch, {"loss": 1.0}, 0.1, 0.1) for epoch in range(1, 4203)]
    with sqlite_database.write() as connection:
        leases.record(connection, held, progress(4202), 4200, records, saved_state(4202))
    found = sqlite_client.get(f"/dashboard/jobs/{job}/curves").json()
    assert found["every"] == 2
    assert found["epochs"][-3:] == [4200, 4201, 4202]
    assert found["epochs"][:3] == [1, 3, 5]


def test_head_is_the_job_without_its_columns(client: TestClient, database: Database) -> None:
    job = submit(client, network={"kind": "snn", "units": [20, 20]})["id"]
    looked_at(database, job, 0, 1, 2, gain=3.0)
    whole = client.get(f"/jobs/{job}").json()
    assert client.get(f"/dashboard/jobs/{job}/head").json() == {
        name: value for name, value in whole.items() if name != "spec"
    }
    problem(client.get("/dashboard/jobs/nowhere/head"), 404)


def test_page_listens_for_whatever_can_happen(sqlite_client: TestClient) -> None:
    job = submit(sqlite_client)["id"]
    assert given(shown(sqlite_client, f"/dashboard/jobs/{job}"))["events"] == [kind.value for kind in EventKind]


def test_layers_and_distributions_come_as_far_as_they_are_new(client: TestClient, database: Database) -> None:
    job = submit(client, network={"kind": "snn", "units": [20, 20]})["id"]
    looked_at(database, job, 0, 1, 2)
    whole = client.get(f"/jobs/{job}/diagnostics?histograms=true").json()["items"]
    found = client.get(f"/dashboard/jobs/{job}/layers").json()["items"]
    assert [look["epoch"] for look in found] == [0, 1, 2]
    assert found[1]["variance"] == pytest.approx([layer["variance"] for layer in whole[1]["layers"]], rel=1e-5)
    assert [look["epoch"] for look in client.get(f"/dashboard/jobs/{job}/layers?after=1").json()["items"]] == [2]
    for kind in ("weights", "activations"):
        address = f"/dashboard/jobs/{job}/distributions/{kind}/2"
        expected = [{"epoch": item["epoch"], **item[kind][1]} for item in whole]
        assert client.get(address).json()["items"] == expected
        assert client.get(f"{address}?after=1").json()["items"] == expected[2:]
    assert client.get(f"/dashboard/jobs/{job}/distributions/weights/9").json() == {"items": []}
    problem(client.get(f"/dashboard/jobs/{job}/distributions/biases/1"), 422)


def test_hostile_names_are_text(sqlite_client: TestClient, sqlite_database: Database) -> None:
    quoted = HOSTILE.replace('"', '""')
    rows = "\n".join(f"{place},{place % 2}" for place in range(40))
    table = sqlite_client.post(
        "/datasets",
        params={"name": HOSTILE[:100]},
        content=f'"{quoted}",y\n{rows}\n',
        headers={"Content-Type": "text/csv"},
    ).json()["id"]
    job = submit(sqlite_client, dataset=table, target="y")["id"]
    comparison = comparing.submit(sqlite_client, dataset=table, target=HOSTILE, training={"epochs": 2})
    for path in (f"/dashboard/jobs/{job}", f"/dashboard/comparisons/{comparison['id']}", "/dashboard/comparisons"):
        page = shown(sqlite_client, path)
        assert "<img src=x" not in page
        assert "<script>alert" not in page
        assert HOSTILE[:100] in html.unescape(page)
    assert given(shown(sqlite_client, f"/dashboard/jobs/{job}"))["short"]["dataset"] == table


@pytest.mark.parametrize(
    "fields",
    [
        {"network": {"kind": "mlp", "activation": "tanh", "units": [8, 4]}, "training": {"epochs": 7}},
        {"dataset": "diabetes", "network": {"dropout": 0.1}, "training": {"early_stopping": None}},
    ],
)
def test_what_the_page_says_makes_the_same_job_again(sqlite_client: TestClient, fields: dict[str, Any]) -> None:
    job = submit(sqlite_client, **fields)
    short = given(shown(sqlite_client, f"/dashboard/jobs/{job['id']}"))["short"]
    assert len(json.dumps(short)) < len(json.dumps(job["spec"]))
    assert submit(sqlite_client, **short)["spec"] == job["spec"]
