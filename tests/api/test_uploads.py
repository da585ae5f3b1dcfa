"""Every way in which a table can come in over HTTP, and every way in which it cannot."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from service.api.app import create_app
from service.api.imports import MAX_WAITING, ImportQueue
from service.api.services import Services
from service.storage.database import Database
from service.storage.tables import blobs
from service.task_queue import Doorbell
from tests.api.support import problem
from tests.patience import until

ROWS = [{"a": i * 2, "b": i % 7 + 0.5, "c": "xyz"[i % 3]} for i in range(40)]
CSV = "a,b,c\n" + "".join(f"{row['a']},{row['b']},{row['c']}\n" for row in ROWS)
LINES = "".join(f'{{"a": {row["a"]}, "b": {row["b"]}, "c": "{row["c"]}"}}\n' for row in ROWS)
JSON = "[" + ",".join(LINES.splitlines()) + "]"
CSV_TYPE = {"Content-Type": "text/csv"}
UPLOAD_LIMIT = 1_000_000
"""What the fixture ``services`` allows."""


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


@pytest.fixture
def sqlite_client(sqlite_database: Database, broker_url: str) -> Iterator[TestClient]:
    """The application on one database, for what the other would answer just so."""
    doorbell = Doorbell(broker_url)
    app = create_app(Services(sqlite_database, doorbell, max_upload_bytes=UPLOAD_LIMIT))
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


CONTENT = {"csv": CSV.encode(), "parquet": parquet(), "ndjson": LINES.encode(), "json": JSON.encode()}


def check_stored(client: TestClient, answer: Any, name: str, expected: str) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    dataset: dict[str, Any] = answer.json()
    assert (dataset["name"], dataset["rows"], dataset["source"]["format"]) == (name, len(ROWS), expected)
    assert [(column["name"], column["kind"]) for column in dataset["columns"]] == [
        ("a", "numeric"),
        ("b", "numeric"),
        ("c", "categorical"),
    ]
    assert client.get(f"/datasets/{dataset['id']}/rows?page_size=100").json()["items"] == ROWS
    assert client.get(f"/datasets/{dataset['id']}").json() == dataset
    return dataset


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text/csv", "csv"),
        ("TEXT/CSV; charset=utf-8; header=present", "csv"),
        ("application/vnd.apache.parquet", "parquet"),
        ("application/x-parquet", "parquet"),
        ("application/parquet", "parquet"),
        ("application/x-ndjson", "ndjson"),
        ("application/jsonl", "ndjson"),
        ("application/x-jsonlines", "ndjson"),
        ("application/json", "json"),
    ],
)
def test_body_is_read_by_its_type(sqlite_client: TestClient, kind: str, expected: str) -> None:
    headers = {"Content-Type": kind, "Content-Encoding": "identity"}
    answer = sqlite_client.post("/datasets?name=mine", content=CONTENT[expected], headers=headers)
    check_stored(sqlite_client, answer, "mine", expected)


def test_tab_separated_body_is_read(sqlite_client: TestClient) -> None:
    headers = {"Content-Type": "text/tab-separated-values"}
    answer = sqlite_client.post("/datasets", content=CSV.replace(",", "\t").encode(), headers=headers)
    check_stored(sqlite_client, answer, "dataset", "csv")


@pytest.mark.parametrize(
    ("file_name", "kind", "expected"),
    [
        ("wine.csv", "application/octet-stream", "csv"),
        ("wine.tsv", "application/octet-stream", "csv"),
        ("wine.txt", "text/plain", "csv"),
        ("wine", "application/octet-stream", "csv"),
        ("wine.data", "application/octet-stream", "csv"),
        ("wine.csv", "application/vnd.ms-excel", "csv"),
        ("wine.PARQUET", "application/octet-stream", "parquet"),
        ("wine.ndjson", "application/octet-stream", "ndjson"),
        ("wine.jsonl", "application/octet-stream", "ndjson"),
        ("wine.json", "application/octet-stream", "json"),
        ("wine.json", "application/x-ndjson", "ndjson"),
        ("wine.csv", "application/json", "json"),
        ("C:\\Users\\me\\wine.csv", "text/csv", "csv"),
        ("/home/me/wine.csv", "text/csv", "csv"),
    ],
)
def test_part_is_read_by_its_type_or_suffix(
    sqlite_client: TestClient, file_name: str, kind: str, expected: str
) -> None:
    answer = sqlite_client.post("/datasets", files={"file": (file_name, CONTENT[expected], kind)})
    check_stored(sqlite_client, answer, "wine", expected)


def test_name_in_the_address_goes_before_the_file_name(sqlite_client: TestClient) -> None:
    answer = sqlite_client.post("/datasets?name=other", files={"file": ("wine.csv", CONTENT["csv"], "text/csv")})
    check_stored(sqlite_client, answer, "other", "csv")


def test_part_that_the_parser_spills_to_disk_is_read(sqlite_client: TestClient) -> None:
    rows = 60_000
    content = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7) for i in range(rows))
    assert 2**19 < len(content) < UPLOAD_LIMIT
    small = sqlite_client.post("/datasets", files={"file": ("t.csv", content, "text/csv")})
    body = sqlite_client.post("/datasets", content=content, headers=CSV_TYPE)
    assert small.json()["rows"] == body.json()["rows"] == rows
    assert small.json()["sha256"] == body.json()["sha256"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/zip"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "???"},
    ],
)
def test_other_types_are_refused_with_those_that_are_taken(sqlite_client: TestClient, headers: dict[str, str]) -> None:
    detail = problem(sqlite_client.post("/datasets", content=CONTENT["csv"], headers=headers), 415)["detail"]
    for kind in ("text/csv", "application/vnd.apache.parquet", "application/x-ndjson", "multipart/form-data"):
        assert kind in detail


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "aws-chunked"])
def test_compressed_body_is_refused(sqlite_client: TestClient, encoding: str) -> None:
    headers = {**CSV_TYPE, "Content-Encoding": encoding}
    assert encoding in problem(sqlite_client.post("/datasets", content=CONTENT["csv"], headers=headers), 415)["detail"]
    form = {"file": ("t.csv", CONTENT["csv"], "text/csv")}
    problem(sqlite_client.post("/datasets", files=form, headers={"Content-Encoding": encoding}), 415)


def lines_of(size: int) -> bytes:
    """A CSV file of exactly so many bytes."""
    return b"a\n" + b"1\n" * (size // 2 - 1)


def test_body_may_be_as_large_as_the_limit_and_no_larger(sqlite_client: TestClient) -> None:
    assert sqlite_client.post("/datasets", content=lines_of(UPLOAD_LIMIT), headers=CSV_TYPE).status_code == 201
    problem(sqlite_client.post("/datasets", content=lines_of(UPLOAD_LIMIT) + b"\n", headers=CSV_TYPE), 413)


def test_body_of_unsaid_length_may_be_as_large_as_the_limit_and_no_larger(sqlite_client: TestClient) -> None:
    def pieces(size: int) -> Iterator[bytes]:
        content = lines_of(size) + b"\n" * (size % 2)
        yield from (content[start : start + 70_000] for start in range(0, size, 70_000))

    assert sqlite_client.post("/datasets", content=pieces(UPLOAD_LIMIT), headers=CSV_TYPE).status_code == 201
    problem(sqlite_client.post("/datasets", content=pieces(UPLOAD_LIMIT + 1), headers=CSV_TYPE), 413)


def test_form_may_be_as_large_as_the_limit_and_no_larger(sqlite_client: TestClient) -> None:
    def form(size: int) -> bytes:
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="t.csv"\r\n\r\n'
        tail = b"\r\n--x--\r\n"
        left = size - len(head) - len(tail)
        return head + lines_of(left - left % 2) + b"\n" * (left % 2) + tail

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert sqlite_client.post("/datasets", content=form(UPLOAD_LIMIT), headers=headers).status_code == 201
    problem(sqlite_client.post("/datasets", content=form(UPLOAD_LIMIT + 1), headers=headers), 413)
    assert sqlite_client.post("/datasets", content=iter([form(UPLOAD_LIMIT)]), headers=headers).status_code == 201
    problem(sqlite_client.post("/datasets", content=iter([form(UPLOAD_LIMIT + 1)]), headers=headers), 413)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"files": {"other": ("t.csv", CONTENT["csv"])}}, "'other'"),
        ({"files": {"file": (None, CONTENT["csv"])}}, "-F file=@table.csv"),
        ({"files": [("file", ("t.csv", CONTENT["csv"])), ("file", ("t.csv", CONTENT["csv"]))]}, "Too many files"),
        ({"files": {"file": ("t.csv", CONTENT["csv"])}, "data": {"name": "wine"}}, "/datasets?name=wine"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, "boundary"),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, ""),
        ({"content": b"--x\r\n\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, ""),
        ({"content": b"junk", "headers": {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}}, ""),
    ],
)
def test_other_forms_are_refused(sqlite_client: TestClient, form: dict[str, Any], said: str) -> None:
    assert said in problem(sqlite_client.post("/datasets", **form), 400)["detail"]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text/csv", b""),
        ("text/csv", CONTENT["parquet"]),
        ("text/csv", b"a,b\n"),
        ("application/x-parquet", b""),
        ("application/x-parquet", CONTENT["csv"]),
        ("application/x-parquet", CONTENT["parquet"][:-20]),
        ("application/x-ndjson", b'{"a": 1}\n{"a": '),
        ("application/x-ndjson", b'{"a": NaN}\n'),
        ("application/json", b'{"a": 1}'),
        ("application/json", b"[1, 2]"),
        ("application/json", b"[" * 100_000),
    ],
)
def test_file_that_is_no_table_is_refused(client: TestClient, kind: str, content: bytes) -> None:
    before = client.get("/datasets").json()
    refused = client.post("/datasets", content=content, headers={"Content-Type": kind})
    assert refused.status_code in (400, 422), refused.text
    problem(refused, refused.status_code)
    assert client.get("/datasets").json() == before


def test_kinds_in_the_address_are_taken(client: TestClient) -> None:
    content = b"zip,a:b,y\n" + b"".join(b"%d,%d,%d\n" % (10_000 + i % 9, i % 2, i * 2) for i in range(40))
    address = "/datasets?kinds=zip:categorical&kinds=a:b:categorical"
    answer = client.post(address, content=content, headers=CSV_TYPE)
    assert answer.status_code == 201, answer.text
    kinds = {column["name"]: column["kind"] for column in answer.json()["columns"]}
    assert kinds == {"zip": "categorical", "a:b": "categorical", "y": "numeric"}
    assert client.get(f"/datasets/{answer.json()['id']}/rows").json()["items"][1] == {"zip": 10_001, "a:b": 1, "y": 2}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("kinds=a:integer", "numeric, categorical, boolean, date, id, text"),
        ("kinds=numeric", "COLUMN:KIND"),
        ("kinds=", "COLUMN:KIND"),
        ("kinds=a:numeric&kinds=a:text", "twice"),
        ("kinds=nothing:numeric", "nothing"),
        ("kinds=c:numeric", "c"),
    ],
)
def test_kinds_that_cannot_be_are_refused(sqlite_client: TestClient, query: str, said: str) -> None:
    body = problem(sqlite_client.post(f"/datasets?{query}", content=CONTENT["csv"], headers=CSV_TYPE), 422)
    assert said in body["errors"][0]["detail"] + body["errors"][0]["pointer"]


def test_every_bad_kind_is_said_at_once(sqlite_client: TestClient) -> None:
    query = "kinds=a:integer&kinds=b&kinds=c:text"
    body = problem(sqlite_client.post(f"/datasets?{query}", content=CONTENT["csv"], headers=CSV_TYPE), 422)
    assert [error["pointer"] for error in body["errors"]] == ["?kinds", "?kinds"]


def test_words_for_missing_cells_can_be_chosen(sqlite_client: TestClient) -> None:
    content = b"a,b\n" + b"1,NA\n-999,x\nnone,y\n,z\n" * 5

    def missing(query: str) -> dict[str, int]:
        answer = sqlite_client.post(f"/datasets?{query}", content=content, headers=CSV_TYPE)
        assert answer.status_code == 201, answer.text
        return {column["name"]: column["missing"] for column in answer.json()["columns"]}

    assert missing("") == {"a": 5, "b": 5}
    assert missing("missing=-999&missing=none") == {"a": 15, "b": 0}
    assert missing("missing=") == {"a": 5, "b": 0}


@pytest.mark.parametrize(
    ("words", "status"),
    [(["x" * 64], 201), (["x" * 65], 422), ([f"w{i}" for i in range(100)], 201), ([f"w{i}" for i in range(101)], 422)],
)
def test_words_for_missing_cells_are_bounded(sqlite_client: TestClient, words: list[str], status: int) -> None:
    answer = sqlite_client.post("/datasets", params={"missing": words}, content=CONTENT["csv"], headers=CSV_TYPE)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("name", ["", "\n", "x" * 101, "a\u202eb", "\u200b"])
def test_name_that_cannot_be_is_refused_before_the_file_is_read(sqlite_client: TestClient, name: str) -> None:
    body = problem(sqlite_client.post("/datasets", params={"name": name}, content=b"", headers=CSV_TYPE), 422)
    assert body["errors"][0]["pointer"] == "?name"


@pytest.mark.parametrize("name", ["x" * 100, "Grüße, 世界", "<img src=x onerror=1>", "a/b"])
def test_odd_names_come_back_as_they_went_in(client: TestClient, name: str) -> None:
    answer = client.post("/datasets", params={"name": name}, content=CONTENT["csv"], headers=CSV_TYPE)
    assert (answer.status_code, answer.json()["name"]) == (201, name)


def test_same_content_is_stored_once(client: TestClient, services: Services) -> None:
    def stored() -> int:
        with services.database.read() as connection:
            return connection.execute(select(func.count()).select_from(blobs)).scalar_one()

    before = stored()
    first, second = (client.post("/datasets", content=CONTENT["csv"], headers=CSV_TYPE).json() for _ in range(2))
    assert first["id"] != second["id"]
    assert first["sha256"] == second["sha256"]
    assert stored() == before + 1
    assert client.delete(f"/datasets/{first['id']}").status_code == 204
    assert client.get(f"/datasets/{second['id']}/rows?page_size=100").json()["items"] == ROWS
    assert client.delete(f"/datasets/{second['id']}").status_code == 204
    assert stored() == before


def test_uploads_at_once_are_all_stored(client: TestClient) -> None:
    def once(number: int) -> int:
        content = CONTENT["csv"] + b"%d,1,x\n" % (number % 3)
        return client.post("/datasets", content=content, headers=CSV_TYPE).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(once, range(12))) == [201] * 12


def test_uploads_wait_their_turn_and_too_many_are_turned_away(services: Services) -> None:
    imports = ImportQueue(at_once=1)
    app = create_app(replace(services, imports=imports))
    with TestClient(app, raise_server_exceptions=False) as client, ThreadPoolExecutor(MAX_WAITING) as pool:
        assert client.portal is not None
        client.portal.call(imports.running.acquire_on_behalf_of, "the test")
        waiting = [
            pool.submit(client.post, "/datasets", content=CONTENT["csv"], headers=CSV_TYPE) for _ in range(MAX_WAITING)
        ]
        until(lambda: imports.running.statistics().tasks_waiting == MAX_WAITING)
        turned_away = client.post("/datasets", content=CONTENT["csv"], headers=CSV_TYPE)
        problem(turned_away, 503)
        assert int(turned_away.headers["retry-after"]) > 0
        assert client.get("/datasets").status_code == 200
        client.portal.call(imports.running.release_on_behalf_of, "the test")
        assert [answer.result().status_code for answer in waiting] == [201] * MAX_WAITING


def test_description_of_a_very_wide_table_is_light(services: Services) -> None:
    columns = 1_200
    lines = [",".join([chr(0x1F600 + row) * 64] * columns) for row in range(20)] * 2
    content = "\n".join([",".join(f"c{i}" for i in range(columns)), *lines]).encode()
    app = create_app(replace(services, max_upload_bytes=2 * len(content)))
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/datasets", content=content, headers=CSV_TYPE)
    assert answer.status_code == 201, answer.text
    assert len(answer.content) < 1_000_000
    first = answer.json()["columns"][0]
    assert (first["kind"], first["unique"], first["top"], first["examples"]) == ("categorical", 20, [], [])
    assert any("1,200" in warning for warning in answer.json()["warnings"])


def test_schema_describes_the_upload(sqlite_client: TestClient) -> None:
    schema = sqlite_client.get("/openapi.json").json()
    route = schema["paths"]["/datasets"]["post"]
    content = route["requestBody"]["content"]
    assert content.keys() == {
        "text/csv",
        "text/tab-separated-values",
        "application/vnd.apache.parquet",
        "application/x-parquet",
        "application/parquet",
        "application/x-ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/json",
        "multipart/form-data",
    }
    assert content["application/json"]["schema"]["items"]["type"] == "object"
    assert content["multipart/form-data"]["schema"]["required"] == ["file"]
    parameters = {parameter["name"]: parameter["schema"] for parameter in route["parameters"]}
    assert parameters.keys() == {"name", "kinds", "missing", "Idempotency-Key"}
    assert parameters["kinds"]["items"]["pattern"] == ":(numeric|categorical|boolean|date|id|text)$"
    missing = next(option for option in parameters["missing"]["anyOf"] if option["type"] == "array")
    assert (missing["maxItems"], missing["items"]["maxLength"]) == (100, 64)
    kinds = schema["components"]["schemas"]["ColumnView"]["properties"]["kind"]["enum"]
    assert kinds == ["numeric", "categorical", "boolean", "date", "id", "text"]
    patch = schema["paths"]["/datasets/{dataset_id}"]["patch"]["requestBody"]["content"]["application/json"]
    change = schema["components"]["schemas"][patch["schema"]["$ref"].rpartition("/")[2]]
    assert change["properties"].keys() == {"name", "kinds"}
    assert change["additionalProperties"] is False
