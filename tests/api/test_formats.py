import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from service.api.formats.negotiation import ARROW, CSV, FORMATS, JSON, NDJSON, NPY
from service.storage import aliases
from service.storage.database import Database
from tests.api.support import problem, register_model, submit
from tests.formats import CLASSES, MIXED, NUMBERS, arrow_body, csv_body, ndjson_body, npy_body, register

ROWS = [[1.5, -2.0, 0.25], [3.0, 1e-30, 7.0], [0.1, 0.2, 0.3]]
TABLE: dict[str, Any] = dict(zip("abc", np.array(ROWS).T, strict=True))
BODIES = {
    CSV: csv_body("abc", ROWS),
    "text/csv; header=absent": csv_body("abc", ROWS, header=False),
    NDJSON: ndjson_body(ROWS),
    NPY: npy_body(ROWS),
    ARROW: arrow_body(TABLE),
}


def ask(client: TestClient, body: bytes, kind: str | None, query: str = "model=m", accept: str | None = None) -> Any:
    headers = {name: value for name, value in {"Content-Type": kind, "Accept": accept}.items() if value is not None}
    return client.post(f"/predict?{query}", content=body, headers=headers)


def by_json(client: TestClient, rows: Any = ROWS, accept: str | None = None) -> Any:
    headers = {} if accept is None else {"Accept": accept}
    return client.post("/predict", json={"model": "m", "instances": rows}, headers=headers)


@pytest.mark.parametrize("kind", BODIES)
def test_rows_in_every_format_are_answered_as_in_json(client: TestClient, database: Database, kind: str) -> None:
    register(database, NUMBERS, CLASSES)
    answer = ask(client, BODIES[kind], kind)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == JSON
    assert answer.content == by_json(client).content


@pytest.mark.parametrize("kind", [JSON, NPY])
def test_answers_in_every_format_say_the_same(client: TestClient, database: Database, kind: str) -> None:
    register(database, NUMBERS, CLASSES)
    wanted = by_json(client).json()
    predictions, probabilities = wanted["predictions"], np.array(wanted["probabilities"], np.float32)

    def answered(accept: str) -> Any:
        answer = by_json(client, accept=accept) if kind == JSON else ask(client, BODIES[kind], kind, accept=accept)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].split(";")[0] == accept
        assert answer.headers["selfnorm-model"] == "m"
        assert answer.headers["selfnorm-version"] == "1"
        assert answer.headers["selfnorm-warnings"] == "0"
        return answer

    table = pa.ipc.open_stream(answered(ARROW).content).read_all()
    assert table["prediction"].to_pylist() == predictions
    columns = [table[f"probability: {label}"].to_numpy() for label in CLASSES.classes]
    assert np.column_stack(columns).tobytes() == probabilities.tobytes()
    npy = answered(NPY)
    assert np.load(io.BytesIO(npy.content), allow_pickle=False).tobytes() == probabilities.tobytes()
    assert json.loads(npy.headers["selfnorm-classes"]) == wanted["classes"]
    lines = [json.loads(line) for line in answered(NDJSON).text.splitlines()]
    assert [line["prediction"] for line in lines] == predictions
    csv = answered(CSV)
    assert csv.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert len(csv.text.splitlines()) == 1 + len(ROWS)


def test_columns_of_every_kind_are_taken_from_a_table(client: TestClient, database: Database) -> None:
    register(database, MIXED)
    names = [encoder.name for encoder in MIXED]
    rows: list[list[Any]] = [
        [None, 2, "00202", 2.5, True, None, "31.12.1999"],
        [-999, 3, "pilot", 1, None, False, "2020-01-31"],
    ]
    wanted = by_json(client, rows).json()
    assert len(wanted["warnings"]) == 1
    for kind, body in {CSV: csv_body(names, rows), NDJSON: ndjson_body(rows)}.items():
        assert ask(client, body, kind).json() == wanted
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    answer = ask(client, arrow_body(columns), ARROW, accept=ARROW)
    assert answer.headers["selfnorm-warnings"] == "1"
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table["prediction"].to_pylist() == wanted["predictions"]
    assert json.loads(table.schema.metadata[b"warnings"]) == wanted["warnings"]


def test_target_in_the_table_is_left_out_and_said(client: TestClient, database: Database) -> None:
    register(database, NUMBERS)
    answer = ask(client, csv_body("abc", ROWS).replace(b"a,b,c", b"a,b,price"), CSV)
    assert "lacks the column(s) 'c'" in problem(answer, 422)["detail"]
    body = b"price,a,b,c\n9,1,2,3\n"
    assert ask(client, body, CSV).json()["warnings"] == ["column 'price' is what the model predicts, and was left out"]


def test_large_answer_comes_in_pieces(client: TestClient, database: Database) -> None:
    register(database, NUMBERS, CLASSES)
    rows = np.random.default_rng(0).normal(size=(9001, 3))
    whole = by_json(client, rows.tolist())
    assert whole.status_code == 200, whole.text
    probabilities = np.array(whole.json()["probabilities"], np.float32)
    for accept in (JSON, ARROW, NPY, CSV, NDJSON):
        with client.stream(
            "POST", "/predict?model=m", content=npy_body(rows), headers={"Content-Type": NPY, "Accept": accept}
        ) as answer:
            pieces = list(answer.iter_raw())
            assert answer.status_code == 200
            assert "content-length" not in answer.headers
            assert len(pieces) > 2
        body = b"".join(pieces)
        if accept == JSON:
            assert body == whole.content
        elif accept == ARROW:
            table = pa.ipc.open_stream(body).read_all()
            assert np.column_stack(table.columns[1:]).astype(np.float32).tobytes() == probabilities.tobytes()
        elif accept == NPY:
            assert np.load(io.BytesIO(body), allow_pickle=False).tobytes() == probabilities.tobytes()
        else:
            assert len(body.splitlines()) == 9001 + (accept == CSV)


def test_version_and_alias_are_in_the_address(client: TestClient, database: Database) -> None:
    register(database, NUMBERS)
    register(database, NUMBERS, CLASSES)
    with database.write() as connection:
        aliases.put(connection, "m", "first", 1)
    body = BODIES[NPY]
    assert ask(client, body, NPY).json()["version"] == 2
    assert ask(client, body, NPY, "model=m&version=1").json()["version"] == 1
    assert ask(client, body, NPY, "model=m&alias=first").json()["version"] == 1
    assert problem(ask(client, body, NPY, "model=m&version=9"), 404)["code"] == "unknown_version"
    assert problem(ask(client, body, NPY, "model=m&alias=x"), 404)["code"] == "unknown_alias"
    assert problem(ask(client, body, NPY, "model=x"), 404)["code"] == "unknown_model"
    submit(client, model="waiting")
    assert problem(ask(client, body, NPY, "model=waiting"), 409)["code"] == "model_not_ready"


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("", "?model"),
        ("modle=m", "?model"),
        ("model=", "?model"),
        ("model=-", "?model"),
        ("model=m&verison=1", "?"),
        ("model=m&model=n", "?model"),
        ("model=m&version=1&alias=a", "?version"),
        ("model=m&version=0", "?version"),
        ("model=m&version=one", "?version"),
        ("model=m&version=99999999999999999999", "?version"),
        ("model=m&version=", "?version"),
        ("model=m&alias=..", "?alias"),
    ],
)
def test_address_that_names_no_model_is_refused(client: TestClient, query: str, pointer: str) -> None:
    assert problem(ask(client, BODIES[NPY], NPY, query), 422)["errors"][0]["pointer"] == pointer


def test_format_that_is_not_known_is_refused_with_those_that_are(client: TestClient, database: Database) -> None:
    register(database, NUMBERS)
    for kind in ("application/octet-stream", "text/plain", "text/csv; charset=latin-1", None):
        body = problem(ask(client, BODIES[CSV], kind), 415)
        assert body["code"] == "unsupported_media_type"
    packed = client.post("/predict?model=m", content=b"x", headers={"Content-Type": CSV, "Content-Encoding": "gzip"})
    problem(packed, 415)
    for answer in (ask(client, BODIES[NPY], NPY, accept="text/html"), by_json(client, accept="image/png")):
        body = problem(answer, 406)
        assert all(name in body["detail"] for name in FORMATS)


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        (CSV, b"", 400, "is empty"),
        (CSV, b"a,b,c\n1,2\n", 422, "row 0 has 2 cell(s)"),
        (CSV, b'a,b,c\n1,2,"3\n', 400, "opens a quote that is not closed"),
        (CSV, b"a,b,c\n1,2,\xff\n", 400, "is not UTF-8 at byte 10"),
        (CSV, b"a,b,a\n1,2,3\n", 422, "has two columns 'a'"),
        (CSV, b"a,b,c\n1,2,x\n", 422, "row 0, column 'c': must be a number; got 'x'"),
        (NDJSON, b"[1,2,3]\n[1,2", 400, "line 2 of the body is not JSON"),
        (NDJSON, b"[1,2]", 422, "row 0 has 2 values"),
        (NPY, b"PK\x03\x04", 400, "does not begin as .npy does"),
        (NPY, BODIES[NPY][:-1], 400, "and holds 71"),
        (NPY, npy_body([[1.0, np.inf, 2.0]]), 422, "row 0, column 'b': must lie within"),
        (NPY, npy_body([[1.0, np.nan, 2.0]]), 422, "row 0, column 'b': is null"),
        (NPY, npy_body([[1.0, 2.0]]), 422, "row 0 has 2 values"),
        (ARROW, b"garbage", 400, "cannot be read as an Arrow stream"),
        (ARROW, BODIES[ARROW][:-100], 400, "Arrow stream"),
        (ARROW, arrow_body({**TABLE, "b": [[1.0]] * 3}), 422, "column 'b' holds 'list"),
        (ARROW, arrow_body({"a": pa.nulls(10**9), "b": pa.nulls(10**9), "c": pa.nulls(10**9)}), 422, "at most 100,000"),
    ],
)
def test_body_that_is_wrong_is_refused_with_the_reason(
    client: TestClient, database: Database, kind: str, body: bytes, status: int, words: str
) -> None:
    register(database, NUMBERS)
    assert words in problem(ask(client, body, kind), status)["detail"]


def test_answer_that_is_no_number_is_refused(client: TestClient, database: Database) -> None:
    register_model(database, weight=1e300)
    huge = npy_body([[1.0, 2.0], [3e38, 3e38]])
    assert [item["pointer"] for item in problem(ask(client, huge, NPY), 422)["errors"]] == ["#/instances/1"]


def test_lines_of_json_have_the_bounds_of_json(client: TestClient, database: Database) -> None:
    register(database, NUMBERS)
    assert ask(client, ndjson_body([[1, 2, 3]]) * 10_000, NDJSON).status_code == 200
    assert "200,000" in problem(ask(client, ndjson_body([[1, 2, 3]]) * 30_000, NDJSON), 413)["detail"]
    assert ask(client, csv_body("abc", [[1, 2, 3]] * 50_000), CSV).status_code == 200


def test_formats_are_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert described["requestBody"]["content"].keys() == set(FORMATS)
    assert described["responses"]["200"]["content"].keys() == set(FORMATS)
    assert {parameter["name"] for parameter in described["parameters"]} == {"model", "version", "alias"}
    assert "406" in described["responses"]
