"""The log of a real API process: one JSON object a line, whatever is sent to it, and no secret of anybody's."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from service.domain.owners import DEFAULT_OWNER
from service.storage.database import Database
from tests.api_process import ApiProcess, api_process
from tests.patience import until
from tests.processes import linux_only
from tests.raw_http import connected
from tests.served import numbers, register

pytestmark = linux_only

CANARY = "kanarienvogel7421"
FIELDS = {"timestamp", "level", "logger", "event", "process", "pid"}
SECRET_HEADERS = {
    "Authorization": f"Bearer sn_{CANARY}_{CANARY}",
    "Cookie": f"session={CANARY}; other={CANARY}",
    "X-API-Key": CANARY,
    "X-Request-ID": f"{CANARY} and more",
    "traceparent": f"00-{CANARY}-00f067aa0ba902b7-01",
    "User-Agent": f'{CANARY}"}}',
}
JSON = b"Content-Type: application/json\r\n"
HOSTILE = [
    b"GET /%s?key=%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /jobs/%s%%0a{%%22level%%22:1}?token=%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET http://user:%s@x/%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"BREW /%s HTTP/1.1\r\nHost: %s\r\n\r\n",
    b"%s\r\n%s\r\n\r\n",
    b"\x16\x03\x01%s\x00\x1b[31m%s\r\n\r\n",
    b"POST /probe HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Content-Length: 9\r\n%s: 1\r\n\r\n{%s",
    b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %s\r\n%s: 1\r\n\r\n",
]


@pytest.fixture(scope="module")
def api(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    path = tmp_path_factory.mktemp("log") / "selfnorm.db"
    copy(stocked_sqlite, path)
    database = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
    register(database, numbers("numbers"))
    database.close()
    with api_process(path, path.parent) as running:
        yield running


def lines(api: ApiProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in api.log().split("\n")[:-1]]


def told(api: ApiProcess, request_id: str) -> dict[str, Any]:
    """What the log says of a request when it is over, which is a moment after its client has the answer."""
    found = until(lambda: [line for line in lines(api) if line.get("request_id") == request_id and "route" in line])
    assert len(found) == 1
    return found[0]


def test_request_is_told_of_by_its_route_and_nothing_that_a_client_chooses(api: ApiProcess) -> None:
    answer = api.client.get(f"/jobs/{CANARY}?page_token={CANARY}", headers={"X-Request-ID": "mine-1"})
    found = told(api, answer.headers["x-request-id"])
    wanted = {"method": "GET", "route": "/jobs/{job_id}", "status": 404, "bytes": len(answer.content)}
    assert {**wanted, "client": "127.0.0.1", "client_request_id": "mine-1", "level": "info"}.items() <= found.items()
    assert 0 < found["seconds"] < 60
    assert found["request_id"] != "mine-1"


def test_trace_that_a_client_names_is_told(api: ApiProcess) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = api.client.get("/jobs", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
    assert told(api, answer.headers["x-request-id"])["trace_id"] == trace_id


def test_probes_and_small_predictions_are_not_told_of(api: ApiProcess) -> None:
    loaded = api.client.post("/predict", json={"model": "numbers", "instances": [[1, 2]]})
    told(api, loaded.headers["x-request-id"])
    before = len(lines(api))
    for path in ("/healthz", "/readyz", "/metrics"):
        assert api.client.get(path).status_code == 200
    with connected(api.port) as connection:
        body = b'{"model": "numbers", "instances": [[1, 2]]}'
        head = (
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        assert connection.ask(head % len(body) + body).status == 200
    assert len(lines(api)) == before


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_bytes_make_whole_lines_and_leave_no_secret(api: ApiProcess, hostile: bytes) -> None:
    secret = CANARY.encode()
    with connected(api.port) as connection:
        connection.send(hostile % (secret, secret))
        connection.socket.shutdown(socket.SHUT_WR)
        connection.rest()
    check(api)


def test_secrets_of_requests_are_nowhere_in_the_log(api: ApiProcess) -> None:
    client = api.client
    rows = [[CANARY, {CANARY: CANARY}]]
    bodies: list[Any] = [{"dataset": CANARY, "tags": [CANARY, "\n{}"]}, {CANARY: CANARY}, [CANARY], {"instances": rows}]
    for path in ("/jobs", "/predict", "/comparisons", "/probe", f"/models/{CANARY}/aliases/{CANARY}", "/predictions"):
        for body in bodies:
            client.post(path, json=body, headers=SECRET_HEADERS)
        client.post(path, content=f"{CANARY}\n{CANARY}\x00", headers={"Content-Type": f"text/{CANARY}"})
    client.post("/datasets", files={"file": (f"{CANARY}\n.csv", f"a,{CANARY}\n1,\n")}, headers=SECRET_HEADERS)
    client.post("/predict", json={"model": CANARY, "instances": [[1]]}, headers={"Idempotency-Key": CANARY})
    client.get(f"/{CANARY}", params={"token": CANARY}, headers=SECRET_HEADERS)
    check(api)


def check(api: ApiProcess) -> None:
    assert api.client.get("/healthz").status_code == 200
    found = lines(api)
    assert all(line.keys() >= FIELDS for line in found)
    assert not re.search(CANARY, api.log()), [line for line in found if CANARY in str(line)][:3]
