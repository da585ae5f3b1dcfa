import json
import zlib
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import func, select

from service.api.app import create_app
from service.api.dependencies import Services
from service.domain.jobs import Claim, EpochRecord, EventKind, JobState, Progress
from service.storage import datasets, leases
from service.storage.database import Database
from service.storage.tables import blobs
from service.task_queue import Doorbell
from tests.api.support import problem, submit
from tests.factories import measured, progress, saved_state


def test_submitted_job_is_stored_complete_and_rings_the_doorbell(
    client: TestClient, services: Services, broker_url: str
) -> None:
    with Redis.from_url(broker_url) as broker:
        broker.flushall()
        answer = client.post("/jobs", json={"dataset": "iris", "tags": ["first"], "model": "flowers"})
        job = answer.json()
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/jobs/{job['id']}"
        assert answer.headers["retry-after"] == "1"
        assert (job["state"], job["queue_position"], job["model"], job["kind"]) == ("queued", 1, None, "training")
        assert job["spec"]["target"] == "target"
        assert len(job["spec"]["features"]) == 4
        assert job["spec"]["training"]["learning_rate"] == 0.0005
        assert services.doorbell.waiting() == 1
        message = json.loads(broker.lindex("celery", 0))
        assert job["id"] in message["headers"]["argsrepr"]
    assert client.get(f"/jobs/{job['id']}").json() == job


def test_article_spec_is_taken_as_it_stands(client: TestClient) -> None:
    spec = {
        "dataset": "boston_housing",
        "target": "MEDV",
        "features": None,
        "task": "regression",
        "network": {"kind": "snn", "hidden_layers": 20, "units": 100, "dropout": 0.0},
        "training": {
            "optimizer": "nadam",
            "learning_rate": 0.0007,
            "epochs": 50,
            "batch_size": 32,
            "validation_fraction": 0.2,
            "test_fraction": None,
            "early_stopping": None,
            "seed": 0,
        },
        "model": "boston",
    }
    job = submit(client, **spec)
    assert job["spec"]["training"]["early_stopping"] is None
    assert len(job["spec"]["features"]) == 13


def test_validate_only_makes_nothing(client: TestClient) -> None:
    answer = client.post("/jobs?validate_only=true", json={"dataset": "digits"})
    assert answer.status_code == 200
    assert answer.json()["parameters"] == 65 * 128 + 3 * 129 * 128 + 129 * 10
    assert answer.json()["spec"]["task"] == "classification"
    assert client.get("/jobs").json()["items"] == []
    problem(client.post("/jobs?validate_only=true", json={"dataset": "iris", "target": "nothing"}), 422)


def test_training_with_every_option_is_completed(client: TestClient) -> None:
    asked = {
        "optimizer": "sgd",
        "weight_decay": 0.001,
        "schedule": {"kind": "plateau", "warmup_epochs": 2.5, "factor": 0.3, "patience": 5, "min_delta": 0.001},
        "clip_norm": 1,
        "l2": 0.0001,
        "label_smoothing": 0.1,
        "class_weights": {"setosa": 1, "virginica": 2.5},
        "sample_weight_column": "sepal width (cm)",
        "epochs": 40,
        "batch_size": "auto",
        "validation_fraction": 0.25,
        "test_fraction": 0.2,
        "split": "stratified",
        "early_stopping": {"patience": 20},
        "monitor": "val_f1",
        "seed": 7,
    }
    answer = client.post("/jobs?validate_only=true", json={"dataset": "iris", "training": asked})
    assert answer.status_code == 200, answer.text
    spec = answer.json()["spec"]
    assert spec["features"] == ["sepal length (cm)", "petal length (cm)", "petal width (cm)"]
    assert spec["training"] == {
        **asked,
        "learning_rate": 0.01,
        "momentum": 0.9,
        "schedule": {**asked["schedule"], "min_fraction": 0.01},  # type: ignore[dict-item]  # an object
        "batch_size": 32,
        "split_column": None,
        "early_stopping": {"patience": 20, "min_delta": 0.0},
    }
    assert answer.json()["warnings"] == []
    assert client.post("/jobs?validate_only=true", json=spec).json()["spec"] == spec
    assert submit(client, training=asked)["spec"]["training"] == spec["training"]


def test_misfits_of_a_training_are_named_by_pointer(client: TestClient) -> None:
    training = {"momentum": 0.5, "class_weights": {"rose/red": 2}, "sample_weight_column": "nothing"}
    body = problem(client.post("/jobs", json={"dataset": "iris", "training": training}), 422)
    assert {item["pointer"] for item in body["errors"]} == {
        "#/training/momentum",
        "#/training/class_weights/rose~1red",
        "#/training/sample_weight_column",
    }


@pytest.mark.parametrize(
    ("training", "pointer", "detail"),
    [
        (
            {"schedule": {"kind": "cosine", "factor": 0.5}},
            "#/training/schedule/factor",
            "is not a known field; known are final_fraction, kind, warmup_epochs",
        ),
        (
            {"schedule": {"kind": "plateau", "factor": 2.5}},
            "#/training/schedule/factor",
            "must be above 0 and below 1; got 2.5",
        ),
        ({"schedule": {}}, "#/training/schedule", 'kind must be "constant", "cosine" or "plateau"; got {}'),
        (
            {"class_weights": {"setosa": 0}},
            "#/training/class_weights",
            "the weight of 'setosa' must be a number above 0 and at most 1,000,000; got 0",
        ),
        (
            {"batch_size": "big"},
            "#/training/batch_size",
            "must be a whole number between 1 and 65536, or \"auto\"; got 'big'",
        ),
    ],
)
def test_illegal_training_is_named_by_pointer(
    client: TestClient, training: dict[str, object], pointer: str, detail: str
) -> None:
    [violation] = problem(client.post("/jobs", json={"dataset": "iris", "training": training}), 422)["errors"]
    assert violation == {"pointer": pointer, "detail": detail}


def test_invalid_spec_names_every_violation_by_pointer(client: TestClient) -> None:
    spec = {"dataset": "iris", "network": {"units": 0, "unitz": 3}, "training": {"seed": 1.5}, "owner_id": 1}
    body = problem(client.post("/jobs", json=spec), 422)
    found = {item["pointer"]: item["detail"] for item in body["errors"]}
    assert found.keys() == {"#/network/units", "#/network/unitz", "#/training/seed", "#/owner_id"}
    assert found["#/network/units"] == "must be between 1 and 65536; got 0"
    assert "known are" in found["#/network/unitz"]
    assert "units" in found["#/network/unitz"]


def test_values_are_echoed_short(client: TestClient) -> None:
    body = problem(client.post("/jobs", json={"dataset": "iris", "task": "x" * 5000}), 422)
    assert len(body["detail"]) < 300


def test_many_and_odd_unknown_fields_are_answered_short(client: TestClient) -> None:
    body = {"dataset": "iris", "\u202e\x1b" + "x" * 50_000: 1, **{f"k{i}": 1 for i in range(5000)}}
    answer = client.post("/jobs", json=body)
    assert len(problem(answer, 422)["errors"]) == 100
    assert len(answer.content) < 50_000
    assert answer.text.isprintable()


@pytest.mark.parametrize("features", [[], [1], "a", {"a": 1}, [None]])
def test_features_that_are_no_names_are_one_violation(client: TestClient, features: object) -> None:
    [violation] = problem(client.post("/jobs", json={"dataset": "iris", "features": features}), 422)["errors"]
    assert violation["pointer"] == "#/features"
    assert "must be null or a list of column names" in violation["detail"]


def test_unknown_data_set_is_invalid(client: TestClient) -> None:
    body = problem(client.post("/jobs", json={"dataset": "nothing"}), 422)
    assert body["errors"][0]["pointer"] == "#/dataset"


def test_lists_filter_and_page(client: TestClient) -> None:
    first, second = submit(client, tags=["a.b"]), submit(client, dataset="wine", tags=["a", "c"], model="w")
    assert [job["id"] for job in client.get("/jobs").json()["items"]] == [second["id"], first["id"]]
    for query, expected in (
        ("tag=a", [second]),
        ("tag=a.b", [first]),
        ("dataset=iris", [first]),
        ("model=w", [second]),
        ("state=queued", [second, first]),
        ("state=failed", []),
    ):
        found = client.get(f"/jobs?{query}").json()["items"]
        assert [job["id"] for job in found] == [job["id"] for job in expected], query
    page = client.get("/jobs?page_size=1").json()
    rest = client.get(f"/jobs?page_size=1&page_token={page['next_page_token']}").json()
    assert [page["items"][0]["id"], rest["items"][0]["id"], rest["next_page_token"]] == [
        second["id"],
        first["id"],
        None,
    ]


def test_job_is_cancelled_once_and_deleted(client: TestClient) -> None:
    path = f"/jobs/{submit(client)['id']}"
    problem(client.delete(path), 409)
    first, again = client.post(f"{path}/cancel"), client.post(f"{path}/cancel")
    assert [first.status_code, again.status_code] == [202, 200]
    assert first.json()["state"] == again.json()["state"] == "cancelled"
    assert client.delete(path).status_code == 204
    assert problem(client.get(path), 404)["code"] == "unknown_job"


def test_running_job_shows_progress_metrics_and_takes_a_cancel(client: TestClient, database: Database) -> None:
    job_id = submit(client)["id"]
    with database.write() as connection:
        held = leases.claim(connection, job_id, "w")
        assert held is not None
        for epoch, loss in ((1, 0.5), (2, 0.7)):
            record = EpochRecord(epoch, {"loss": loss, "val_auc": None, "val_auc_not_finite": "nan"}, 0.001, 0.1)
            leases.record(connection, held, Progress(epoch, epoch / 300, 900.0, 3.0), 1, [record])
    job = client.get(f"/jobs/{job_id}").json()
    assert job["progress"] == {
        "epoch": 2,
        "epochs": 300,
        "fraction": 2 / 300,
        "rows_per_second": 900.0,
        "eta_seconds": 3.0,
    }
    assert (job["metrics"]["latest"]["loss"], job["metrics"]["best"]["epoch"]) == (0.7, 1)
    epochs = client.get(f"/jobs/{job_id}/metrics").json()["items"]
    assert [(epoch["epoch"], epoch["loss"], epoch["val_auc"]) for epoch in epochs] == [(1, 0.5, None), (2, 0.7, None)]
    answer = client.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    with database.write() as connection:
        leases.leave(connection, held)
    assert client.get(f"/jobs/{job_id}").json()["state"] == "cancelled"


def test_failed_job_shows_its_reason_and_takes_no_cancel(client: TestClient, database: Database) -> None:
    path = f"/jobs/{failed(client, database)}"
    assert client.get(path).json()["error"] == {"code": "worker_lost", "detail": "why"}
    assert problem(client.post(f"{path}/cancel"), 409)["code"] == "job_is_final"


def test_wait_returns_when_the_job_has_ended_or_the_time_is_over(client: TestClient) -> None:
    path = f"/jobs/{submit(client)['id']}"
    assert client.get(f"{path}?wait=0.3").json()["state"] == "queued"
    client.post(f"{path}/cancel")
    assert client.get(f"{path}?wait=60").json()["state"] == "cancelled"
    problem(client.get(f"{path}?wait=nan"), 422)


def test_unchanged_job_is_not_sent_again(client: TestClient) -> None:
    path = f"/jobs/{submit(client)['id']}"
    tag = client.get(path).headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    client.post(f"{path}/cancel")
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_jobs_are_taken_and_found_again_while_the_broker_is_down(database: Database) -> None:
    services = Services(database, Doorbell("redis://127.0.0.1:1/0"))
    with TestClient(create_app(services)) as client:
        job = submit(client)
        assert client.get(f"/jobs/{job['id']}").json()["state"] == "queued"


def test_split_is_told_when_a_worker_has_drawn_it(client: TestClient, database: Database) -> None:
    job_id = submit(client, training={"test_fraction": 0.5, "seed": 7})["id"]
    assert problem(client.get(f"/jobs/{job_id}/split"), 409)["code"] == "split_not_drawn"
    with database.write() as connection:
        held = leases.claim(connection, job_id, "w1")
        assert held is not None
        leases.record_split(connection, held, zlib.compress(bytes([0, 0, 1, 2, 255])))
    told = client.get(f"/jobs/{job_id}/split").json()
    assert told.pop("sha256")
    assert told == {
        "method": "stratified",
        "column": None,
        "seed": 7,
        "training_rows": 2,
        "validation_rows": 1,
        "test_rows": 1,
        "left_out_rows": 1,
    }
    rows = client.get(f"/jobs/{job_id}/split/rows")
    assert rows.headers["content-type"].startswith("text/csv")
    assert rows.text == "row,part\n0,training\n1,training\n2,validation\n3,test\n4,left_out\n"
    problem(client.get("/jobs/nothing/split"), 404)
    problem(client.get("/jobs/nothing/split/rows"), 404)


def test_split_goes_with_its_job(client: TestClient, database: Database) -> None:
    job_id = submit(client)["id"]
    with database.write() as connection:
        held = leases.claim(connection, job_id, "w1")
        assert held is not None
        leases.record_split(connection, held, zlib.compress(b"only this one"))
        leases.fail(connection, held, "training_failed", "for the test")
        before = connection.execute(select(func.count()).select_from(blobs)).scalar_one()
    assert client.delete(f"/jobs/{job_id}").status_code == 204
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(blobs)).scalar_one() == before - 1


def test_job_warns_of_what_it_leaves_out(client: TestClient) -> None:
    content = b"id,x,note,y\n" + b"".join(b"%d,%d,note number %d here,%d\n" % (i, i % 7, i, i % 5) for i in range(40))
    dataset = client.post("/datasets?name=mine", content=content, headers={"Content-Type": "text/csv"}).json()
    body = {"dataset": dataset["id"], "target": "y"}
    job = submit(client, **body)
    assert job["spec"]["features"] == ["x"]
    assert job["warnings"][0].startswith("left out of the features: 'id' (id), 'note' (text)")
    told = client.post("/jobs?validate_only=true", json=body).json()
    assert told["warnings"] == job["warnings"]


KEY = {"Idempotency-Key": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}


def claimed(database: Database, job_id: str) -> Claim:
    with database.write() as connection:
        held = leases.claim(connection, job_id, "w")
    assert held is not None
    return held


def failed(client: TestClient, database: Database, **spec: Any) -> str:
    """A job that lost its worker three epochs after it began, one after its last checkpoint."""
    job_id: str = submit(client, **spec)["id"]
    held = claimed(database, job_id)
    with database.write() as connection:
        leases.record(connection, held, progress(2), 1, [measured(1), measured(2)], saved_state(2))
        leases.record(connection, held, progress(3), 1, [measured(3)])
        leases.fail(connection, held, "worker_lost", "why")
    return job_id


def brought_to(client: TestClient, database: Database, state: JobState) -> str:
    """A job in some state."""
    path = f"/jobs/{submit(client)['id']}"
    held = None if state is JobState.QUEUED else claimed(database, path.removeprefix("/jobs/"))
    if state in (JobState.CANCELLING, JobState.CANCELLED, JobState.PAUSED):
        assert client.post(f"{path}/{'pause' if state is JobState.PAUSED else 'cancel'}").status_code == 202
    with database.write() as connection:
        match state, held:
            case ((JobState.PAUSED | JobState.CANCELLED), Claim()):
                leases.leave(connection, held)
            case JobState.FAILED, Claim():
                leases.fail(connection, held, "worker_lost", "why")
            case JobState.SUCCEEDED, Claim():
                leases.succeed(connection, held, best_epoch=1, test_metrics=None, version=1)
    assert client.get(path).json()["state"] == state
    return path


def test_queued_job_is_paused_and_resumed(client: TestClient, services: Services) -> None:
    path = f"/jobs/{submit(client)['id']}"
    first, again = client.post(f"{path}/pause"), client.post(f"{path}/pause")
    assert [first.status_code, again.status_code] == [202, 200]
    assert first.json() == again.json() == client.get(path).json()
    job = first.json()
    assert (job["state"], job["pause_requested"], job["queue_position"]) == ("paused", False, None)
    assert [found["id"] for found in client.get("/jobs?state=paused").json()["items"]] == [job["id"]]
    rung = services.doorbell.waiting()
    resumed = client.post(f"{path}/resume")
    assert (resumed.status_code, resumed.json()["state"], resumed.json()["queue_position"]) == (202, "queued", 1)
    assert services.doorbell.waiting() == rung + 1


def test_running_job_is_paused_when_its_worker_has_stored_it(client: TestClient, database: Database) -> None:
    job_id = submit(client)["id"]
    path, held = f"/jobs/{job_id}", claimed(database, job_id)
    for _ in range(2):
        answer = client.post(f"{path}/pause")
        job = answer.json()
        assert (answer.status_code, job["state"], job["pause_requested"]) == (202, "running", True)
    with database.write() as connection:
        leases.record(connection, held, progress(1), 1, [measured(1)], saved_state(1))
        leases.leave(connection, held)
    assert client.post(f"{path}/pause").status_code == 200
    job = client.get(path).json()
    assert (job["state"], job["pause_requested"], job["progress"]["epoch"]) == ("paused", False, 1)
    assert job["finished_at"] is None
    resumed = client.post(f"{path}/resume").json()
    assert (resumed["state"], resumed["progress"]["epoch"], resumed["attempts"]) == ("queued", 1, 1)
    claimed(database, job_id)
    assert client.get(path).json()["attempts"] == 2


def test_pause_is_taken_back_before_the_worker_has_left(
    client: TestClient, services: Services, database: Database
) -> None:
    path = brought_to(client, database, JobState.RUNNING)
    client.post(f"{path}/pause")
    rung = services.doorbell.waiting()
    answer = client.post(f"{path}/resume")
    assert (answer.status_code, answer.json()["state"], answer.json()["pause_requested"]) == (202, "running", False)
    assert services.doorbell.waiting() == rung, "nobody is needed"


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_resume_changes_nothing_where_nothing_is_paused(
    client: TestClient, database: Database, state: JobState
) -> None:
    path = brought_to(client, database, state)
    before = client.get(path).json()
    answer = client.post(f"{path}/resume")
    assert (answer.status_code, answer.json()) == (202, before)


@pytest.mark.parametrize("ask", ["pause", "resume"])
@pytest.mark.parametrize(
    ("state", "code"),
    [
        (JobState.CANCELLING, "job_is_cancelling"),
        (JobState.CANCELLED, "job_is_final"),
        (JobState.FAILED, "job_is_final"),
        (JobState.SUCCEEDED, "job_is_final"),
    ],
)
def test_job_that_ends_or_has_ended_is_neither_paused_nor_resumed(
    client: TestClient, database: Database, ask: str, state: JobState, code: str
) -> None:
    path = brought_to(client, database, state)
    before = client.get(path).json()
    body = problem(client.post(f"{path}/{ask}"), 409)
    assert body["code"] == code
    assert f"{ask}d" in body["detail"]
    assert client.get(path).json() == before


@pytest.mark.parametrize("ask", ["pause", "resume", "retry", "cancel"])
def test_unknown_job_is_told(client: TestClient, ask: str) -> None:
    assert problem(client.post(f"/jobs/nothing/{ask}"), 404)["code"] == "unknown_job"


def test_paused_job_is_cancelled_at_once(client: TestClient, database: Database) -> None:
    path = brought_to(client, database, JobState.PAUSED)
    answer = client.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")


def test_paused_job_is_not_deleted_and_its_data_set_neither(client: TestClient) -> None:
    content = b"x,y\n" + b"".join(b"%d,%d\n" % (i, i % 5) for i in range(40))
    dataset = client.post("/datasets?name=mine", content=content, headers={"Content-Type": "text/csv"}).json()["id"]
    path = f"/jobs/{submit(client, dataset=dataset, target='y')['id']}"
    client.post(f"{path}/pause")
    assert problem(client.delete(path), 409)["code"] == "job_is_not_final"
    assert problem(client.delete(f"/datasets/{dataset}"), 409)["code"] == "dataset_in_use"


def test_wait_goes_on_while_a_job_is_paused(client: TestClient, database: Database) -> None:
    path = brought_to(client, database, JobState.PAUSED)
    assert client.get(f"{path}?wait=0.5").json()["state"] == "paused"


def test_failed_job_is_tried_again_as_a_new_one_from_its_last_checkpoint(
    client: TestClient, services: Services, database: Database
) -> None:
    job_id = failed(client, database, tags=["night"], model="flowers", training={"epochs": 10})
    before, rung = client.get(f"/jobs/{job_id}").json(), services.doorbell.waiting()
    answer = client.post(f"/jobs/{job_id}/retry")
    new = answer.json()
    assert answer.status_code == 202
    assert new["id"] != job_id
    assert answer.headers["location"] == f"/jobs/{new['id']}"
    assert answer.headers["retry-after"] == "1"
    assert new == client.get(answer.headers["location"]).json()
    assert (new["state"], new["retry_of"], new["attempts"], new["error"]) == ("queued", job_id, 0, None)
    assert (new["spec"], new["tags"], new["warnings"]) == (before["spec"], before["tags"], before["warnings"])
    assert (new["progress"]["epoch"], new["metrics"]["latest"]["epoch"], new["metrics"]["best"]["epoch"]) == (2, 2, 1)
    assert new["progress"]["fraction"] == 0.2, "as far as its checkpoint"
    epochs = client.get(f"{answer.headers['location']}/metrics").json()["items"]
    assert epochs == client.get(f"/jobs/{job_id}/metrics").json()["items"][:2]
    told = client.get(f"{answer.headers['location']}/events").json()["items"]
    assert [item["event"] for item in told] == [EventKind.SUBMITTED, EventKind.EPOCH, EventKind.EPOCH]
    assert services.doorbell.waiting() == rung + 1
    assert client.get(f"/jobs/{job_id}").json() == before, "the failed one stays as it was"
    assert (before["state"], before["retry_of"], before["pause_requested"]) == ("failed", None, False)


def test_retry_without_a_checkpoint_begins_at_the_beginning(client: TestClient, database: Database) -> None:
    path = brought_to(client, database, JobState.FAILED)
    new = client.post(f"{path}/retry").json()
    assert (new["retry_of"], new["progress"]["epoch"], new["progress"]["fraction"]) == (path[6:], 0, 0.0)


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.FAILED])
def test_only_a_failed_job_is_tried_again(client: TestClient, database: Database, state: JobState) -> None:
    path = brought_to(client, database, state)
    body = problem(client.post(f"{path}/retry", headers=KEY), 409)
    assert body["code"] == "job_did_not_fail"
    assert f"is {state}" in body["detail"]
    assert len(client.get("/jobs").json()["items"]) == 1


def test_retry_under_a_key_makes_one_job(client: TestClient, services: Services, database: Database) -> None:
    job_id = failed(client, database)
    rung = services.doorbell.waiting()
    first, again = (client.post(f"/jobs/{job_id}/retry", headers=KEY) for _ in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert len(client.get("/jobs").json()["items"]) == 2
    assert services.doorbell.waiting() == rung + 1
    other = failed(client, database)
    refused = problem(client.post(f"/jobs/{other}/retry", headers=KEY), 422)
    assert refused["code"] == "idempotency_key_reused"
    client.delete(f"/jobs/{job_id}")
    assert client.post(f"/jobs/{job_id}/retry", headers=KEY).content == first.content, "it was answered before"
    assert client.post(f"/jobs/{other}/retry").json()["retry_of"] == other


def test_refused_retry_leaves_its_key_free(client: TestClient, database: Database) -> None:
    path = brought_to(client, database, JobState.RUNNING)
    problem(client.post(f"{path}/retry", headers=KEY), 409)
    with database.write() as connection:
        leases.fail(connection, Claim(path.removeprefix("/jobs/"), 1, "w"), "worker_lost", "why")
    answer = client.post(f"{path}/retry", headers=KEY)
    assert (answer.status_code, answer.headers.get("idempotent-replayed")) == (202, None)


def test_retry_of_a_job_whose_data_set_is_gone_is_refused(client: TestClient, database: Database) -> None:
    content = b"x,y\n" + b"".join(b"%d,%d\n" % (i, i % 5) for i in range(40))
    dataset = client.post("/datasets?name=mine", content=content, headers={"Content-Type": "text/csv"}).json()["id"]
    job_id = failed(client, database, dataset=dataset, target="y")
    with database.write() as connection:
        datasets.remove(connection, dataset)
    assert problem(client.post(f"/jobs/{job_id}/retry"), 409)["code"] == "dataset_is_gone"
    assert client.get(f"/jobs/{job_id}").json()["state"] == "failed"


def test_retry_is_taken_while_the_broker_is_down(database: Database) -> None:
    services = Services(database, Doorbell("redis://127.0.0.1:1/0"))
    with TestClient(create_app(services)) as client:
        job_id = failed(client, database)
        assert client.post(f"/jobs/{job_id}/retry").status_code == 202
        path = brought_to(client, database, JobState.PAUSED)
        assert client.post(f"{path}/resume").status_code == 202
