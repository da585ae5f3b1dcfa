"""Predictions."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.storage import leases
from tests.api.support import claimed, problem
from tests.factories import stored_job
from tests.fuzz.world import World

MIXED = {"city": "Paris", "age": 31.5, "member": True}
"""What the model ``mixed`` takes."""


def predict(client: TestClient, model: str, instances: Any) -> Any:
    return client.post("/predict", json={"model": model, "instances": instances})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        pytest.param({"c0": 1.0}, "c1", id="a missing column"),
        pytest.param({"c0": 1.0, "c1": 2.0, "c2": 3.0}, "c2", id="an extra column"),
        pytest.param({"c0": "1.0", "c1": 2.0}, "c0", id="a text for a number"),
        pytest.param({"c0": True, "c1": 2.0}, "c0", id="a boolean for a number"),
        pytest.param({"c0": [1.0], "c1": 2.0}, "c0", id="a list for a number"),
        pytest.param({"c0": None, "c1": 2.0}, "c0", id="null where training had none"),
        pytest.param({"c0": 1e39, "c1": 2.0}, "c0", id="1e39"),
        pytest.param([1.0], "1", id="too narrow"),
        pytest.param([1.0, 2.0, 3.0], "3", id="too wide"),
        pytest.param([1.0, "x"], "c1", id="a text in a list"),
        pytest.param([], "0", id="no columns"),
        pytest.param(None, "row", id="no row"),
    ],
)
def test_row_is_refused_by_its_number_and_column(client: TestClient, row: Any, words: str) -> None:
    said = problem(
        predict(client, "numbers", [{"c0": 1.0, "c1": 2.0} if isinstance(row, dict) else [1.0, 2.0], row]), 422
    )
    text = said["detail"] + str(said.get("errors"))
    assert words in text
    assert "/1" in text or "row 1" in text or "row 2" in text, text


def test_nan_is_no_json_and_no_number(client: TestClient) -> None:
    body = b'{"model": "numbers", "instances": [[NaN, 1.0]]}'
    problem(client.post("/predict", content=body, headers={"Content-Type": "application/json"}), 400)
    problem(predict(client, "numbers", [["NaN", 1.0]]), 422)


def test_reordered_columns_are_the_same_row(client: TestClient) -> None:
    one = predict(client, "mixed", [MIXED])
    other = predict(client, "mixed", [dict(reversed(MIXED.items()))])
    assert one.status_code == 200, one.text
    assert other.json()["predictions"] == one.json()["predictions"]


def test_category_that_training_has_not_seen_is_answered(client: TestClient) -> None:
    assert predict(client, "mixed", [{**MIXED, "city": "\u202eAtlantis"}]).status_code == 200


@pytest.mark.parametrize("fields", [{"city": 7}, {"member": "yes"}, {"member": 2}, {"age": "old"}, {"age": {}}])
def test_cell_of_another_kind_is_named(client: TestClient, fields: dict[str, Any]) -> None:
    assert next(iter(fields)) in problem(predict(client, "mixed", [{**MIXED, **fields}]), 422)["detail"]


@pytest.mark.parametrize("instances", [[], {}, None, "rows", 1, [[]]])
def test_no_rows_are_refused(client: TestClient, instances: Any) -> None:
    problem(predict(client, "numbers", instances), 422)


def test_million_rows_are_answered_or_refused(client: TestClient) -> None:
    body = b'{"model":"numbers","instances":[' + b",".join([b"[1,2]"] * 1_000_000) + b"]}"
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 413, 422), answer.text
    if answer.status_code == 200:
        assert np.array(answer.json()["predictions"]).shape == (1_000_000,)


def test_model_whose_job_waits_is_409_and_of_a_failed_one_404(client: TestClient, there: World) -> None:
    database = there.database.owned_by("ann")
    stored_job(database, "waits", model="unborn")
    problem(predict(client, "unborn", [[1.0, 2.0]]), 409)
    held = claimed(database, "waits")
    problem(predict(client, "unborn", [[1.0, 2.0]]), 409)
    with database.write() as connection:
        leases.fail(connection, held, "worker_lost", "why")
    assert predict(client, "unborn", [[1.0, 2.0]]).status_code in (404, 409)


def test_anothers_model_is_unknown(client: TestClient, there: World) -> None:
    stored_job(there.database.owned_by("bob"), "bobs", model="bobs")
    theirs, nobodys = predict(client, "bobs", [[1.0]]), predict(client, "none", [[1.0]])
    assert (theirs.status_code, theirs.json()["code"]) == (nobodys.status_code, nobodys.json()["code"])


def test_five_hundred_at_once_are_all_answered(client: TestClient) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda row: predict(client, "numbers", [[float(row), 1.0]]), range(500)))
    assert [answer.status_code for answer in answers] == [200] * 500
    assert [answer.json()["predictions"] for answer in answers] == [[row + 1.0] for row in range(500)]
