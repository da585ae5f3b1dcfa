"""Several API processes behind one acceptor: connections are spread, processes come and go, all are one service."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from service.domain.owners import DEFAULT_OWNER
from service.storage import aliases
from service.storage.database import Database
from tests.api_process import END_SECONDS, ApiProcess, api_process, holds, memory_of
from tests.patience import PATIENCE_SECONDS, until
from tests.processes import alive, descendants, linux_only
from tests.raw_http import RawConnection, connected, prediction
from tests.served import SLOW_ROWS, numbers, register, slow
from tests.stopwatch import stopwatch

pytestmark = linux_only

PLAIN: dict[str, Any] = {"network": {"kind": "mlp"}}
TWO = {"SELFNORM_API_PROCESSES": "2"}
MANY = 10
"""Short answers of one process, whose ids begin alike; a long one, as the first of a model, has an id of its own."""
ROW = prediction({"model": "numbers", "instances": [[1, 2]]})
SLOW = prediction({"model": "slow", "instances": [[1]] * SLOW_ROWS})


@pytest.fixture
def sqlite_file(stocked_sqlite: Path, tmp_path: Path) -> Path:
    return stock(stocked_sqlite, tmp_path)


@pytest.fixture
def api(sqlite_file: Path, tmp_path: Path) -> Iterator[ApiProcess]:
    """A service that a test may harm."""
    with api_process(sqlite_file, tmp_path, **TWO) as running:
        wait_for_both(running)
        yield running


@pytest.fixture(scope="module")
def shared(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiProcess, Database]]:
    """A service that no test harms, with its database."""
    folder = tmp_path_factory.mktemp("several")
    path = stock(stocked_sqlite, folder)
    database = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
    with api_process(path, folder, **TWO) as running:
        wait_for_both(running)
        yield running, database
        assert "Traceback" not in running.log()
    database.close()


def stock(stocked_sqlite: Path, folder: Path) -> Path:
    path = folder / "selfnorm.db"
    copy(stocked_sqlite, path)
    database = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
    register(database, numbers("numbers", weight=2.0, spec=PLAIN), numbers("numbers", spec=PLAIN))
    register(database, numbers("counted", spec=PLAIN), numbers("watched", spec=PLAIN), slow("slow", spec=PLAIN))
    with database.write() as connection:
        for name in ("numbers", "slow"):
            aliases.put(connection, name, "production", 1)
    database.close()
    return path


def parts(api: ApiProcess) -> list[int]:
    """The API processes below the acceptor."""
    return sorted(pid for pid, command in descendants(api.pid).items() if "service.server" in command)


def server_of(connection: RawConnection) -> str:
    """Tell which process answers a connection: the ids of its short answers begin alike."""
    connection.ask(ROW)  # the first one may have to load the model
    return str(connection.ask(ROW).header("x-request-id"))[:8]


def spread(connections: list[RawConnection]) -> list[int]:
    """How many connections each process has."""
    return sorted(Counter(map(server_of, connections)).values())


def one_to_each(api: ApiProcess, stack: ExitStack) -> list[RawConnection]:
    """Connections to both processes, one each."""
    found: dict[str, RawConnection] = {}
    until(lambda: len(_connect(api, stack, found)) == 2)
    return list(found.values())


def wait_for_both(api: ApiProcess) -> None:
    """Return when both are handed connections, which is a moment after they say that they have started."""
    until(lambda: api.log().count("Application startup complete") >= 2)
    with ExitStack() as stack:
        one_to_each(api, stack)


def _connect(api: ApiProcess, stack: ExitStack, found: dict[str, RawConnection]) -> dict[str, RawConnection]:
    opened = stack.enter_context(connected(api.port))
    found.setdefault(server_of(opened), opened)
    return found


def test_connections_that_stay_are_spread_evenly(shared: tuple[ApiProcess, Database]) -> None:
    api, _ = shared
    api.client.close()  # the test's other connection, which would count too

    def are_even() -> bool:
        with ExitStack() as stack:
            return spread([stack.enter_context(connected(api.port)) for _ in range(32)]) == [16, 16]

    for _ in range(3):
        until(are_even)  # the ends of those before are heard of a moment later


def test_connections_of_the_very_start_are_spread_too(stocked_sqlite: Path, tmp_path: Path) -> None:
    database = stock(stocked_sqlite, tmp_path)
    with api_process(database, tmp_path, SELFNORM_API_PROCESSES="2") as api, ExitStack() as stack:
        # The client that waited for the service keeps a connection too.
        assert spread([stack.enter_context(connected(api.port)) for _ in range(7)]) == [3, 4]


def test_acceptor_loads_nothing_of_what_answers(shared: tuple[ApiProcess, Database]) -> None:
    api, _ = shared
    assert "onnxruntime" not in Path(f"/proc/{api.pid}/maps").read_text()
    for pid in parts(api):
        assert "onnxruntime" in Path(f"/proc/{pid}/maps").read_text()
        assert api.memory() < 0.6 * memory_of(pid, "VmRSS")


def test_connections_that_end_make_room_for_others(shared: tuple[ApiProcess, Database]) -> None:
    api, _ = shared
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(api.port)) for _ in range(20)]
        by_server: dict[str, list[RawConnection]] = {}
        for opened in connections:
            by_server.setdefault(server_of(opened), []).append(opened)
        [first, second] = by_server
        for opened in by_server[first]:
            opened.close()

        def come_to_the_first() -> bool:
            fresh = [stack.enter_context(connected(api.port)) for _ in range(4)]
            return [server_of(opened) for opened in fresh] == [first] * 4

        until(come_to_the_first)
        assert all(server_of(opened) == second for opened in by_server[second])


def test_moved_alias_is_served_by_both(shared: tuple[ApiProcess, Database]) -> None:
    api, database = shared
    with ExitStack() as stack:
        both = one_to_each(api, stack)
        for version in (2, 1):
            with database.write() as connection:
                aliases.put(connection, "numbers", "production", version)
            wanted = [version] * 2
            until(lambda wanted=wanted: [opened.ask(ROW).json()["version"] for opened in both] == wanted)  # type: ignore[misc]  # mypy cannot type a default


def test_metrics_are_those_of_both(shared: tuple[ApiProcess, Database]) -> None:
    api, _ = shared
    row = prediction({"model": "counted", "instances": [[1, 100], [0, 0]]})
    with ExitStack() as stack:
        both = one_to_each(api, stack)
        for opened in both:
            for _ in range(3):
                opened.ask(row)
        wanted = {"selfnorm_prediction_rows_total": 12.0, "selfnorm_input_far_rows_total": 6.0}
        until(lambda: counted(api, "counted") == wanted)
        assert counted(api, "counted") == wanted  # whoever is asked
        small = prediction({"model": "counted", "instances": [[1, 1]]})
        for opened in both:
            for _ in range(5):
                assert opened.ask(small).status == 200  # by the short way
        until(lambda: timed(api, "counted") == 6 + 10)
        until(lambda: "selfnorm_api_processes 2.0" in metrics_of(api))


def timed(api: ApiProcess, model: str) -> float:
    """How many answers of a model have been timed."""
    labels = f'model="{model}",owner="local",version="1"'
    text = metrics_of(api)
    found = re.search(rf"^selfnorm_prediction_duration_seconds_count{{{labels}}} (\S+)$", text, re.MULTILINE)
    return 0.0 if found is None else float(found.group(1))


def metrics_of(api: ApiProcess) -> str:
    """Ask for them on a connection of its own, for a test may have closed the others."""
    with connected(api.port) as connection:
        return connection.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").body.decode()


def counted(api: ApiProcess, model: str) -> dict[str, float]:
    text = metrics_of(api)
    labels = f'model="{model}",owner="local",version="1"'
    lines = re.findall(rf"^(selfnorm_\w+_rows_total){{{labels}}} (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


def test_inputs_are_those_of_both(shared: tuple[ApiProcess, Database]) -> None:
    api, _ = shared
    row = prediction({"model": "watched", "instances": [[1, 100], [0, 0]]})
    with ExitStack() as stack:
        for opened in one_to_each(api, stack):
            for _ in range(5):
                opened.ask(row)

        asked = b"GET /models/watched/versions/1/inputs HTTP/1.1\r\nHost: localhost\r\n\r\n"

        def found() -> tuple[int, int, dict[str, int], int]:
            with connected(api.port) as connection:
                body = connection.ask(asked).json()
            return body["rows"], body["far_rows"], body["far"], body["recent"]["rows"]

        until(lambda: found() == (20, 10, {"c1": 10}, 20))


def test_process_that_is_killed_is_replaced_and_nobody_new_notices(api: ApiProcess) -> None:
    first, second = parts(api)
    with ExitStack() as stack:
        both = one_to_each(api, stack)
        loaded = '"model":"numbers"'
        os.kill(first, signal.SIGKILL)
        assert alive({first: ""}) == []
        for _ in range(20):
            fresh = stack.enter_context(connected(api.port))
            answer = fresh.ask(ROW)
            assert answer.status == 200
            assert loaded.encode() in answer.body
        gone = 0
        for opened in both:
            with suppress(ConnectionError):
                opened.ask(ROW)
                continue
            gone += 1
        assert gone == 1
    until(lambda: len(parts(api)) == 2 and first not in parts(api))
    assert api.process.poll() is None
    assert second in parts(api)
    until(lambda: api.log().count("Application startup complete") == 3)
    with ExitStack() as stack:
        one_to_each(api, stack)
    # What has gone is loaded no more, and what it has answered stays counted.
    until(lambda: "selfnorm_models_loaded 4.0" in api.client.get("/metrics").text)
    assert counted(api, "numbers")["selfnorm_prediction_rows_total"] > 20


def test_process_that_is_told_to_end_hands_nobody_a_connection_that_waits(api: ApiProcess) -> None:
    with ExitStack() as stack:
        both = one_to_each(api, stack)
        for opened in both:
            opened.ask(SLOW)
        both[0].send(SLOW, SLOW, SLOW)
        ending = next(pid for pid in parts(api) if holds(pid, both[0].socket))
        os.kill(ending, signal.SIGTERM)
        for _ in range(20):
            assert stack.enter_context(connected(api.port)).ask(ROW).status == 200
        assert both[0].read().json()["predictions"] == [1.0] * SLOW_ROWS
        assert both[1].ask(ROW).status == 200
    until(lambda: ending not in parts(api) and len(parts(api)) == 2)


def test_connections_that_stay_lose_no_request_when_their_processes_are_replaced(api: ApiProcess) -> None:
    faults: list[str] = []
    is_over = threading.Event()
    answered: Counter[str] = Counter()

    def ask() -> None:
        while not is_over.is_set():
            with connected(api.port) as connection:
                while not is_over.wait(0.003):
                    try:
                        answer = connection.ask(ROW)
                    except ConnectionError as error:
                        faults.append(str(error))
                        break
                    answered[str(answer.header("x-request-id"))[:8]] += 1
                    if answer.header("connection") == "close":
                        break

    def servers() -> list[str]:
        return [name for name, count in answered.items() if count >= MANY]

    clients = [threading.Thread(target=ask) for _ in range(10)]
    for client in clients:
        client.start()
    try:
        until(lambda: len(servers()) == 2, told=lambda: answered)
        for ending in parts(api):
            os.kill(ending, signal.SIGTERM)
            until(lambda ending=ending: ending not in parts(api) and len(parts(api)) == 2)  # type: ignore[misc]  # mypy cannot type a default
            until(lambda: "selfnorm_api_processes 2.0" in api.client.get("/metrics").text)
        until(lambda: len(servers()) >= 3, told=lambda: answered)
    finally:
        is_over.set()
        for client in clients:
            client.join()
    assert faults == []


def test_service_that_is_told_to_end_finishes_what_is_under_way(api: ApiProcess) -> None:
    below = descendants(api.pid)
    with ExitStack() as stack:
        both = one_to_each(api, stack)
        idle = stack.enter_context(connected(api.port))
        for opened in both:
            opened.ask(ROW)
            opened.send(SLOW)
            opened.send(prediction({"model": "numbers", "instances": [[3, 4]]}))
        with connected(api.port) as other, connected(api.port) as another:
            assert [found.ask(ROW).status for found in (other, another)] == [200, 200]  # both have begun
        watch, asked = stack.enter_context(stopwatch()), time.monotonic()
        api.process.send_signal(signal.SIGTERM)
        for opened in both:
            assert opened.read().json()["predictions"] == [1.0] * SLOW_ROWS
        assert idle.rest() == b""
        assert api.process.wait(PATIENCE_SECONDS) == 0
        assert watch.elapsed(asked) < END_SECONDS
    assert alive(below) == []
    with pytest.raises(ConnectionRefusedError), connected(api.port):
        pass
    assert "Traceback" not in api.log()


def test_processes_end_with_the_acceptor_that_is_killed(api: ApiProcess) -> None:
    below = descendants(api.pid)
    assert len(below) >= 2
    api.process.kill()
    api.process.wait(PATIENCE_SECONDS)
    assert alive(below) == []


def test_connection_for_which_there_is_no_room_ends_at_once_and_is_not_counted(api: ApiProcess) -> None:
    with ExitStack() as stack:
        both = one_to_each(api, stack)
        full = next(pid for pid in parts(api) if holds(pid, both[0].socket))
        before = resource.prlimit(full, resource.RLIMIT_NOFILE)
        resource.prlimit(full, resource.RLIMIT_NOFILE, (0, before[1]))
        tried = [stack.enter_context(connected(api.port)) for _ in range(16)]
        living = [opened for opened in tried if _answers(opened)]
        assert len(living) <= 10
        assert all(opened.ask(ROW).status == 200 for opened in both)
        resource.prlimit(full, resource.RLIMIT_NOFILE, before)
        fresh = [stack.enter_context(connected(api.port)) for _ in range(16)]
        fewest, most = spread([*both, *living, *fresh])
        assert most - fewest <= 3  # one is the test's own


def _answers(connection: RawConnection) -> bool:
    try:
        return connection.ask(ROW).status == 200
    except ConnectionError:
        return False


def test_port_that_is_in_use_is_said_and_ends_the_service(sqlite_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = _run(port, SELFNORM_DATABASE_URL=f"sqlite:///{sqlite_file}", **TWO)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in ended.stdout


def test_service_whose_processes_cannot_come_up_ends_and_says_why() -> None:
    ended = _run(0, SELFNORM_DATABASE_URL="nonsense://x", **TWO)
    assert ended.returncode == 1
    assert "nonsense" in ended.stdout


def _run(port: int, **settings: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "service.cli", "api", "--port", str(port)]
    return subprocess.run(
        command,
        env={**os.environ, "SELFNORM_BROKER_URL": "redis://127.0.0.1:1/0", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
