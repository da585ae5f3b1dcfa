import json
import zlib

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import func, select

from service.api.app import create_app
from service.api.services import Services
from service.domain.jobs import EpochRecord, Progress
from service.storage import leases
from service.storage.database import Database
from service.storage.tables import blobs
from service.task_queue import Doorbell
from tests.api.support import failed, problem, submit


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
    body = {"dataset": "iris", "\u202e\x1b" + "x" * 50_000: 1, **{f"k{i}": 1 for i in range(900)}}
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
