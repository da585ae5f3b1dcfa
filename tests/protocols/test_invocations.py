"""/ping and /invocations, as MLflow's scoring server and SageMaker's containers have them."""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.domain.owners import DEFAULT_OWNER
from service.storage.database import Database
from service.task_queue import Doorbell
from tests.protocols.conftest import predicted
from tests.protocols.models import OTHER_PERSON, PERSON, houses, pictures, register_one

HOUSES = houses(3)
PERSONS = [PERSON, OTHER_PERSON]
NAMES = list(PERSON)
DATA = [[row[name] for name in NAMES] for row in PERSONS]
JSON, CSV = "application/json", "text/csv"
CSV_LINES = "44.5,70.25,nurse,2,true,false,2020-01-31\n,55,,3,False,,\n"


def post(client: Any, body: Any, kind: str | None = JSON, query: str = "", **headers: str) -> Any:
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    typed = {} if kind is None else {"Content-Type": kind}
    return client.post(f"/invocations{query}", content=content, headers={**typed, **headers})


def asked(client: Any, body: Any, kind: str | None = JSON, query: str = "", **headers: str) -> Any:
    answer = post(client, body, kind, query, **headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == JSON
    return answer.json()


def refusal(client: Any, body: Any, kind: str = JSON, query: str = "", status: int = 400, **headers: str) -> str:
    answer = post(client, body, kind, query, **headers)
    assert answer.status_code == status, answer.text
    found: dict[str, str] = answer.json()
    assert found.keys() == {"error_code", "message"}
    return found["message"]


@pytest.fixture(scope="module")
def right(client: httpx.Client) -> dict[str, Any]:
    return {"predictions": predicted(client, "people", PERSONS)["predictions"]}


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": NAMES, "data": DATA}},
        {"dataframe_split": {"columns": NAMES, "index": [5, 6], "data": DATA}},
        {"dataframe_split": {"data": DATA}},
        {"dataframe_split": {"columns": list(range(7)), "data": DATA}},
        {"dataframe_split": {"columns": ["id", *NAMES[::-1]], "data": [[1, *row[::-1]] for row in DATA]}},
        {"dataframe_records": PERSONS},
        {"dataframe_records": [{**row, "id": 1} for row in PERSONS]},
        {"dataframe_records": [PERSON, {name: cell for name, cell in OTHER_PERSON.items() if cell is not None}]},
        {"instances": DATA},
        {"instances": PERSONS},
        {"inputs": DATA},
        {"inputs": PERSONS},
        {"inputs": {name: [row[name] for row in PERSONS] for name in NAMES}},
        {"inputs": DATA, "params": {}, "other": 1},
        {"inputs": DATA, "params": None},
    ],
)
def test_every_format(client: httpx.Client, right: dict[str, Any], body: Any) -> None:
    assert asked(client, body) == right


def test_one_row_as_columns(client: httpx.Client, right: dict[str, Any]) -> None:
    assert asked(client, {"inputs": PERSON}) == {"predictions": right["predictions"][:1]}


def test_gaps_that_were_written_as_nan(client: httpx.Client, right: dict[str, Any]) -> None:
    body = json.dumps({"dataframe_split": {"columns": NAMES, "data": DATA}}).replace("null", "NaN")
    assert asked(client, body) == right


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (",".join(NAMES) + "\n" + CSV_LINES, CSV),
        (",".join(NAMES) + "\n" + CSV_LINES, "text/csv; charset=utf-8; header=present"),
        (CSV_LINES, CSV),
        (CSV_LINES.replace("\n", "\r\n"), "text/csv; header=absent"),
        ("\ufeff" + ",".join(NAMES) + "\n" + CSV_LINES + "\n", CSV),
        (
            '"weight",id,"floor",member,age,job,flag,since\n'
            '70.25,1,2,1,44.5,"nurse",0,2020-01-31\n55,2,3.0,0,NaN,"",,\n',
            CSV,
        ),
        ("weight,floor,member,age\n70.25,2,True,44.5\n55.0,3,FALSE,\n", CSV),
    ],
    ids=["names", "names said", "no names", "no names said", "byte order mark", "another order", "fewer columns"],
)
def test_csv(client: httpx.Client, right: dict[str, Any], text: str, kind: str) -> None:
    expected = right
    if "job" not in text and "nurse" not in text:
        left_out = {"job": None, "flag": None, "since": None}
        expected = {"predictions": predicted(client, "people", [{**row, **left_out} for row in PERSONS])["predictions"]}
    assert asked(client, text, kind) == expected


def test_csv_of_numbers(client: httpx.Client) -> None:
    lines = "".join(",".join(map(str, row)) + "\n" for row in HOUSES)
    expected = {"predictions": predicted(client, "houses", HOUSES)["predictions"]}
    assert asked(client, lines, CSV, "?model=houses") == expected


def test_answers_as_csv(client: httpx.Client, right: dict[str, Any]) -> None:
    answer = post(client, {"instances": DATA}, Accept="text/csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert [float(line) for line in answer.text.splitlines()] == right["predictions"]
    flowers = post(
        client, {"instances": [[1.5, 2.0], [-30.0, 5.0], [0.5, 40.0]]}, query="?model=flowers", Accept="text/csv, */*"
    )
    labels = predicted(client, "flowers", [[1.5, 2.0], [-30.0, 5.0], [0.5, 40.0]])["predictions"]
    quoted = {"rose": "rose", 'a "tulip"': '"a ""tulip"""', "Veilchen, weiß": '"Veilchen, weiß"'}
    assert flowers.text.splitlines() == [quoted[label] for label in labels]
    leavers = post(client, {"instances": DATA}, query="?model=leavers", Accept="text/csv")
    words = {True: "true", False: "false"}
    assert leavers.text.splitlines() == [words[label] for label in predicted(client, "leavers", DATA)["predictions"]]
    for accept in ("application/json", "*/*", "application/json, text/csv", "text/csv;q=0.1, application/json"):
        assert asked(client, {"instances": DATA}, Accept=accept) == right


def test_compressed_bodies(client: httpx.Client, right: dict[str, Any]) -> None:
    packed = {"Content-Encoding": "gzip"}
    assert asked(client, gzip.compress(json.dumps({"instances": DATA}).encode()), **packed) == right
    assert asked(client, gzip.compress(CSV_LINES.encode()), CSV, **packed) == right


def test_a_body_without_a_type_is_json(client: httpx.Client, right: dict[str, Any]) -> None:
    assert asked(client, {"instances": DATA}, None) == right
    assert asked(client, {"instances": DATA}, "application/json; charset=UTF-8") == right


def test_labels(client: httpx.Client) -> None:
    rows = pictures(4)
    expected = {"predictions": predicted(client, "pictures", rows)["predictions"]}
    assert asked(client, {"inputs": rows}, query="?model=pictures") == expected


def test_what_is_odd_about_rows_is_said(client: httpx.Client) -> None:
    [warning] = asked(client, {"instances": [{**PERSON, "job": "astronaut"}]})["warnings"]
    assert "'astronaut' was not seen in training" in warning


def test_model_of_a_request(client: httpx.Client) -> None:
    first = {"predictions": predicted(client, "houses", HOUSES, version=1)["predictions"]}
    second = {"predictions": predicted(client, "houses", HOUSES, version=2)["predictions"]}
    body = {"instances": HOUSES}
    for reference, expected in {
        "houses": first,
        "houses/1": first,
        "houses/2": second,
        "houses@next": second,
        "houses@production": first,
    }.items():
        assert asked(client, body, query=f"?model={reference}") == expected
        assert asked(client, body, **{"X-Amzn-SageMaker-Target-Model": reference}) == expected


@pytest.mark.parametrize(
    ("reference", "status", "text"),
    [
        ("none", 404, "no model is named 'none'"),
        ("houses/9", 404, "model 'houses' has no version 9"),
        ("houses/9999999999999999999", 404, "model 'houses' has no version 9999999999999999999"),
        ("houses@none", 404, "model 'houses' has no alias 'none'"),
        ("houses/one", 400, "'houses/one' is no model; send NAME, NAME/VERSION or NAME@ALIAS"),
        ("", 400, "'' is no model; send NAME, NAME/VERSION or NAME@ALIAS"),
    ],
)
def test_model_that_there_is_not(client: httpx.Client, reference: str, status: int, text: str) -> None:
    assert text in refusal(client, {"instances": HOUSES}, query=f"?model={reference}", status=status)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "Ensure that input is a valid JSON formatted string."),
        ("{", "Ensure that input is a valid JSON formatted string."),
        ([DATA], "exactly one of the input fields dataframe_records, dataframe_split, inputs, instances. Received ["),
        ({}, "Received dictionary with input fields: none"),
        ({"other": 1}, "Received dictionary with input fields: 'other'"),
        ({"inputs": DATA, "instances": DATA}, "Received dictionary with input fields: 'inputs', 'instances'"),
        ({"inputs": DATA, "params": {"a": 1}}, "the models here take no params"),
        ({"inputs": 7}, "'inputs' must be a list of rows, or an object of columns. Got 7."),
        ({"inputs": []}, "the request has no rows; send at least one"),
        ({"inputs": {}}, "Model is missing inputs ['age', 'weight'"),
        ({"inputs": {"weight": [1.0]}}, "Model is missing inputs ["),
        ({"inputs": {**PERSON, "age": [1.0, 2.0]}}, "the columns have different numbers of rows"),
        ({"instances": [PERSON, 7]}, "row 1 must be an object by column name; got 7"),
        ({"instances": [[1.0]]}, "row 0 has 1 values; the model takes 7"),
        ({"dataframe_records": {}}, "Dataframe records format must be a list of records. Got {}."),
        ({"dataframe_records": [{**PERSON, "weight": None}]}, "row 0, column 'weight': is null"),
        ({"dataframe_split": []}, "Dataframe split format must be a dictionary. Got []."),
        ({"dataframe_split": {}}, "Dataframe split format must have 'data' field"),
        ({"dataframe_split": {"data": DATA, "names": NAMES}}, "Dataframe split format must have 'data' field"),
        ({"dataframe_split": {"data": 1}}, "'data' must be a list of rows. Got 1."),
        ({"dataframe_split": {"data": DATA, "columns": 1}}, "'columns' must be a list of names. Got 1."),
        ({"dataframe_split": {"data": DATA, "columns": [1, 2]}}, "Model is missing inputs ["),
        (
            {"dataframe_split": {"data": [DATA[0][:6]], "columns": NAMES[::-1]}},
            "row 0 must be a list of 7 values, one for each of the columns",
        ),
    ],
)
def test_bodies_that_cannot_be_taken(client: httpx.Client, body: Any, text: str) -> None:
    assert text in refusal(client, body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "the body is empty"),
        ("\n\n", "the body is empty"),
        (b"\xff,1", "Ensure that input is a valid UTF-8 encoded string."),
        ('"1,2', "Failed to parse input as CSV."),
        ("1,2\n", "row 0 has 2 values; it must have 7"),
        (CSV_LINES + "1,2\n", "row 2 has 2 values; it must have 7"),
        (",".join(NAMES) + "\n1,2\n", "row 0 has 2 values; it must have 7"),
        (",".join(NAMES) + "\n", "the request has no rows; send at least one"),
        (CSV_LINES.replace("70.25", "heavy"), "row 0, column 'weight': must be a number; got 'heavy'"),
        (CSV_LINES.replace("70.25", "inf"), "row 0, column 'weight': must lie within"),
        (CSV_LINES.replace("70.25", "1_0"), "row 0, column 'weight': must be a number; got '1_0'"),
    ],
)
def test_csv_that_cannot_be_taken(client: httpx.Client, body: Any, text: str) -> None:
    assert text in refusal(client, body, CSV)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/plain", "only supports the following content types: text/csv, application/json. Got 'text/plain'."),
        ("application/json; charset=latin-1", "only supports UTF-8"),
        ("application/json; form=split", "Unrecognized content type parameters: 'form'"),
        ("text/csv; header=maybe", "Unrecognized content type parameters: 'header'"),
    ],
)
def test_types_that_are_not_taken(client: httpx.Client, kind: str, text: str) -> None:
    assert text in refusal(client, {"instances": DATA}, kind, status=415)


def test_errors_have_the_codes_of_mlflow(client: httpx.Client) -> None:
    assert post(client, "{").json()["error_code"] == "BAD_REQUEST"
    assert post(client, {"inputs": DATA}, query="?model=none").json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert post(client, b" " * (65 * 2**20)).json()["error_code"] == "BAD_REQUEST"


def test_ping(client: httpx.Client) -> None:
    answer = client.get("/ping")
    assert (answer.status_code, answer.text) == (200, "\n")


@pytest.fixture
def alone(stocked_sqlite: Path, tmp_path: Path) -> Iterator[tuple[TestClient, Database]]:
    """An application without a default model, and its database, which has no models."""
    path = tmp_path / "selfnorm.db"
    shutil.copy(stocked_sqlite, path)
    database = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
    services = Services(database, Doorbell("redis://127.0.0.1:1/0"))
    with TestClient(create_app(services), raise_server_exceptions=False) as opened:
        yield opened, database


def test_without_a_model(alone: tuple[TestClient, Database]) -> None:
    client, _ = alone
    assert client.get("/ping").status_code == 200
    assert "no model is registered yet" in refusal(client, {"inputs": HOUSES}, status=404)


def test_the_only_model_needs_no_name(alone: tuple[TestClient, Database]) -> None:
    client, database = alone
    register_one(database)
    expected = {"predictions": predicted(client, "houses", HOUSES)["predictions"]}
    assert asked(client, {"inputs": HOUSES}) == expected


def test_one_of_several_models_must_be_named(alone: tuple[TestClient, Database]) -> None:
    client, database = alone
    register_one(database)
    register_one(database, "cottages")
    message = refusal(client, {"inputs": HOUSES})
    assert "there are several models; say which" in message
    assert "X-Amzn-SageMaker-Target-Model" in message
    assert asked(client, {"inputs": HOUSES}, query="?model=cottages")["predictions"]
