"""CSV and Parquet files."""

import io
import math
import pickle
import zipfile
from typing import Any

import anyio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from fastapi.testclient import TestClient

from tests.api.bad_input.conftest import UPLOAD_BYTES
from tests.api.support import problem
from tests.fuzz.world import World

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
LINES = "".join(f"{row},{row / 2},{'xyz'[row % 3]}\n" for row in range(30))
TABLE = f"a,b,c\n{LINES}"
READ: list[tuple[str, bytes, dict[str, list[Any]]]] = [
    ("one row", b"a,b\n1,x\n", {"a": [1], "b": ["x"]}),
    (
        "=HYPERLINK()",
        b'a,b\n1,"=HYPERLINK(""http://x"")"\n2,@x\n',
        {"a": [1, 2], "b": ['=HYPERLINK("http://x")', "@x"]},
    ),
    ("BOM", b"\xef\xbb\xbfa,b\n1,x\n", {"a": [1], "b": ["x"]}),
    (";", b"a;b\n1;x\n2;y\n", {"a": [1, 2], "b": ["x", "y"]}),
    ("tabs", b"a\tb\n1\tx\n2\ty\n", {"a": [1, 2], "b": ["x", "y"]}),
    ("decimal commas", b"a;b\n1,5;x\n2,25;y\n", {"a": [1.5, 2.25], "b": ["x", "y"]}),
    ("NA", b"a,b\n1,x\nNA,y\n", {"a": [1, None], "b": ["x", "y"]}),
    ("odd categories", 'a,b\n1,\U0001f4a9\n2,"a\nb"\n'.encode(), {"a": [1, 2], "b": ["\U0001f4a9", "a\nb"]}),
    ("a text in the last row", f"a\n{'1' + chr(10)}{'2' + chr(10)}zwei\n".encode(), {"a": ["1", "2", "zwei"]}),
    ("constant columns", b"a,b\n1,x\n1,x\n", {"a": [1, 1], "b": ["x", "x"]}),
    ("all-missing columns", b"a,b\n1,\n2,\n", {"a": [1, 2], "b": [None, None]}),
]
REFUSED: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("blank", b"\n\n\n"),
    ("header only", b"a,b\n"),
    ("ragged", b"a,b\n1,2\n1,2,3\n1\n"),
    ("an unclosed quote", b'a,b\n1,"x\n2,y\n'),
    ("100,000 columns", (",".join(f"c{n}" for n in range(100_000)) + "\n" + ",".join(["1"] * 100_000) + "\n").encode()),
    ("duplicate column names", b"a,a\n1,2\n"),
    ("empty column names", b"a,\n1,2\n"),
    ("NUL in a column's name", b"a,b\x00\n1,2\n"),
    ("NUL in a cell", b"a,b\n1,x\x00y\n"),
    ("Latin-1", "a,b\n1,\xe9t\xe9\n".encode("latin-1")),
    ("UTF-16", TABLE.encode("utf-16")),
    ("inf", b"a\n1\ninf\n"),
    ("1e999", b"a\n1\n1e999\n"),
    ("values of 1e300", b"a\n1\n1e300\n"),
]


def upload(client: TestClient, content: bytes, kind: str = CSV, name: str = "t") -> Any:
    return client.post("/datasets", params={"name": name}, content=content, headers={"Content-Type": kind})


@pytest.mark.parametrize(("content", "expected"), [pytest.param(*rest, id=name) for name, *rest in READ])
def test_csv_is_read_as_what_it_says(client: TestClient, content: bytes, expected: dict[str, list[Any]]) -> None:
    answer = upload(client, content)
    assert answer.status_code == 201, answer.text
    items = client.get(f"/datasets/{answer.json()['id']}/rows").json()["items"]
    assert {name: [item[name] for item in items] for name in items[0]} == expected


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in REFUSED])
def test_csv_that_is_no_table_is_refused_with_what_is_wrong(client: TestClient, content: bytes) -> None:
    said = problem(upload(client, content), 422)
    assert 10 < len(said["detail"]) < 2000


def test_line_of_two_gigabytes_is_not_taken_in(there: World) -> None:
    """It is made while it is asked for; soon nobody asks any more."""
    piece, taken, sent = b"x" * 65_536, 0, list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += len(piece)
        return {"type": "http.request", "body": piece, "more_body": taken < 2 << 30}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [
        (b"content-type", b"text/csv"),
        (b"authorization", f"Bearer {there.key}".encode()),
        (b"host", b"testserver"),
    ]
    scope = {"type": "http", "method": "POST", "path": "/datasets", "raw_path": b"/datasets", "query_string": b"name=t"}
    more = {"headers": headers, "client": ("127.0.0.1", 1), "server": ("testserver", 80), "scheme": "http"}
    anyio.run(there.app, {**scope, **more, "asgi": {"version": "3.0"}, "http_version": "1.1"}, receive, send)
    assert sent[0]["status"] == 413
    assert taken < 2 * UPLOAD_BYTES


def test_long_line_within_the_bound_is_refused_as_no_table(client: TestClient) -> None:
    problem(upload(client, b"x" * (UPLOAD_BYTES - 1)), 422)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("table.csv", TABLE)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.arange(3))
    return file.getvalue()


class Runs:
    """What a pickle runs when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("a pickle was read",))


@pytest.mark.parametrize("kind", [CSV, PARQUET, "application/x-ndjson", "application/json"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(zipped(), id="a zip"),
        pytest.param(pickle.dumps(Runs()), id="a pickle"),
        pytest.param(npz(), id="npz"),
        pytest.param(b"\x78\x9c" + bytes(100), id="joblib, compressed"),
    ],
)
def test_file_under_another_name_is_refused_unread(
    client: TestClient, capfd: pytest.CaptureFixture[str], content: bytes, kind: str
) -> None:
    answer = client.post("/datasets", files={"file": ("table.csv", content, kind)})
    assert answer.status_code in (400, 422), answer.text
    problem(upload(client, content, kind), answer.status_code)
    assert "a pickle was read" not in capfd.readouterr().out


def parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def encrypted(*, plain_footer: bool) -> bytes:
    class Keys(pe.KmsClient):  # type: ignore[misc]  # pyarrow ships no types
        def wrap_key(self, key: bytes, _name: str) -> bytes:
            return key.hex().encode()

        def unwrap_key(self, wrapped: bytes, _name: str) -> bytes:
            return bytes.fromhex(wrapped.decode())

    factory = pe.CryptoFactory(lambda _: Keys())
    config = pe.EncryptionConfiguration("k", column_keys={"k": ["a"]}, plaintext_footer=plain_footer)
    table = pa.table({"a": [1.0, 2.0]})
    return parquet(table, encryption_properties=factory.file_encryption_properties(pe.KmsConnectionConfig(), config))


def bomb() -> bytes:
    """One long text, two million times."""
    column = pa.DictionaryArray.from_arrays(np.zeros(2_000_000, np.int32), ["x" * 10_000])
    return parquet(pa.table({"a": column}))


GOOD = parquet(pa.table({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "z"]}))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GOOD[: len(GOOD) // 2], id="truncated"),
        pytest.param(GOOD[:-1], id="truncated by a byte"),
        pytest.param(b"PAR1" + GOOD[-12:], id="nothing but a footer"),
        pytest.param(encrypted(plain_footer=True), id="encrypted columns"),
        pytest.param(encrypted(plain_footer=False), id="encrypted"),
        pytest.param(parquet(pa.table({"a": [[1, 2], [3]]})), id="nested lists"),
        pytest.param(parquet(pa.table({"a": [{"b": 1}, {"b": 2}]})), id="nested objects"),
        pytest.param(bomb(), id="a dictionary bomb"),
    ],
)
def test_parquet_that_is_no_table_is_refused(client: TestClient, content: bytes) -> None:
    problem(upload(client, content, PARQUET), 422)


def test_decimals_are_numbers(client: TestClient) -> None:
    cells = pa.array([1, 2, None], pa.decimal128(20, 2))
    answer = upload(client, parquet(pa.table({"a": cells})), PARQUET)
    assert answer.status_code == 201, answer.text
    column = answer.json()["columns"][0]
    assert (column["kind"], column["missing"]) == ("numeric", 1)
    assert math.isclose(column["mean"], 1.5)
