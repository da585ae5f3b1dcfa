"""Headers and paths."""

import pytest
from fastapi.testclient import TestClient

from tests.api.support import problem
from tests.fuzz.world import World

ODD_VERSIONS = ["-1", "0", "1e9", "NaN", "9" * 30, "latest", "%00"]


@pytest.fixture(scope="module")
def stranger(there: World, client: TestClient) -> TestClient:
    """Asks the running service without a key."""
    return TestClient(there.app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="no key"),
        pytest.param(b"", id="empty"),
        pytest.param(b"Bearer", id="no key behind the word"),
        pytest.param(b"Bearer ", id="an empty key"),
        pytest.param("Bearer schlüssel".encode(), id="non-ASCII"),
        pytest.param(b"Bearer \xff\xfe", id="no UTF-8"),
        pytest.param(b"Bearer " + b"x" * 10_000, id="a long key"),
        pytest.param(b"Basic Og==", id="another scheme"),
    ],
)
def test_key_that_is_none_is_401(stranger: TestClient, header: bytes | None) -> None:
    headers = {} if header is None else {b"Authorization": header}
    said = stranger.get("/jobs", headers=headers)
    assert problem(said, 401)["code"] in ("unauthorized", "invalid_key", "no_key", "missing_key")
    assert said.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("part", ["%00", "a%00b"])
@pytest.mark.parametrize(
    "address", ["/jobs/{}", "/datasets/{}", "/models/{}", "/webhooks/{}/deliveries", "/jobs/{}/events"]
)
def test_nul_in_a_path_is_refused(client: TestClient, address: str, part: str) -> None:
    problem(client.get(address.format(part)), 400)


@pytest.mark.parametrize(
    "part", ["..%2f", "..%2fjobs", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "..%5c", "%252e%252e%252f"]
)
@pytest.mark.parametrize(
    "address", ["/jobs/{}", "/datasets/{}", "/static/{}", "/static-offline-docs/{}", "/v2/models/{}"]
)
def test_path_leads_nowhere_else(client: TestClient, address: str, part: str) -> None:
    answer = client.get(address.format(part), follow_redirects=False)
    assert answer.status_code == 404 or (
        answer.status_code == 307 and answer.headers["location"] == "http://testserver" + address.format("..")
    )
    assert b"root:" not in answer.content


@pytest.mark.parametrize("file", ["..%2fmodel.onnx", "%2e%2e%2f%2e%2e%2fselfnorm.db", "model.onnx%00.json"])
def test_file_of_a_model_is_one_of_a_few(client: TestClient, file: str) -> None:
    assert client.get(f"/models/numbers/versions/1/files/{file}").status_code in (400, 404, 422)


@pytest.mark.parametrize(
    "path", ["/jobs", "/datasets", "/models", "/comparisons", "/predictions", "/webhooks", "/audit"]
)
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("page_size=-1", 200),
        ("page_size=1e9", 200),
        ("page_size=NaN", 422),
        ("page_size=Infinity", 200),
        ("page_size=", 422),
        ("page_size=1&page_size=2", 200),
        ("page_token=forged", 400),
        ("page_token=eyJuIjogMX0", 400),
        ("page_token=%00", 400),
        ("page_token=" + "A" * 201, 422),
        ("page_token=999999999999999999999999", 400),
        ("page_token=-1", 400),
    ],
)
def test_page_is_coerced_or_refused(client: TestClient, path: str, query: str, status: int) -> None:
    answer = client.get(f"{path}?{query}")
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("version", ODD_VERSIONS)
def test_version_that_is_none_is_refused(client: TestClient, version: str) -> None:
    assert client.get(f"/models/numbers/versions/{version}").status_code in (400, 404, 422)
    assert client.get(f"/v2/models/numbers/versions/{version}").status_code in (400, 404)
    assert client.get(f"/v1/models/numbers/versions/{version}").status_code in (400, 404)


@pytest.mark.parametrize("path", ["/docs", "/models/numbers/versions/1/files/model.onnx", "/openapi.json", "/jobs"])
def test_ten_thousand_ranges_are_as_cheap_as_none(client: TestClient, path: str) -> None:
    ranges = "bytes=" + ",".join(f"{start}-{start + 1}" for start in range(10_000))
    assert client.get(path, headers={"Range": ranges}).status_code in (200, 400, 416, 431)


def test_ten_kilobytes_of_idempotency_key_are_refused(client: TestClient) -> None:
    for key in ("k" * 10_240, "", "\x7f", "ü".encode()):
        headers = {b"Idempotency-Key": key if isinstance(key, bytes) else key.encode()}
        assert problem(client.post("/jobs", json={"dataset": "iris"}, headers=headers), 400)["code"]


@pytest.mark.parametrize(
    "header",
    [
        b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
        b"ff-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"g" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"1" * 10_000,
        b"\xff\xfe",
        b"'; DROP TABLE jobs; --",
        b'{"level": "critical"}',
    ],
)
def test_hostile_traceparent_changes_nothing(client: TestClient, header: bytes) -> None:
    answer = client.get("/jobs", headers={b"traceparent": header, b"tracestate": header})
    assert answer.status_code == 200
    assert header[:40] not in repr(answer.headers).encode()
