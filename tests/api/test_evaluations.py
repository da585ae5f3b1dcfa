"""A version held against a data set that says what was true, as HTTP shows it."""

import hashlib
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import update

from service.api.services import Services
from service.domain.models import Outputs
from service.domain.predictions import Evaluation, PredictionResult
from service.storage import predictions
from service.storage.database import Database
from service.storage.tables import jobs, model_versions
from tests.api.support import problem
from tests.predictions import ask_for_prediction, claim, finish, register, store_table

OUTPUTS = Outputs("classification", "y", ("no", "yes"))
PATH = "/models/m/versions/1/evaluate"


@pytest.fixture(autouse=True)
def model_and_rows(database: Database) -> None:
    register(database, outputs=OUTPUTS)
    columns = {"a": [1.0, 2.0], "b": [1.0, 2.0], "y": ["no", "yes"], "other": ["yes", "no"], "day": [1.0, 2.0]}
    store_table(database, columns)


def evaluate(client: TestClient, path: str = PATH, **fields: Any) -> dict[str, Any]:
    answer = client.post(path, json={"dataset": "rows", **fields})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def refused(client: TestClient, path: str = PATH, **fields: Any) -> dict[str, str]:
    """What is wrong with a request, by pointer."""
    body = problem(client.post(path, json={"dataset": "rows", **fields}), 422)
    return {found["pointer"]: found["detail"] for found in body["errors"]}


def test_evaluation_is_a_prediction_with_the_models_own_target(
    client: TestClient, services: Services, database: Database, broker_url: str
) -> None:
    register(database, outputs=OUTPUTS)
    with Redis.from_url(broker_url) as broker:
        broker.flushall()
        answer = client.post(PATH, json={"dataset": "rows", "keep": ["b"], "tags": ["x"]})
        assert services.doorbell.waiting() == 1
    found = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/predictions/{found['id']}"
    assert (found["kind"], found["state"], found["tags"]) == ("prediction", "queued", ["x"])
    assert found["spec"] == {
        "model": "m",
        "version": 1,
        "alias": None,
        "dataset": "rows",
        "probabilities": True,
        "keep": ["b", "y"],
        "tags": ["x"],
        "target": "y",
    }
    assert client.get(answer.headers["location"]).json() == found
    assert client.post("/predictions", json=found["spec"]).json()["spec"] == found["spec"]


def test_target_may_be_another_column_that_is_kept_anyway(client: TestClient) -> None:
    spec = evaluate(client, target="other", keep=["other", "a"])["spec"]
    assert (spec["target"], spec["keep"]) == ("other", ["other", "a"])
    assert ask_for_prediction(client, target="other")["spec"]["keep"] == ["other"]


def test_what_was_measured_is_shown(client: TestClient, database: Database) -> None:
    found = evaluate(client)
    bins = [{"bin": 0, "above": 0.0, "to": 1.0, "rows": 2, "confidence": 0.75, "accuracy": 0.5}]
    fit = {
        "part": "dataset",
        "rows": 2,
        "expected_calibration_error": 0.25,
        "brier": 0.4,
        "log_loss": 0.7,
        "bins": bins,
    }
    measured = {"loss": 0.7, "accuracy": 0.5, "auc": None, "auc_not_finite": "nan"}
    held = claim(database, found["id"])
    with database.write() as connection:
        sha256 = hashlib.sha256(b"rows").hexdigest()
        result = PredictionResult(2, 0, ["y", "prediction"], 4, sha256, [], Evaluation("y", 2, measured, fit))
        predictions.succeed(connection, held, io.BytesIO(b"rows"), result)
    shown = client.get(f"/predictions/{found['id']}").json()["result"]
    assert shown["evaluation"] == {"target": "y", "rows": 2, "metrics": measured, "calibration": fit}


def test_result_from_before_there_were_evaluations_has_none(client: TestClient, database: Database) -> None:
    found = ask_for_prediction(client, keep=["a"])
    finish(database, found["id"])
    with database.write() as connection:
        made = dict(connection.execute(jobs.select().where(jobs.c.id == found["id"])).mappings().one()["result"])
        del made["evaluation"]
        connection.execute(update(jobs).where(jobs.c.id == found["id"]).values(result=made))
    assert client.get(f"/predictions/{found['id']}").json()["result"]["evaluation"] is None


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/models/nobody/versions/1/evaluate", "unknown_model"),
        ("/models/no%20body/versions/1/evaluate", "unknown_model"),
        ("/models/m/versions/9/evaluate", "unknown_version"),
    ],
)
def test_what_is_not_there_is_named(client: TestClient, path: str, code: str) -> None:
    assert problem(client.post(path, json={"dataset": "rows"}), 404)["code"] == code


@pytest.mark.parametrize(
    "body", [{}, {"dataset": 1}, {"dataset": "rows", "version": 1}, {"dataset": "rows", "target": ""}, []]
)
def test_body_is_strict(client: TestClient, body: Any) -> None:
    assert problem(client.post(PATH, json=body), 422)["errors"]


def test_everything_that_is_wrong_is_named_at_once(client: TestClient) -> None:
    assert refused(client, target="x", keep=["q"]) == {
        "#/target": "'x' is no column of rows; its columns are 'a', 'b', 'y', 'other', 'day'",
        "#/keep/0": "'q' is no column of rows; its columns are 'a', 'b', 'y', 'other', 'day'",
    }
    assert refused(client, target="day") == {"#/target": "column 'day' holds numbers; the model answers with text"}
    assert "no data set" in refused(client, dataset="none")["#/dataset"]
    answer = client.post("/predictions", json={"model": "m", "dataset": "rows", "target": "y", "probabilities": False})
    assert [found["pointer"] for found in problem(answer, 422)["errors"]] == ["#/probabilities"]


def test_target_without_any_cell_is_refused(client: TestClient, database: Database) -> None:
    store_table(database, {"a": [1.0], "b": [1.0], "y": [None]}, "empty")
    assert refused(client, dataset="empty") == {"#/target": "column 'y' has no cells at all; there is no truth in it"}


def test_regression_takes_a_truth_that_is_a_number(client: TestClient, database: Database) -> None:
    register(database, "price")
    path = "/models/price/versions/1/evaluate"
    assert refused(client, path) == {"#/target": "column 'y' holds text; the model answers with numbers"}
    assert evaluate(client, path, target="day")["spec"]["target"] == "day"


def test_more_answers_than_can_be_measured_are_refused(client: TestClient, database: Database) -> None:
    """A gigabyte of them: 447 rows of 100,000 classes, and no row more."""
    classes = [str(number) for number in range(100_000)]
    with database.write() as connection:
        outputs = {"task": "classification", "target": "y", "classes": classes}
        connection.execute(model_versions.update().values(outputs=outputs))
    for rows, name in ((447, "most"), (448, "more")):
        store_table(database, {"a": [1.0] * rows, "b": [1.0] * rows, "y": ["1"] * rows}, name)
    assert evaluate(client, dataset="most")["state"] == "queued"
    assert refused(client, dataset="more") == {
        "#/dataset": "more has 448 rows; at most 447 of 100,000 classes can be held against the truth at once. "
        "Upload the table in parts, or predict without a target"
    }


def test_evaluation_is_made_once_under_a_key(client: TestClient) -> None:
    key = {"Idempotency-Key": "one"}
    first, second = (client.post(PATH, json={"dataset": "rows"}, headers=key) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    other = client.post(PATH, json={"dataset": "rows", "tags": ["x"]}, headers=key)
    assert problem(other, 422)["code"] == "idempotency_key_reused"
    assert len(client.get("/predictions").json()["items"]) == 1
