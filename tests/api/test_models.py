from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import update

from service.storage.database import Database
from service.storage.tables import blob_parts
from tests.api.support import problem, register_model, submit


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
