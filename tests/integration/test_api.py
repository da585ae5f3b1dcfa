"""The REST contract, over HTTP, on both databases and a real broker; no worker runs here."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import update

from service.api.app import create_app
from service.api.dependencies import Services
from service.domain.jobs import EpochRecord
from service.domain.models import Inputs, NewVersion, Outputs
from service.storage import leases, models
from service.storage.database import Database
from service.storage.tables import blob_parts
from service.task_queue import Doorbell, create_celery

JSON = {"Content-Type": "application/json"}
CSV = b"a,b,y\n" + b"".join(b"%d,%d.5,%d\n" % (i, i % 7, i * 3) for i in range(40))


@pytest.fixture
def services(database: Database, broker_url: str, tmp_path: Path) -> Services:
    return Services(
        database, Doorbell(lambda: create_celery(broker_url)), max_json_bytes=200_000, max_upload_bytes=1_000_000
    )


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), raise_server_exceptions=False) as opened:
        yield opened


def problem(answer: Any, status: int) -> dict[str, Any]:
    """Check that an answer is an error as the contract describes it, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() >= {"type", "title", "status", "detail", "code", "request_id"}
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def submit(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/jobs", json={"dataset": "iris", **fields})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def register_model(database: Database, name: str = "m", job_id: str = "j1", weight: float = 1.0) -> None:
    """Register a graph made by hand: the sum of two columns, as a regression."""
    from onnx import TensorProto, helper  # only this test writes a graph

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "ones"], ["y"])],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", 2])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["rows", 1])],
        [helper.make_tensor("ones", TensorProto.DOUBLE, [2, 1], [weight, weight])],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    new = NewVersion(
        name=name,
        job_id=job_id,
        spec={"dataset": "iris"},
        data_sha256=None,
        inputs=Inputs(("a", "b"), ("numeric", "numeric"), (0.0, 0.0), (1.0, 1.0)),
        outputs=Outputs("regression", "y"),
        metrics={"best": {"epoch": 1, "loss": 0.5}, "test": {"r2": 0.9}},
        parity={"max_difference": 1e-7},
        parameters=3,
        environment={"keras": "3"},
        weights=b"weights",
        onnx=content,
    )
    with database.write() as connection:
        models.register(connection, new)


def test_submitted_job_is_stored_complete_and_rings_the_doorbell(client: TestClient, broker_url: str) -> None:
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


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 422),
        (b"[]", 422),
        (b"1", 422),
        (b'{"dataset": NaN}', 400),
        (b'{"dataset": "iris", "training": {"learning_rate": 1e400}}', 400),
        (b'{"dataset": "\\ud800"}', 400),
        (b'{"dataset": "a\\u0000b"}', 400),
        (b'{"dataset": "iris", "dataset": "wine"}', 400),
        (b"[" * 100_000, 400),
        ('{"dataset": "iris"}'.encode("utf-16"), 400),
        (b'{"dataset": "iris", "features": null}', 202),
        (b'{"dataset": "iris\\r\\n\\u001b\\u202e<img src=x onerror=1>"}', 422),
        (b'{"dataset": "' + b"x" * 250_000 + b'"}', 413),
    ],
)
def test_hostile_bodies_get_an_answer(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/jobs", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    if status >= 400:
        problem(answer, status)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "???"])
def test_other_content_types_are_refused_with_what_to_send(client: TestClient, kind: str) -> None:
    body = problem(client.post("/jobs", content=b"{}", headers={"Content-Type": kind}), 415)
    assert "Content-Type: application/json" in body["detail"]


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


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("page_size=-1", 200),
        ("page_size=100000", 200),
        ("page_size=1e9", 200),
        ("page_size=NaN", 422),
        ("page_token=x", 400),
        ("page_token=%00", 400),
        ("tag=%00", 400),
        ('tag=a", "c', 422),
        ("state=lost", 422),
    ],
)
def test_hostile_queries_get_an_answer(client: TestClient, query: str, status: int) -> None:
    answer = client.get(f"/jobs?{query}")
    assert answer.status_code == status
    if status >= 400:
        problem(answer, status)


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
            leases.record_epoch(
                connection,
                held,
                EpochRecord(epoch, {"loss": loss, "val_auc": None, "val_auc_not_finite": "nan"}, 0.001, 0.1),
                best_epoch=1,
                rows_per_second=900.0,
                eta_seconds=3.0,
            )
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
        leases.fail(connection, held, "training_diverged", "why")
    assert client.get(f"/jobs/{job_id}").json()["error"] == {"code": "training_diverged", "detail": "why"}
    problem(client.post(f"/jobs/{job_id}/cancel"), 409)


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


@pytest.mark.parametrize("form", ["body", "multipart"])
def test_uploaded_table_is_described_and_trained_on(client: TestClient, form: str) -> None:
    if form == "body":
        answer = client.post("/datasets?name=mine", content=CSV, headers={"Content-Type": "text/csv; charset=utf-8"})
    else:
        answer = client.post("/datasets", files={"file": ("mine.csv", CSV, "text/csv")})
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert answer.headers["location"] == f"/datasets/{dataset['id']}"
    assert (dataset["name"], dataset["rows"], dataset["builtin"]) == ("mine", 40, False)
    assert [column["name"] for column in dataset["columns"]] == ["a", "b", "y"]
    assert dataset["columns"][1]["mean"] == pytest.approx(sum(i % 7 + 0.5 for i in range(40)) / 40)
    assert client.get(f"/datasets/{dataset['id']}").json() == dataset
    job = submit(client, dataset=dataset["id"], target="y")
    assert (job["spec"]["task"], job["spec"]["features"], job["spec"]["model"]) == ("regression", ["a", "b"], "mine")
    assert problem(client.delete(f"/datasets/{dataset['id']}"), 409)["code"] == "dataset_in_use"
    client.post(f"/jobs/{job['id']}/cancel")
    assert client.delete(f"/datasets/{dataset['id']}").status_code == 204
    problem(client.get(f"/datasets/{dataset['id']}"), 404)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {"Content-Type": "text/csv"}, 422),
        (b"a,b\n1,2\n3\n", {"Content-Type": "text/csv"}, 422),
        (b"x", {"Content-Type": "application/zip"}, 415),
        (b"x", {}, 415),
        (b"x", {"Content-Type": "multipart/form-data"}, 400),
        (b"x", {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}, 400),
        (b'"' + b"x" * 200_000 + b'",b\n1,2\n', {"Content-Type": "text/csv"}, 422),
        (b"a\n" + b"1\n" * 600_000, {"Content-Type": "text/csv"}, 413),
    ],
)
def test_bad_uploads_are_refused(client: TestClient, content: bytes, headers: dict[str, str], status: int) -> None:
    problem(client.post("/datasets", content=content, headers=headers), status)
    problem(client.post("/datasets?name=%0a", content=CSV, headers={"Content-Type": "text/csv"}), 422)
    problem(client.post("/datasets", files={"other": ("t.csv", CSV)}), 400)


def test_builtin_data_sets_are_listed_with_rows(client: TestClient) -> None:
    listed = {dataset["id"]: dataset for dataset in client.get("/datasets").json()["items"]}
    assert listed.keys() == {
        "iris",
        "wine",
        "breast_cancer",
        "digits",
        "diabetes",
        "boston_housing",
        "fashion_mnist",
        "cifar10",
    }
    assert all(dataset["builtin"] for dataset in listed.values())
    page = client.get("/datasets/iris/rows?page_size=100").json()
    assert page["items"][0]["target"] == "setosa"
    rest = client.get(f"/datasets/iris/rows?page_size=100&page_token={page['next_page_token']}").json()
    assert (len(page["items"]), len(rest["items"]), rest["next_page_token"]) == (100, 50, None)
    assert problem(client.get("/datasets/cifar10/rows"), 409)["code"] == "dataset_not_here"


def test_damaged_folder_of_local_data_sets_is_said(services: Services, tmp_path: Path) -> None:
    (tmp_path / "fashion_mnist").mkdir()
    (tmp_path / "fashion_mnist/train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08")
    with TestClient(create_app(replace(services, datasets_dir=tmp_path)), raise_server_exceptions=False) as client:
        problem(client.get("/datasets/fashion_mnist/rows"), 503)


def test_prediction_by_order_and_by_name(client: TestClient, database: Database) -> None:
    register_model(database)
    answer = client.post("/predict", json={"model": "m", "instances": [[1, 2.5], {"b": -1, "a": 4}]})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"model": "m", "version": 1, "predictions": [3.5, 3.0]}
    assert client.post("/predict", json={"model": "m", "version": 1, "instances": [[1, 2]]}).json()["predictions"] == [
        3.0
    ]


def test_prediction_errors_say_what_is_wrong(client: TestClient, database: Database) -> None:
    register_model(database)

    def ask(**fields: Any) -> Any:
        return client.post("/predict", json={"model": "m", "instances": [[1, 2]], **fields})

    assert problem(ask(model="nothing"), 404)["code"] == "unknown_model"
    assert problem(ask(version=7), 404)["code"] == "unknown_version"
    assert problem(ask(alias="production"), 404)["code"] == "unknown_alias"
    problem(ask(version=0), 422)
    assert "row 0, column 'b'" in problem(ask(instances=[[1, None]]), 422)["errors"][0]["detail"]
    problem(ask(instances=[]), 422)
    problem(ask(instances=[[1, 1e39]]), 422)
    problem(ask(instances={"a": 1}), 422)
    job = submit(client, model="waiting")
    body = problem(ask(model="waiting"), 409)
    assert (body["code"], job["id"] in body["detail"]) == ("model_not_ready", True)


def test_prediction_that_is_no_number_is_refused(client: TestClient, database: Database) -> None:
    register_model(database)
    rows = [[1, 2], [3e38, 3e38]]
    assert client.post("/predict", json={"model": "m", "instances": rows}).status_code == 200
    register_model(database, "overflowing", "j2", weight=1e300)
    body = problem(client.post("/predict", json={"model": "overflowing", "instances": rows}), 422)
    assert [item["pointer"] for item in body["errors"]] == ["#/instances/1"]


def test_damaged_model_is_an_alarm_and_never_an_answer(client: TestClient, database: Database) -> None:
    register_model(database)
    with database.write() as connection:
        connection.execute(update(blob_parts).values(data=b"damaged"))
    answer = client.post("/predict", json={"model": "m", "instances": [[1, 2]]})
    assert problem(answer, 503)["code"] == "corrupt_blob"
    assert answer.headers["retry-after"]


def test_models_are_listed_and_described(client: TestClient, database: Database) -> None:
    register_model(database)
    register_model(database, job_id="j2")
    [model] = client.get("/models").json()["items"]
    assert (model["name"], model["newest_version"], [version["version"] for version in model["versions"]]) == (
        "m",
        2,
        [2, 1],
    )
    assert client.get("/models/m").json() == model
    version = client.get("/models/m/versions/1").json()
    assert version["metrics"]["test"] == {"r2": 0.9}
    assert [column["name"] for column in version["inputs"]] == ["a", "b"]
    assert version["output"] == {"task": "regression", "target": "y", "classes": None}
    problem(client.get("/models/x"), 404)
    problem(client.get("/models/m/versions/9"), 404)
    for version in ("x", "0", "9223372036854775808"):
        problem(client.get(f"/models/m/versions/{version}"), 422)


@pytest.mark.parametrize("path", ["/nothing", "/jobs/..%2f", "/jobs/" + "x" * 2000, "/models/%F0%9F%92%A9"])
def test_unknown_paths_are_problems(client: TestClient, path: str) -> None:
    problem(client.get(path), 404)


def test_body_of_unsaid_length_is_counted(client: TestClient) -> None:
    pieces = (b" " * 50_000 for _ in range(6))
    body = problem(client.post("/jobs", content=pieces, headers=JSON), 413)
    assert "200,000 bytes" in body["detail"]


def test_nul_in_a_path_is_refused(client: TestClient) -> None:
    problem(client.get("/jobs/%00"), 400)


def test_wrong_method_is_a_problem(client: TestClient) -> None:
    problem(client.put("/jobs"), 405)


def test_operations(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert client.get("/version").json()["name"] == "selfnorm"


def test_schema_and_reference_need_no_other_host(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {
        "/jobs",
        "/jobs/{job_id}",
        "/jobs/{job_id}/metrics",
        "/jobs/{job_id}/cancel",
        "/datasets",
        "/models",
        "/predict",
    } <= schema["paths"].keys()
    units = schema["components"]["schemas"]["SnnSpec"]["properties"]["units"]
    assert units["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 65536}
    answers = schema["paths"]["/jobs"]["post"]["responses"]
    assert answers.keys() == {"200", "202", "default"}
    reference = {"$ref": "#/components/schemas/ProblemView"}
    assert answers["default"]["content"] == {"application/problem+json": {"schema": reference}}
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page


def test_jobs_are_taken_and_found_again_while_the_broker_is_down(database: Database) -> None:
    services = Services(database, Doorbell(lambda: create_celery("redis://127.0.0.1:1/0")))
    with TestClient(create_app(services)) as client:
        job = submit(client)
        assert client.get(f"/jobs/{job['id']}").json()["state"] == "queued"


def test_bug_is_named_by_its_request(services: Services) -> None:
    app = create_app(services)

    @app.get("/bug")
    def bug() -> None:
        raise ZeroDivisionError

    with TestClient(app, raise_server_exceptions=False) as client:
        assert problem(client.get("/bug"), 500)["code"] == "internal_error"


def test_database_down_is_503_with_retry_after(broker_url: str) -> None:
    down = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with TestClient(
        create_app(Services(down, Doorbell(lambda: create_celery(broker_url)))), raise_server_exceptions=False
    ) as client:
        for answer in (client.get("/jobs"), client.post("/jobs", json={"dataset": "iris"})):
            assert problem(answer, 503)["code"] == "database_down"
            assert answer.headers["retry-after"]
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
