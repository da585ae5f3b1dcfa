"""TensorFlow Serving's REST API, as its documentation and its source have it."""

import base64
import gzip
import json
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from tests.protocols.conftest import predicted
from tests.protocols.models import OTHER_PERSON, PERSON, houses, pictures

HOUSES = houses(3)
NUMBERS = "/v1/models/houses:predict"
PEOPLE = "/v1/models/people:predict"
PERSONS = [PERSON, OTHER_PERSON]
COLUMNS = {name: [row[name] for row in PERSONS] for name in PERSON}


def ask(client: httpx.Client, path: str, body: Any, status: int = 200) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def refusal(client: httpx.Client, path: str, body: Any, status: int = 400) -> str:
    answered = ask(client, path, body, status)
    assert answered.keys() == {"error"}
    text: str = answered["error"]
    return text


def expected(client: httpx.Client, model: str, rows: Any, **fields: Any) -> list[list[float]]:
    return [[value] for value in predicted(client, model, rows, **fields)["predictions"]]


def encoded(text: str) -> dict[str, str]:
    return {"b64": base64.b64encode(text.encode()).decode()}


def test_rows_and_columns(client: httpx.Client) -> None:
    right = expected(client, "houses", HOUSES)
    assert ask(client, NUMBERS, {"instances": HOUSES}) == {"predictions": right}
    assert ask(client, NUMBERS, {"signature_name": "serving_default", "instances": HOUSES}) == {"predictions": right}
    assert ask(client, NUMBERS, {"instances": [{"x": row} for row in HOUSES]}) == {"predictions": right}
    assert ask(client, NUMBERS, {"inputs": HOUSES}) == {"outputs": right}
    assert ask(client, NUMBERS, {"inputs": {"x": HOUSES}}) == {"outputs": right}
    assert ask(client, NUMBERS, {"signature_name": "", "inputs": {"x": HOUSES}, "other": 1}) == {"outputs": right}


def test_rows_by_column_name_are_taken_as_well(client: httpx.Client) -> None:
    named = [{f"c{place}": value for place, value in enumerate(row)} for row in HOUSES]
    columns = {f"c{place}": [row[place] for row in HOUSES] for place in range(13)}
    right = expected(client, "houses", HOUSES)
    assert ask(client, NUMBERS, {"instances": named}) == {"predictions": right}
    assert ask(client, NUMBERS, {"inputs": columns}) == {"outputs": right}


def test_version_and_label(client: httpx.Client) -> None:
    first = {"predictions": expected(client, "houses", HOUSES, version=1)}
    second = {"predictions": expected(client, "houses", HOUSES, version=2)}
    assert first != second
    body = {"instances": HOUSES}
    assert ask(client, NUMBERS, body) == first  # which is in production
    assert ask(client, "/v1/models/houses/versions/1:predict", body) == first
    assert ask(client, "/v1/models/houses/versions/2:predict", body) == second
    assert ask(client, "/v1/models/houses/labels/production:predict", body) == first
    assert ask(client, "/v1/models/houses/labels/next:predict", body) == second


def test_classes_are_probabilities(client: httpx.Client) -> None:
    rows = pictures(3)
    answered = ask(client, "/v1/models/pictures:predict", {"instances": rows})
    right = np.float32(predicted(client, "pictures", rows)["probabilities"])
    assert np.array_equal(np.float32(answered["predictions"]), right)
    answered = ask(client, "/v1/models/pictures:predict", {"inputs": rows})
    assert np.array_equal(np.float32(answered["outputs"]), right)


@pytest.mark.parametrize("wrap", [lambda cell: cell, lambda cell: [cell]], ids=["plain", "in lists of one"])
def test_tables_with_names(client: httpx.Client, wrap: Any) -> None:
    right = expected(client, "people", PERSONS)
    rows = [{name: wrap(cell) for name, cell in row.items()} for row in PERSONS]
    columns = {name: [wrap(cell) for cell in cells] for name, cells in COLUMNS.items()}
    assert ask(client, PEOPLE, {"instances": rows}) == {"predictions": right}
    assert ask(client, PEOPLE, {"inputs": {**columns, "unknown": [1]}}) == {"outputs": right}


def test_texts_in_base64(client: httpx.Client) -> None:
    right = expected(client, "people", [PERSON])
    row = {**PERSON, "job": encoded("nurse"), "since": [encoded("2020-01-31")]}
    assert ask(client, PEOPLE, {"instances": [row]}) == {"predictions": right}
    columns = {name: [cell] for name, cell in row.items()}
    assert ask(client, PEOPLE, {"inputs": columns}) == {"outputs": right}
    broken = {**PERSON, "job": {"b64": "%%%"}}
    assert "Unable to base64 decode" in refusal(client, PEOPLE, {"instances": [broken]})


def test_columns_with_gaps_may_be_left_out(client: httpx.Client) -> None:
    present = {name: cell for name, cell in OTHER_PERSON.items() if cell is not None}
    right = expected(client, "people", [OTHER_PERSON])
    assert ask(client, PEOPLE, {"instances": [present]}) == {"predictions": right}
    assert ask(client, PEOPLE, {"inputs": {name: [cell] for name, cell in present.items()}}) == {"outputs": right}


def test_gaps_that_were_written_as_nan(client: httpx.Client) -> None:
    body = json.dumps({"instances": [{**PERSON, "age": float("nan")}]})
    assert "NaN" in body
    right = expected(client, "people", [{**PERSON, "age": None}])
    assert ask(client, PEOPLE, body.encode()) == {"predictions": right}
    infinite = body.replace("70.25", "Infinity").encode()
    assert "JSON Parse error" in refusal(client, PEOPLE, infinite)


def test_classify(client: httpx.Client) -> None:
    examples = [{"petal": 1.5, "sepal": 2.0}, {"petal": [0.5], "sepal": [40.0]}, {"x": [-30.0, 5.0]}]
    rows = [[1.5, 2.0], [0.5, 40.0], [-30.0, 5.0]]
    right = predicted(client, "flowers", rows)
    for part in (slice(0, 2), slice(2, 3)):
        answered = ask(client, "/v1/models/flowers:classify", {"examples": examples[part]})
        for pairs, probabilities in zip(answered["results"], right["probabilities"][part], strict=True):
            assert [label for label, _ in pairs] == right["classes"]
            assert np.array_equal(np.array([score for _, score in pairs], np.float32), np.float32(probabilities))
    context = {"signature_name": "classification", "context": {"sepal": 2.0}, "examples": [{"petal": 1.5}]}
    assert ask(client, "/v1/models/flowers/versions/1:classify", context)["results"] == [
        ask(client, "/v1/models/flowers:classify", {"examples": examples[:1]})["results"][0]
    ]


def test_labels_of_classes_are_texts(client: httpx.Client) -> None:
    [pairs] = ask(client, "/v1/models/leavers:classify", {"examples": [PERSON]})["results"]
    assert [label for label, _ in pairs] == ["false", "true"]


def test_regress(client: httpx.Client) -> None:
    right = predicted(client, "people", PERSONS)["predictions"]
    present = [{name: cell for name, cell in row.items() if cell is not None} for row in PERSONS]
    assert ask(client, "/v1/models/people:regress", {"examples": present}) == {"results": right}
    assert ask(client, "/v1/models/houses:regress", {"examples": [{"x": row} for row in HOUSES]}) == {
        "results": predicted(client, "houses", HOUSES)["predictions"]
    }


def test_method_that_does_not_fit_the_model(client: httpx.Client) -> None:
    assert refusal(client, "/v1/models/people:classify", {"examples": [PERSON]}) == (
        "Expected classification signature method_name to be tensorflow/serving/classify. "
        "Was: tensorflow/serving/regress"
    )
    assert refusal(client, "/v1/models/flowers:regress", {"examples": [{}]}) == (
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/classify"
    )


def test_status(client: httpx.Client) -> None:
    def of(version: int) -> dict[str, Any]:
        return {
            "version": str(version),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }

    assert client.get("/v1/models/houses").json() == {"model_version_status": [of(2), of(1)]}
    assert client.get("/v1/models/houses/versions/1").json() == {"model_version_status": [of(1)]}
    assert client.get("/v1/models/houses/labels/next").json() == {"model_version_status": [of(2)]}


def test_metadata_of_a_version(client: httpx.Client) -> None:
    for address, version in (("", "1"), ("/versions/2", "2"), ("/labels/next", "2")):
        found = client.get(f"/v1/models/houses{address}/metadata").json()
        assert found["model_spec"] == {"name": "houses", "signature_name": "", "version": version}
        signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["method_name"] == "tensorflow/serving/predict"
        assert signature["inputs"]["x"]["tensor_shape"]["dim"][1] == {"size": "13", "name": ""}


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models/none", 404, "Could not find any versions of model none"),
        ("/v1/models/none/versions/1", 404, "Could not find version 1 of model none"),
        ("/v1/models/houses/versions/9", 404, "Could not find version 9 of model houses"),
        ("/v1/models/houses/versions/9999999999999999999", 404, None),
        ("/v1/models/houses/labels/none", 400, "Unrecognized servable version label: none"),
        ("/v1/models/none/metadata", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/houses/versions/9/metadata", 404, "Servable not found for request: Specific(houses, 9)"),
        ("/v1/models/houses/versions/one", 400, "Malformed request: GET /v1/models/houses/versions/one"),
        ("/v1/models/houses:predict", 400, "Malformed request: GET /v1/models/houses:predict"),
        ("/v1/models", 400, "Malformed request: GET /v1/models"),
        ("/v1/nothing", 400, "Malformed request: GET /v1/nothing"),
    ],
)
def test_addresses_that_lead_nowhere(client: httpx.Client, path: str, status: int, text: str | None) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert text is None or answer.json() == {"error": text}


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/houses/versions/9:predict", 404, "Servable not found for request: Specific(houses, 9)"),
        ("/v1/models/houses/labels/none:predict", 400, "Unrecognized servable version label: none"),
        ("/v1/models/houses:explain", 400, "Malformed request: POST /v1/models/houses:explain"),
        ("/v1/models/a:b:predict", 400, "Malformed request: POST /v1/models/a:b:predict"),
        ("/v1/models/houses", 400, "Malformed request: POST /v1/models/houses"),
    ],
)
def test_models_that_there_are_not(client: httpx.Client, path: str, status: int, text: str) -> None:
    assert refusal(client, path, {"instances": HOUSES}, status) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{", "JSON Parse error: "),
        (b'{"instances": [[1]]} {}', "JSON Parse error: "),
        ([1], "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": HOUSES, "inputs": HOUSES}, "expecting only one of 'inputs' or 'instances' keys to exist"),
        ({"instances": {"a": [], "b": [[1]]}}, "Excepting 'instances' to be an list/array"),
        ({"instances": 1}, "Excepting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"inputs": []}, "has no rows; send at least one"),
        ({"inputs": 7}, "input 'x' must be a list"),
        ({"signature_name": 1, "instances": HOUSES}, "'signature_name' key must be a string value."),
        (
            {"signature_name": "other", "instances": HOUSES},
            'Serving signature name: "other" not found in signature def',
        ),
        ({"instances": [[1.0] * 12]}, "row 0 has 12 values; the model takes 13"),
        ({"instances": [[1.0] * 12, ["a"] * 12]}, "row 0 has 12 values; the model takes 13"),
        ({"instances": [[*HOUSES[0][:12], "a"]]}, "row 0, column 'c12': must be a number; got 'a'"),
        ({"instances": [[*HOUSES[0][:12], None]]}, "row 0, column 'c12': is null"),
        ({"instances": [[*HOUSES[0][:12], 1e39]]}, "must lie within"),
        ({"instances": [{"x": HOUSES[0]}, HOUSES[0]]}, "Expecting object but got list at item 1 of input list"),
        ({"instances": [{"z": HOUSES[0]}]}, "column(s) that the model does not take: 'z'"),
        ({"inputs": {"z": HOUSES}}, "Missing named input: x in 'inputs' object."),
    ],
)
def test_rows_that_cannot_be_taken(client: httpx.Client, body: Any, text: str) -> None:
    assert text in refusal(client, NUMBERS, body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"instances": [[1, 2]]}, "instances is a plain list, but expecting list of objects as multiple input tensors"),
        ({"inputs": [[1, 2]]}, "inputs is a plain value/list, but expecting an object as multiple input tensors"),
        ({"inputs": {"weight": [1.0]}}, "Missing named input: floor in 'inputs' object."),
        ({"inputs": {**COLUMNS, "age": [1.0]}}, "input 'age' has 1 rows, and another one 2"),
        ({"instances": [{**PERSON, "job": 7}]}, "row 0, column 'job': must be text; got 7"),
        ({"instances": [{**PERSON, "color": "red"}]}, "column(s) that the model does not take: 'color'"),
    ],
)
def test_tables_that_cannot_be_taken(client: httpx.Client, body: Any, text: str) -> None:
    assert text in refusal(client, PEOPLE, body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"sepal": 1.0}], "context": []}, "Example must be JSON object but got JSON Array"),
    ],
)
def test_examples_that_cannot_be_taken(client: httpx.Client, body: Any, text: str) -> None:
    assert text in refusal(client, "/v1/models/flowers:classify", body)


def test_compressed_bodies(client: httpx.Client) -> None:
    content = json.dumps({"instances": HOUSES}).encode()
    answer = client.post(NUMBERS, content=gzip.compress(content), headers={"Content-Encoding": "gzip"})
    assert answer.json() == {"predictions": expected(client, "houses", HOUSES)}
    answer = client.post(NUMBERS, content=content, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()) == (400, {"error": "the body is not compressed as gzip has it"})


def test_many_rows(client: httpx.Client) -> None:
    rows = houses(9000)
    answered = ask(client, NUMBERS, {"instances": rows})
    assert answered == {"predictions": expected(client, "houses", rows)}
    assert "has 100,001 rows; at most 100,000" in refusal(client, NUMBERS, {"instances": [[0.5] * 13] * 100_001})
    named = [{"x": row} for row in rows] * 4  # which is read in another way, and not without bounds
    assert "at most 8,388,608 are read at once" in refusal(client, NUMBERS, {"instances": named}, 413)
