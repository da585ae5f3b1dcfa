"""Clients that are slow, large or many: they are closed, others are answered meanwhile, and nothing of them is left."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copy

import pytest

from tests.api_process import END_SECONDS, ApiProcess, api_process, holds
from tests.patience import PATIENCE_SECONDS, until
from tests.processes import linux_only
from tests.raw_http import TIMEOUT_SECONDS, RawConnection, connected, prediction
from tests.stopwatch import stopwatch

pytestmark = linux_only

LIMITS = {
    "SELFNORM_HEADER_SECONDS": "2",
    "SELFNORM_BODY_SECONDS": "3",
    "SELFNORM_READER_SECONDS": "3",
    "SELFNORM_KEEP_ALIVE_SECONDS": "2",
    "SELFNORM_MAX_CONNECTIONS": "300",
    "SELFNORM_MAX_HEADERS": "20",
    "SELFNORM_MAX_HEADER_BYTES": "4096",
    "SELFNORM_MAX_URL_BYTES": "512",
}
UPLOAD = (
    b"POST /datasets?name=a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: 1000\r\n\r\na,b\n"
)
JSON = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
HALVES = {
    "nothing": b"",
    "line ends": b"\r\n\r\n",
    "half an address": b"GET /heal",
    "half a head": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b",
    "half a body": JSON,
    "half an upload": UPLOAD,
    "half a prediction": prediction({"model": "m", "instances": [[1, 2]]})[:-3],
    "half a chunk": JSON[:-1].replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked") + b"1000\r\n{",
    "a body that nobody reads": JSON.replace(b"/jobs", b"/nowhere"),
}


@pytest.fixture(scope="module")
def api(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("connections")
    copy(stocked_sqlite, folder / "selfnorm.db")
    with api_process(folder / "selfnorm.db", folder, **LIMITS) as running:
        yield running


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def open_files(api: ApiProcess) -> int:
    return len(os.listdir(f"/proc/{api.pid}/fd"))


def closed(connection: RawConnection) -> bytes:
    """What still came before the service ended a connection."""
    with contextlib.suppress(ConnectionResetError):
        return connection.rest()
    return b""


@pytest.mark.parametrize(
    ("fits", "is_over", "status", "code"),
    [
        (get("/healthz?" + "a" * 503), get("/healthz?" + "a" * 504), 414, "address_too_long"),
        (
            get("/healthz", *["X-A: b"] * 19),
            get("/healthz", *["X-A: b"] * 20),
            431,
            "headers_too_large",
        ),
        (
            get("/healthz", "X-A: " + "b" * (4096 - 32)),
            get("/healthz", "X-A: " + "b" * (4096 - 31)),
            431,
            "headers_too_large",
        ),
    ],
    ids=["address", "headers", "bytes"],
)
def test_head_may_be_as_large_as_it_may_and_no_larger(
    api: ApiProcess, fits: bytes, is_over: bytes, status: int, code: str
) -> None:
    with connected(api.port) as connection:
        assert connection.ask(fits).status == 200
        answer = connection.ask(is_over)
        assert (answer.status, answer.json()["code"]) == (status, code)
        assert answer.header("content-type") == "application/problem+json"
        assert answer.header("x-request-id") == answer.json()["request_id"]
        assert answer.header("connection") == "close"
        assert closed(connection) == b""


@pytest.mark.parametrize("begun", [get("/healthz")[:-2] + b"X-A: ", b"GET /"], ids=["header", "address"])
def test_head_that_never_ends_is_refused_while_it_comes(api: ApiProcess, begun: bytes) -> None:
    with connected(api.port) as connection:
        connection.send(begun, b"a" * 2**20)
        assert connection.read().json()["code"] == "headers_too_large"


@pytest.mark.parametrize(
    "endless",
    [b"2\r\n{}\r\n0\r\n" + b"a:b\r\n" * 10_000, b"2\r\n{}\r\n0\r\na: " + b"a" * 2**20, b"2;a=" + b"a" * 2**20],
    ids=["trailers", "trailer", "extension of a chunk"],
)
def test_what_a_body_comes_with_is_bounded_too(api: ApiProcess, endless: bytes) -> None:
    head = JSON[:-1].replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")
    with connected(api.port) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(head, endless)
        assert b"408" not in closed(connection)


def test_bytes_that_are_no_request_are_a_problem(api: ApiProcess) -> None:
    with connected(api.port) as connection:
        answer = connection.ask(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        assert (answer.status, answer.json()["code"]) == (400, "malformed_request")


@pytest.mark.parametrize("begun", HALVES.values(), ids=HALVES)
def test_request_that_does_not_go_on_is_ended(api: ApiProcess, begun: bytes) -> None:
    with connected(api.port) as connection:
        connection.send(begun)
        came = closed(connection)
        if begun.strip() and b"/nowhere" not in begun:
            assert came.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b'"code":"too_slow"' in came


def test_request_that_dribbles_is_ended(api: ApiProcess) -> None:
    for begun in (HALVES["half a head"], HALVES["half an upload"], b""):
        with connected(api.port) as connection:
            connection.send(begun)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(TIMEOUT_SECONDS * 5):
                    connection.send(b"\r\n" if not begun else b"a")
                    time.sleep(0.2)
                raise AssertionError("it was never ended")


def test_connection_rests_between_two_requests_and_no_longer(api: ApiProcess) -> None:
    with connected(api.port) as connection:
        for _ in range(3):
            assert connection.ask(get("/healthz")).status == 200
            time.sleep(1)
        assert closed(connection) == b""


def test_upload_may_be_slow_as_long_as_it_goes_on(api: ApiProcess) -> None:
    table = b"a,b\n" + b"1,2\n" * 4000
    head = UPLOAD.partition(b"\r\n\r\n")[0].replace(b"1000", str(len(table)).encode()) + b"\r\n\r\n"
    with connected(api.port) as connection:
        connection.send(head)
        for start in range(0, len(table), 2000):  # 4 KB a second, for longer than a body may take
            connection.send(table[start : start + 2000])
            time.sleep(0.5)
        assert connection.read().status == 201


def slow_reader(port: int) -> socket.socket:
    """Ask for many megabytes, and read none of them."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.connect(("127.0.0.1", port))
    opened.sendall(get("/openapi.json") * 200)
    return opened


def test_client_that_does_not_take_its_answer_is_closed(api: ApiProcess) -> None:
    reader = slow_reader(api.port)
    until(lambda: holds(api.pid, reader))
    until(lambda: not holds(api.pid, reader), TIMEOUT_SECONDS)
    reader.close()


def test_hundreds_of_half_open_connections_are_closed_and_keep_nobody_waiting(api: ApiProcess) -> None:
    api.client.get("/healthz")
    before, memory = open_files(api), api.memory()
    connections = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(250)]
    for number, connection in enumerate(connections):
        connection.sendall(list(HALVES.values())[number % len(HALVES)])
    while open_files(api) > before + 20:
        assert api.client.get("/healthz").status_code == 200
        time.sleep(0.1)
    for connection in connections:
        connection.close()
    assert api.memory() - memory < 100 * 2**20


def test_one_connection_too_many_is_told_so(api: ApiProcess) -> None:
    connections = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(300)]
    with connected(api.port) as one_more:
        answer = one_more.read()
        assert (answer.status, answer.json()["code"]) == (503, "too_many_connections")
        assert answer.header("retry-after")
    for connection in connections:
        connection.close()

    def there_is_room() -> bool:
        with connected(api.port) as opened, contextlib.suppress(ConnectionError):
            return opened.ask(get("/healthz")).status == 200
        return False

    until(there_is_room)


def test_half_open_connections_do_not_hold_up_the_end(stocked_sqlite: Path, tmp_path: Path) -> None:
    copy(stocked_sqlite, tmp_path / "selfnorm.db")
    with api_process(tmp_path / "selfnorm.db", tmp_path) as running:
        connections = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(30)]
        for number, connection in enumerate(connections):
            connection.sendall(list(HALVES.values())[number % len(HALVES)])
        connections.append(slow_reader(running.port))
        running.client.get("/healthz")
        with stopwatch() as watch:
            asked = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
            assert watch.elapsed(asked) < END_SECONDS, running.log()
        for connection in connections:
            connection.close()
