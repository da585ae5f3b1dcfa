"""How much an API process holds that has loaded 50 models of the article's size."""

import contextlib
import http.client

from benchmarks.predict import procfs
from benchmarks.predict.networks import Network
from benchmarks.predict.protocols import NATIVE
from benchmarks.predict.report import Figure
from benchmarks.predict.running import serving
from benchmarks.predict.servers import Server

MODELS = 50
BAR_BYTES = 250e6
CONNECTIONS = 4
"""Open for each process while the models are asked over each of them: so every process loads every model."""
NETWORKS = [
    Network(f"model-{number}", 784 if number % 2 else 13, 10 * (number % 2), number) for number in range(MODELS)
]


def measure(_rounds: int, _seconds: float) -> list[Figure]:
    """Load 50 models by asking them, in one process and in two."""
    figures = []
    for processes in (1, 2):
        with serving(NETWORKS, processes) as server:
            _load(server, processes)
            figures += [_figure(server, pid) for pid in server.pids]
    return figures


def _load(server: Server, processes: int) -> None:
    """Ask for a row of every model in every process."""
    with contextlib.ExitStack() as stack:
        connections = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(CONNECTIONS * processes)]
        for connection in connections:
            stack.callback(connection.close)
            connection.connect()
        for network in NETWORKS:
            body = NATIVE.encode(network, network.rows(1))
            for connection in connections:
                connection.request("POST", NATIVE.path(network), body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                said = answer.read()
                assert answer.status == http.client.OK, said
        asked = set(procfs.answering(server.pids, server.port).values())
        assert len(asked) == processes, f"only {len(asked)} of {processes} processes were asked"


def _figure(server: Server, pid: int) -> Figure:
    held = procfs.memory(pid)
    role = "started" if pid == server.pid else "child"
    value = f"{held.resident / 1e6:.0f} MB resident, {held.proportional / 1e6:.0f} MB with shared pages divided"
    return Figure(f"{server.name}, {role} process", value, f"{BAR_BYTES / 1e6:.0f} MB", held.resident < BAR_BYTES)
