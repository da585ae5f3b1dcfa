"""Specs."""

import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.domain.jobs import JobState
from tests import predictions
from tests.api.support import problem
from tests.fuzz.world import World

ROWS = 60
UPLOAD = "oddities"


@pytest.fixture(scope="module", autouse=True)
def oddities(there: World) -> None:
    """A table whose columns are each unfit to be a target, but for ``y``."""
    columns: dict[str, Any] = {
        "x": np.arange(ROWS) / 7,
        "y": np.arange(ROWS) * 1.5,
        "constant": np.ones(ROWS),
        "null": np.full(ROWS, np.nan),
        "one class": ["a"] * ROWS,
    }
    predictions.store_table(there.database.owned_by("ann"), columns, UPLOAD)


def network(**fields: Any) -> dict[str, Any]:
    return {"dataset": "iris", "network": {"kind": "mlp", **fields}}


def training(**fields: Any) -> dict[str, Any]:
    return {"dataset": "iris", "training": fields}


def upload(**fields: Any) -> dict[str, Any]:
    return {"dataset": UPLOAD, "target": "y", **fields}


SPECS: list[tuple[str, dict[str, Any], str]] = [
    ("10^9 units", network(units=10**9), "#/network/units"),
    ("10,000 layers", network(hidden_layers=10_000), "#/network/hidden_layers"),
    ("each field legal but the product not", network(hidden_layers=256, units=65536), "#"),
    ("10^6 epochs", training(epochs=10**6), "#/training/epochs"),
    ("batch 0", training(batch_size=0), "#/training/batch_size"),
    ("batch -1", training(batch_size=-1), "#/training/batch_size"),
    ("learning rate 0", training(learning_rate=0), "#/training/learning_rate"),
    ("learning rate -1", training(learning_rate=-1), "#/training/learning_rate"),
    ("learning rate 1e308", training(learning_rate=1e308), "#/training/learning_rate"),
    ("dropout 1.0", network(dropout=1.0), "#/network/dropout"),
    ("a validation part without rows", upload(training={"validation_fraction": 0.001}), "#/training"),
    ("an expression", network(activation="__import__('os').system('id')"), "#/network/activation"),
    ("an expression of a SNN", {"dataset": "iris", "network": {"activation": "lambda x: x"}}, "#/network/activation"),
    ("a target that is missing", upload(target="nothing"), "#/target"),
    ("a target that is not named", {"dataset": UPLOAD}, "#/target"),
    ("a target that is constant", upload(target="constant"), "#/target"),
    ("a target that is all null", upload(target="null"), "#/target"),
    ("a target that is also a feature", upload(features=["x", "y"]), "#/features"),
    ("one class", upload(target="one class", task="classification"), "#/target"),
    ("seed -1", training(seed=-1), "#/training/seed"),
    ("seed 2^63", training(seed=2**63), "#/training/seed"),
    ("a seed with a point", training(seed=1.0), "#/training/seed"),
]


@pytest.mark.parametrize("address", ["/jobs", "/jobs?validate_only=true", "/probe"])
@pytest.mark.parametrize(("spec", "pointer"), [pytest.param(spec, at, id=name) for name, spec, at in SPECS])
def test_spec_is_refused_where_it_is_wrong(
    client: TestClient, address: str, spec: dict[str, Any], pointer: str
) -> None:
    said = problem(client.post(address, json=spec), 422)
    assert any(item["pointer"].startswith(pointer) for item in said["errors"]), said


def test_batch_larger_than_the_data_is_taken_as_all_of_it(client: TestClient) -> None:
    answer = client.post("/jobs?validate_only=true", json=training(batch_size=65536))
    assert answer.status_code == 200, answer.text


def test_ten_thousand_classes_and_a_million_categories_are_refused(client: TestClient, there: World) -> None:
    rows = 10_001
    columns = {"x": np.arange(rows) / 7, "many": [f"class {row}" for row in range(rows)], "y": np.arange(rows)}
    predictions.store_table(there.database.owned_by("ann"), columns, "many")
    asked: dict[str, Any] = {"dataset": "many", "target": "many", "task": "classification"}
    problem(client.post("/jobs", json=asked), 422)
    asked = {"dataset": "many", "target": "y", "features": ["many"]}
    problem(client.post("/jobs", json=asked), 422)
    asked = {**asked, "preparation": {"max_categories": 10**6}}
    problem(client.post("/jobs", json=asked), 422)


def test_data_set_that_is_deleted_meanwhile_is_told(client: TestClient, there: World) -> None:
    predictions.store_table(there.database.owned_by("ann"), {"x": [1.0] * 50, "y": [2.0, 3.0] * 25}, "gone")
    asked = {"dataset": "gone", "target": "y"}
    job = client.post("/jobs", json=asked)
    assert job.status_code == 202, job.text
    problem(client.delete("/datasets/gone"), 409)
    assert client.post(f"/jobs/{job.json()['id']}/cancel").json()["state"] == JobState.CANCELLED
    assert client.delete("/datasets/gone").status_code == 204
    problem(client.post(f"/jobs/{job.json()['id']}/retry"), 409)
    problem(client.post("/jobs", json=asked), 422)
    assert json.loads(client.get(f"/jobs/{job.json()['id']}").content)["spec"]["dataset"] == "gone"
