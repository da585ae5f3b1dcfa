"""Aliases, deletion, cards and files of models, as HTTP shows them."""

import hashlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from service.domain.encoders import CategoricalEncoder, DateEncoder, NumericEncoder
from service.domain.models import Inputs, NewVersion, Outputs
from service.storage import models
from service.storage.database import Database
from service.storage.tables import blob_parts, model_versions
from service.storage.tables import jobs as job_table
from service.use_cases.model_files import RECIPE
from tests.api.support import problem, register_model, submit
from tests.factories import stored_job

CLASSES: dict[str, Any] = {
    "part": "test",
    "rows": 10,
    "expected_calibration_error": 0.05,
    "brier": 0.2,
    "log_loss": None,
    "bins": [
        {"bin": 0, "above": 0.0, "to": 0.5, "rows": 0, "confidence": None, "accuracy": None},
        {"bin": 1, "above": 0.5, "to": 1.0, "rows": 10, "confidence": 0.9, "accuracy": 0.85},
    ],
}
MIXED = NewVersion(
    name="shop",
    job_id="j-mixed",
    spec={"dataset": "iris", "training": {"seed": 7}},
    data_sha256="ab" * 32,
    inputs=Inputs(
        (
            NumericEncoder("size | m²", gaps=True, fill=1234.5678, missing_tokens=("-999",)),
            CategoricalEncoder("city's", ("Basel", "Bern"), other=True, rare=("Uster",)),
            DateEncoder("since", "%d.%m.%Y"),
        ),
        (0.5,) * 12,
        (2.0,) * 11 + (1e300,),
    ),
    outputs=Outputs("classification", "kind", ("no", "yes")),
    metrics={"best": {"epoch": 3, "loss": 0.5, "val_loss": 0.6}, "test": {"accuracy": 0.9}},
    parity={"max_difference": 1e-7, "keras_file_max_difference": 2e-7},
    parameters=10,
    environment={"keras": "3.15.1", "processor": "a *fast* one"},
    warnings=("trained in <b>two</b> places",),
    calibration=CLASSES,
    weights=b"weights",
    onnx=b"onnx" * 500_000,
    keras=b"keras",
)


def register(database: Database, new: NewVersion = MIXED) -> None:
    with database.write() as connection:
        models.register(connection, new)


@pytest.fixture
def two(client: TestClient, database: Database) -> TestClient:
    """A model with two versions, of which the second gives twice the sum."""
    register_model(database)
    register_model(database, job_id="j2", weight=2.0)
    return client


def put(client: TestClient, version: int, alias: str = "production") -> dict[str, Any]:
    answer = client.put(f"/models/m/aliases/{alias}", json={"version": version})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_alias_is_set_shown_and_removed(two: TestClient) -> None:
    first = put(two, 1)
    assert (first["model"], first["alias"], first["version"]) == ("m", "production", 1)
    assert put(two, 1) == first, "the same version again is no change"
    changed = put(two, 2)
    assert [(change["kind"], change["previous_version"], change["version"]) for change in changed["history"]] == [
        ("set", 1, 2),
        ("set", None, 1),
    ]
    assert two.get("/models/m/aliases/production").json() == changed
    put(two, 1, "a.b")
    listed = two.get("/models/m/aliases").json()["items"]
    assert [(item["alias"], item["version"]) for item in listed] == [("a.b", 1), ("production", 2)]
    [model] = two.get("/models").json()["items"]
    assert (model["aliases"], model["default_version"]) == ({"a.b": 1, "production": 2}, 2)
    assert two.get("/models/m").json() == model
    assert two.delete("/models/m/aliases/production").status_code == 204
    assert problem(two.get("/models/m/aliases/production"), 404)["code"] == "unknown_alias"
    assert problem(two.delete("/models/m/aliases/production"), 404)["code"] == "unknown_alias"


def test_alias_errors_say_what_is_wrong(two: TestClient) -> None:
    assert problem(two.put("/models/m/aliases/a", json={"version": 9}), 404)["code"] == "unknown_version"
    assert problem(two.put("/models/x/aliases/a", json={"version": 1}), 404)["code"] == "unknown_model"
    for body in ({}, {"version": "1"}, {"version": 1.0}, {"version": True}, {"version": 0}, {"version": 1, "x": 1}):
        problem(two.put("/models/m/aliases/a", json=body), 422)
    for alias in ("-a", "a b", "x" * 101, "1", "007"):
        problem(two.put(f"/models/m/aliases/{alias}", json={"version": 1}), 422)
    assert "a number names a version" in problem(two.put("/models/m/aliases/12", json={"version": 1}), 422)["detail"]
    problem(two.put("/models/m/aliases/a", content=b'{"version": 1}', headers={"Content-Type": "text/plain"}), 415)
    for path in ("/models/x/aliases", "/models/x/aliases/a", "/models/m/aliases/a"):
        problem(two.get(path), 404)
    problem(two.post("/models/x/aliases/a/rollback"), 404)
    assert "its aliases are b" in [put(two, 1, "b"), problem(two.get("/models/m/aliases/a"), 404)["detail"]][1]


def test_rollback_goes_back_and_ends(two: TestClient) -> None:
    put(two, 1)
    put(two, 2)
    answer = two.post("/models/m/aliases/production/rollback")
    assert (answer.status_code, answer.json()["version"]) == (200, 1)
    assert answer.json()["history"][0]["kind"] == "rolled_back"
    assert two.get("/models/m/aliases/production").json() == answer.json()
    body = problem(two.post("/models/m/aliases/production/rollback"), 409)
    assert (body["code"], "version 1" in body["detail"]) == ("nothing_to_go_back_to", True)


def test_rollback_under_a_key_happens_once(two: TestClient) -> None:
    for version in (1, 2, 1):
        put(two, version)
    headers = {"Idempotency-Key": "back"}
    first = two.post("/models/m/aliases/production/rollback", headers=headers)
    again = two.post("/models/m/aliases/production/rollback", headers=headers)
    assert first.json()["version"] == 2
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    assert two.get("/models/m/aliases/production").json()["version"] == 2
    other = two.post("/models/m/aliases/canary/rollback", headers=headers)
    assert problem(other, 422)["code"] == "idempotency_key_reused"


def test_version_is_deleted_unless_somebody_needs_it(two: TestClient, database: Database) -> None:
    put(two, 1)
    body = problem(two.delete("/models/m/versions/1"), 409)
    assert (body["code"], "production" in body["detail"]) == ("version_has_aliases", True)
    stored_job(database, "p1")
    values = {"kind": "prediction", "model_name": "m", "model_version": 2}
    with database.write() as connection:
        connection.execute(update(job_table).where(job_table.c.id == "p1").values(**values))
    assert problem(two.delete("/models/m/versions/2"), 409)["code"] == "version_in_use"
    with database.write() as connection:
        connection.execute(update(job_table).where(job_table.c.id == "p1").values(state="failed"))
    assert two.delete("/models/m/versions/2").status_code == 204
    assert problem(two.get("/models/m/versions/2"), 404)["code"] == "unknown_version"
    assert problem(two.delete("/models/m/versions/2"), 404)["code"] == "unknown_version"
    assert [version["version"] for version in two.get("/models/m").json()["versions"]] == [1]


def test_model_without_versions_is_listed_and_answers_nothing(two: TestClient) -> None:
    for version in (1, 2):
        assert two.delete(f"/models/m/versions/{version}").status_code == 204
    [model] = two.get("/models").json()["items"]
    assert (model["versions"], model["newest_version"], model["default_version"]) == ([], None, None)
    ask = {"model": "m", "instances": [[1, 2]]}
    body = problem(two.post("/predict", json=ask), 404)
    assert (body["code"], "has been deleted" in body["detail"]) == ("no_version_left", True)
    assert problem(two.post("/predict", json={**ask, "version": 1}), 404)["code"] == "unknown_version"
    submit(two, model="m")
    assert problem(two.post("/predict", json=ask), 409)["code"] == "model_not_ready"


def test_version_shows_all_that_is_known_of_it(client: TestClient, database: Database) -> None:
    register(database)
    client.put("/models/shop/aliases/production", json={"version": 1})
    version = client.get("/models/shop/versions/1").json()
    assert version["aliases"] == ["production"]
    assert version["seeds"] == {"training": 7, "split": 7}
    assert version["calibration"] == CLASSES
    assert version["verdict"] is None
    assert version["environment"] == MIXED.environment
    data = version["data"]
    assert (data["dataset"], data["sha256"], data["rows"], data["training_rows"]) == ("iris", "ab" * 32, 150, None)
    files = {file["name"]: (file["size_bytes"], file["sha256"]) for file in version["files"]}
    assert files.keys() == {"model.keras", "model.onnx", "encoder.json"}
    assert files["model.onnx"] == (2_000_000, hashlib.sha256(MIXED.onnx).hexdigest())


def test_regression_shows_how_far_it_is_off(client: TestClient, database: Database) -> None:
    measured = {
        "part": "validation",
        "rows": 4,
        "mean_residual": 0.5,
        "residual_std": 2.0,
        "within_one_std": 0.75,
        "within_two_std": 1.0,
        "absolute_residual": [{"share": 0.5, "at_most": 1.5}],
    }
    register(database, replace(MIXED, outputs=Outputs("regression", "price", mean=1.0), calibration=measured))
    assert client.get("/models/shop/versions/1").json()["calibration"] == measured
    card = client.get("/models/shop/versions/1/card").text
    assert "75 % of the rows lie within one such deviation" in card
    assert "4 rows of the validation part, which chose the best epoch" in card


def test_card_can_be_read_and_holds_the_facts(client: TestClient, database: Database) -> None:
    register(database)
    answer = client.get("/models/shop/versions/1/card")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    card = answer.text
    assert card.startswith("# shop, version 1\n")
    for fact in (
        "150 rows",
        "ab" * 32,
        "Seed 7",
        "keras 3.15.1",
        "accuracy 0.9",
        "| 0.50 to 1.00 | 10 | 0.9 | 0.85 |",
        "| size \\| m² | numeric | yes | any number |",
        "| city's | categorical | no | Basel, Bern or any other |",
        "`%d.%m.%Y` or ISO 8601",
        hashlib.sha256(MIXED.onnx).hexdigest(),
    ):
        assert fact in card, card
    assert "<b>" not in card
    assert "log loss unknown" in card
    problem(client.get("/models/shop/versions/2/card"), 404)


def test_call_on_the_card_is_one_that_the_model_answers(client: TestClient, database: Database) -> None:
    register_model(database)
    card = client.get("/models/m/versions/1/card").text
    found = re.search(r"```sh\n(.*?)```", card, re.DOTALL)
    assert found is not None
    words = shlex.split(found.group(1).replace("\\\n", " "))
    assert words[:3] == ["curl", "-s", f"{client.base_url}/predict"]
    answer = client.post("/predict", content=words[-1], headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    register(database)
    found = re.search(r"```sh\n(.*?)```", client.get("/models/shop/versions/1/card").text, re.DOTALL)
    assert found is not None
    body = json.loads(shlex.split(found.group(1).replace("\\\n", " "))[-1])
    assert body["instances"] == [{"size | m²": 0.5, "city's": "Basel", "since": "2020-01-31"}]


def test_file_comes_as_it_was_stored(client: TestClient, database: Database) -> None:
    register(database)
    path = "/models/shop/versions/1/files/model.onnx"
    answer = client.get(path)
    sha256 = hashlib.sha256(MIXED.onnx).hexdigest()
    assert (answer.content, answer.headers["etag"]) == (MIXED.onnx, f'"{sha256}"')
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="shop-1-model.onnx"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = client.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(MIXED.onnx)))
    assert client.get(path, headers={"If-None-Match": f'"{sha256}"'}).status_code == 304
    assert client.get("/models/shop/versions/1/files/model.keras").content == MIXED.keras


def test_encoder_file_has_the_hash_that_the_version_says(client: TestClient, database: Database) -> None:
    register(database)
    answer = client.get("/models/shop/versions/1/files/encoder.json")
    assert answer.headers["content-type"] == "application/json"
    [said] = [file for file in client.get("/models/shop/versions/1").json()["files"] if file["name"] == "encoder.json"]
    assert (said["sha256"], said["size_bytes"]) == (hashlib.sha256(answer.content).hexdigest(), len(answer.content))
    document = answer.json()
    assert [feature["name"] for feature in document["features"]] == list(MIXED.inputs.features)
    columns = [column for feature in document["features"] for column in feature["columns"]]
    assert columns == list(MIXED.inputs.encoded) == [column["name"] for column in document["columns"]]
    assert [column["scale"] for column in document["columns"]] == list(MIXED.inputs.scale)
    assert (document["classes"], document["target"], document["takes_raw_rows"]) == (["no", "yes"], "kind", False)


def test_files_that_are_not_there(client: TestClient, database: Database) -> None:
    register(database)
    problem(client.get("/models/shop/versions/2/files/model.onnx"), 404)
    problem(client.get("/models/x/versions/1/files/model.onnx"), 404)
    problem(client.get("/models/shop/versions/1/files/model.h5"), 422)
    with database.write() as connection:
        connection.execute(update(model_versions).values(keras_sha256=None))
    body = problem(client.get("/models/shop/versions/1/files/model.keras"), 404)
    assert (body["code"], "before model.keras was kept" in body["detail"]) == ("file_not_kept", True)
    files = client.get("/models/shop/versions/1").json()["files"]
    assert [file["name"] for file in files] == ["model.onnx", "encoder.json"]


def test_damaged_file_is_an_alarm_and_not_a_file(client: TestClient, database: Database) -> None:
    register(database)
    with database.write() as connection:
        connection.execute(update(blob_parts).where(blob_parts.c.part == 1).values(data=b"damaged"))
    assert problem(client.get("/models/shop/versions/1/files/model.onnx"), 503)["code"] == "corrupt_blob"


def test_version_from_before_calibration_was_measured(client: TestClient, database: Database) -> None:
    register(database, replace(MIXED, calibration=None, metrics={"best": {"epoch": 1, "loss": 0.5}, "test": None}))
    assert client.get("/models/shop/versions/1").json()["calibration"] is None
    card = client.get("/models/shop/versions/1/card").text
    assert "There was no test part" in card
    assert "Calibration" not in card


def test_recipe_is_documented() -> None:
    document = Path(__file__).parents[2] / "docs/models.md"
    found = re.search(r"recipe:begin.*?```\n(.*?)```", document.read_text(), re.DOTALL)
    assert found is not None
    assert found.group(1) == RECIPE
