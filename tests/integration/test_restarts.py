"""Two services on one database, started anew one after the other while clients ask: nobody's request is lost."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.storage.database import Database
from tests.api_process import api_process
from tests.patience import until
from tests.processes import linux_only
from tests.raw_http import RawAnswer, RawConnection, prediction
from tests.served import numbers, register
from tests.servers import free_port

pytestmark = linux_only

PAUSE_SECONDS = 0.003
ANSWERS_BETWEEN = 200
ROW = prediction({"model": "numbers", "instances": [[1, 2]]})
LONG = prediction({"model": "numbers", "instances": [[1, 2]]}, "X-Way: the application's")
JOB = prediction({"dataset": "iris", "network": {"kind": "snn"}}, path="/jobs")


class Asking(threading.Thread):
    """A client that asks again and again, and asks the other service where a connection is refused; only there."""

    def __init__(self, ports: list[int], request: bytes, *, stays: bool) -> None:
        super().__init__()
        self._ports = itertools.cycle(ports)
        self._port = next(self._ports)
        self._request = request
        self._stays = stays
        self._connection: RawConnection | None = None
        self._asked = 0
        self.is_over = threading.Event()
        self.answers: Counter[int] = Counter()
        self.faults: list[str] = []

    def run(self) -> None:
        while not self.is_over.wait(PAUSE_SECONDS):
            try:
                answer = self._ask()
            except OSError as error:
                self.faults.append(f"{self._port}, request {self._asked} of its connection: {error!r}")
                self._connection = None
                continue
            self.answers[answer.status] += 1
            if not self._stays or answer.header("connection") == "close":
                self._close()
        self._close()

    def _ask(self) -> RawAnswer:
        while self._connection is None:
            try:
                self._connection, self._asked = RawConnection(self._port), 0
            except ConnectionRefusedError:
                self._port = next(self._ports)
                time.sleep(PAUSE_SECONDS)
        self._asked += 1
        return self._connection.ask(self._request)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def asked(ports: list[int]) -> Iterator[list[Asking]]:
    """Clients of both services: with connections that stay and others, by the short way and the long one, for jobs."""
    both = [ports, ports[::-1]]
    ways = [(ROW, True), (ROW, True), (ROW, False), (LONG, True), (LONG, True), (LONG, False), (JOB, True)]
    clients = [Asking(order, request, stays=stays) for order in both for request, stays in ways]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.is_over.set()
        for client in clients:
            client.join()


def go_on(clients: list[Asking]) -> None:
    """Wait until everybody has been answered, and all together many times."""
    before = [client.answers.total() for client in clients]

    def all_have_been_answered() -> bool:
        new = [client.answers.total() - count for client, count in zip(clients, before, strict=True)]
        return min(new) > 0 and sum(new) >= ANSWERS_BETWEEN

    until(all_have_been_answered, told=lambda: [client.faults for client in clients])


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_services_that_are_started_anew_one_after_the_other_fail_no_request(
    database: Database, database_url: str, broker_url: str, tmp_path: Path
) -> None:
    register(database, numbers("numbers", weight=2.0, spec={"network": {"kind": "mlp"}}))
    ports = [free_port(), free_port()]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    with ExitStack() as services:
        running = []
        for port, folder in zip(ports, folders, strict=True):
            service = services.enter_context(ExitStack())
            service.enter_context(api_process(database_url, folder, port, SELFNORM_BROKER_URL=broker_url))
            running.append(service)
        with asked(ports) as clients:
            go_on(clients)
            for service, port, folder in zip(running, ports, folders, strict=True):
                service.close()
                go_on(clients)
                service.enter_context(api_process(database_url, folder, port, SELFNORM_BROKER_URL=broker_url))
                go_on(clients)
    assert [client.faults for client in clients if client.faults] == []
    assert {status for client in clients for status in client.answers} == {200, 202}
