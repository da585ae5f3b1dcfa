import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.storage.database import Database
from tests.api.support import problem, register_model
from tests.served import mixed, register

HEADERS = {"Content-Type": "application/json"}


def ask(client: TestClient, instances: Any, **fields: Any) -> Any:
    body = json.dumps({"model": "m", "instances": instances, **fields})
    return client.post("/predict", content=body, headers=HEADERS)


def test_many_rows_are_answered_as_few_are(client: TestClient, database: Database) -> None:
    register_model(database)
    rows = np.random.default_rng(0).normal(size=(20_000, 2)).round(6)
    assert ask(client, rows.tolist()).json()["predictions"] == rows.sum(axis=1).tolist()
    named = [{"b": b, "a": a} for a, b in rows[:5_000].tolist()]
    assert ask(client, named).json()["predictions"] == rows[:5_000].sum(axis=1).tolist()


MIXED = [["Paris", 0.5, True], ["Rome", None, False], {"member": True, "city": "São Paulo", "age": -1.5}]


@pytest.mark.parametrize("is_ascii", [True, False])
@pytest.mark.parametrize("times", [700, 4_000])
def test_many_mixed_rows_are_answered_as_few_are(
    services: Services, database: Database, times: int, is_ascii: bool
) -> None:
    register(database, mixed("mixed", classes=2, spec={"network": {"kind": "mlp"}}))
    asked = {"model": "mixed", "instances": MIXED * times}
    body = json.dumps(asked, ensure_ascii=is_ascii).encode()
    assert len(body) > (64 if times == 700 else 256) * 1024
    with TestClient(create_app(replace(services, max_json_bytes=len(body)))) as client:
        few = client.post("/predict", json={**asked, "instances": MIXED}).json()
        many = client.post("/predict", content=body, headers=HEADERS).json()
        too_many = client.post("/predict", content=body + b" ", headers=HEADERS)
    assert many["predictions"] == few["predictions"] * times
    assert many["probabilities"] == few["probabilities"] * times
    [warning] = few["warnings"]
    first = [warning.replace("row 2", f"row {2 + 3 * place}") for place in range(20)]
    # On a slow machine the first of these rows are recent ones before the last are answered, which is then said too.
    of_all, of_rows = [
        [one for one in many["warnings"] if one.startswith("row ") is is_row] for is_row in (False, True)
    ]
    assert of_rows == first[: 20 - len(of_all)]
    assert len(of_all) <= 1
    assert f"may have {len(body):,} bytes" in problem(too_many, 413)["detail"]


def test_body_beyond_all_bounds_is_not_read(services: Services, database: Database) -> None:
    register_model(database)
    body = json.dumps({"model": "m", "instances": [[1, 2]] * 20_000})
    with TestClient(create_app(replace(services, max_predict_bytes=len(body) - 1))) as client:
        announced = client.post("/predict", content=body, headers=HEADERS)
        unannounced = client.post("/predict", content=iter([body.encode()]), headers=HEADERS)
        allowed = client.post("/predict", content=body.replace(" ", ""), headers=HEADERS)
    for answer in (announced, unannounced):
        assert f"{len(body) - 1:,} bytes" in problem(answer, 413)["detail"]
    assert allowed.json()["predictions"] == [3.0] * 20_000


def test_what_is_wrong_with_a_late_row_is_named(client: TestClient, database: Database) -> None:
    register_model(database)
    rows: list[list[Any]] = [[1, 2]] * 20_000
    for wrong, words in (
        ([1], "row 20000 has 1 values"),
        ([1, "x"], "row 20000, column 'b': must be a number"),
        ([1, 1e39], "row 20000, column 'b': must lie within"),
        ([1, None], "row 20000, column 'b': is null"),
    ):
        answer = problem(ask(client, [*rows, wrong]), 422)
        assert answer["errors"][0]["pointer"] == "#/instances/20000"
        assert words in answer["errors"][0]["detail"]
    assert problem(ask(client, rows, version=7), 404)["code"] == "unknown_version"
    assert "not a known field" in problem(ask(client, rows, versoin=7), 422)["detail"]
    twice = b'{"model":"m","model":"m","instances":' + json.dumps(rows).encode() + b"}"
    assert "twice" in problem(client.post("/predict", content=twice, headers=HEADERS), 400)["detail"]


def test_json_with_texts_has_a_smaller_bound_than_rows_of_numbers(client: TestClient, database: Database) -> None:
    register_model(database)
    most = client.app.state.services.max_json_bytes  # type: ignore[attr-defined]  # FastAPI's application
    rows = [[0.125, -0.125]] * (most // 10)
    numbers = json.dumps({"model": "m", "instances": rows})
    assert len(numbers) > most
    assert client.post("/predict", content=numbers, headers=HEADERS).status_code == 200
    with_text = numbers.replace("]]}", ', "x"]]}')
    answer = problem(client.post("/predict", content=with_text, headers=HEADERS), 413)
    assert "application/vnd.apache.arrow.stream" in answer["detail"]


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/v1/models/m:predict", "/v2/models/m/infer"])
def test_crowd_of_short_rows_is_not_read(services: Services, database: Database, path: str) -> None:
    register(database, mixed("m"))
    content = b'{"instances":[' + b",".join([b'{"age":1}'] * 501_000) + b"]}"
    with TestClient(create_app(replace(services, max_json_bytes=len(content)))) as client:
        answer = client.post(path, content=content, headers=HEADERS)
    assert answer.status_code == 413
    most = "at most 800,000 arrays, 500,000 objects, or some of both are read at once"
    assert f"the JSON holds 1 arrays and 501,001 objects; {most}" in answer.text


def test_version_beside_an_alias_is_refused(client: TestClient, database: Database) -> None:
    register_model(database)
    assert "a version and an alias" in problem(ask(client, [[1, 2]], version=1, alias="production"), 422)["detail"]


def test_what_lies_behind_an_answer_needs_dropout_and_comes_as_json(client: TestClient, database: Database) -> None:
    register_model(database)
    refused = problem(ask(client, [[1, 2]], uncertainty={"samples": 10}), 422)
    assert refused["errors"][0]["pointer"] == "#/uncertainty"
    body = json.dumps({"model": "m", "instances": [[1, 2]], "explain": True})
    answer = client.post("/predict", content=body, headers={**HEADERS, "Accept": "text/csv"})
    assert "JSON only" in problem(answer, 422)["detail"]
    assert "must be" in problem(ask(client, [[1, 2]], uncertainty={"samples": 0}), 422)["detail"]
