"""Bodies."""

import gzip
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.support import JSON, problem

IRIS = '{"dataset": "iris"'
HOSTILE_NAMES = ["a\r\nSet-Cookie: x", "a\x1b[31m", "a\u202egnp", "<img src=x onerror=alert(1)>"]
BODIES: list[tuple[str, bytes, int]] = [
    ("empty", b"", 400),
    ("{", b"{", 400),
    ("null", b"null", 422),
    ("[]", b"[]", 422),
    ("1", b"1", 422),
    ("NaN bare", b'{"dataset": "iris", "training": {"learning_rate": NaN}}', 400),
    ("Infinity bare", b'{"dataset": "iris", "training": {"learning_rate": -Infinity}}', 400),
    ("NaN as text", b'{"dataset": "iris", "training": {"learning_rate": "NaN"}}', 422),
    ("Infinity as text", b'{"dataset": "iris", "training": {"learning_rate": "Infinity"}}', 422),
    ("1e400", b'{"dataset": "iris", "training": {"learning_rate": 1e400}}', 400),
    ("a 30-digit integer", f'{IRIS}, "training": {{"seed": {"9" * 30}}}}}'.encode(), 422),
    ("an integer of 5,000 digits", f'{IRIS}, "training": {{"seed": {"9" * 5000}}}}}'.encode(), 400),
    ("100,000 nested [", b"[" * 100_000, 400),
    ("duplicate keys", b'{"dataset": "iris", "dataset": "wine"}', 400),
    ("a state", f'{IRIS}, "state": "succeeded"}}'.encode(), 422),
    ("an owner", f'{IRIS}, "owner_id": "bob"}}'.encode(), 422),
    ("a lone surrogate", b'{"dataset": "\\ud800"}', 400),
    ("NUL", b'{"dataset": "a\\u0000b"}', 400),
    *(
        (f"a name with {name[1:4]!r}", json.dumps({"dataset": "iris", "model": name}).encode(), 422)
        for name in HOSTILE_NAMES
    ),
    ("UTF-16", '{"dataset": "iris"}'.encode("utf-16"), 400),
    ("UTF-16 without its mark", '{"dataset": "iris"}'.encode("utf-16-le"), 400),
    ("2 MB in one field", f'{{"dataset": "{"x" * 2_000_000}"}}'.encode(), 422),
    ("2 MB in one name", f'{{"{"x" * 2_000_000}": 1}}'.encode(), 422),
]


@pytest.mark.parametrize("address", ["/jobs", "/comparisons", "/probe"])
@pytest.mark.parametrize(("body", "status"), [pytest.param(body, status, id=name) for name, body, status in BODIES])
def test_body_is_refused_with_what_is_wrong(client: TestClient, address: str, body: bytes, status: int) -> None:
    said = problem(client.post(address, content=body, headers=JSON), status)
    assert len(json.dumps(said)) < 5_000, "no bad value is echoed at length"


@pytest.mark.parametrize("address", ["/jobs", "/predict", "/predictions", "/webhooks", "/v1/models/numbers:predict"])
def test_million_keys_are_refused(client: TestClient, address: str) -> None:
    body = "{" + ",".join(f'"{key}":1' for key in range(1_000_000)) + "}"
    assert client.post(address, content=body, headers=JSON).status_code == 413


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("address", ["/datasets/{}", "/jobs/{}", "/models/{}"])
def test_hostile_name_in_an_address_is_unknown(client: TestClient, address: str, name: str) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    said = client.get(address.format(quoted))
    assert said.status_code in (400, 404)
    assert "set-cookie" not in said.headers
    assert not set("\r\n\x1b\u202e") & set(json.loads(said.content)["detail"])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
def test_compressed_body_is_refused_unread(client: TestClient, encoding: str) -> None:
    bomb = gzip.compress(gzip.compress(bytes(100_000_000), 1))
    headers = {**JSON, "Content-Encoding": encoding}
    assert client.post("/jobs", content=bomb, headers=headers).status_code in (400, 415)


@pytest.mark.parametrize("address", ["/v2/models/numbers/infer", "/v1/models/numbers:predict", "/invocations"])
def test_gzip_bomb_is_not_unpacked_beyond_the_bound_of_a_body(client: TestClient, address: str) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    answer = client.post(address, content=bomb, headers={**JSON, "Content-Encoding": "gzip"})
    assert 400 <= answer.status_code < 500, answer.text


@pytest.mark.parametrize("address", ["/jobs", "/comparisons", "/probe", "/predictions", "/webhooks"])
@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=utf-8", None])
def test_json_that_is_called_otherwise_is_refused(client: TestClient, address: str, kind: str | None) -> None:
    headers: dict[str, Any] = {} if kind is None else {"Content-Type": kind}
    said = problem(client.post(address, content=b'{"dataset": "iris"}', headers=headers), 415)
    assert "application/json" in said["detail"]
