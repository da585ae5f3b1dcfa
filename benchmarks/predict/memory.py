"""How much an API process holds that has loaded 50 models of the article's size."""

import http.client

from benchmarks.predict import procfs
from benchmarks.predict.networks import Network
from benchmarks.predict.protocols import NATIVE
from benchmarks.predict.report import Figure
from benchmarks.predict.running import serving
from benchmarks.predict.servers import Server

MODELS = 50
BAR_BYTES = 250e6
ASKED = 8
"""Times that every model is asked for each process, over a new connection each: every process loads every model."""
NETWORKS = [
    Network(f"model-{number}", 784 if number % 2 else 13, 10 * (number % 2), number) for number in range(MODELS)
]


def measure(_rounds: int, _seconds: float) -> list[Figure]:
    """Load 50 models by asking them, in one process and in two."""
    figures = []
    for processes in (1, 2):
        with serving(NETWORKS, processes) as server:
            for network in NETWORKS:
                _ask(server, network, ASKED * processes)
            figures += [_figure(server, pid) for pid in server.pids]
    return figures


def _ask(server: Server, network: Network, times: int) -> None:
    body = NATIVE.encode(network, network.rows(1))
    for _ in range(times):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", NATIVE.path(network), body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == http.client.OK, answer.read()
        answer.read()
        connection.close()


def _figure(server: Server, pid: int) -> Figure:
    held = procfs.memory(pid)
    role = "started" if pid == server.pid else "child"
    value = f"{held.resident / 1e6:.0f} MB resident, {held.proportional / 1e6:.0f} MB with shared pages divided"
    return Figure(f"{server.name}, {role} process", value, f"{BAR_BYTES / 1e6:.0f} MB", held.resident < BAR_BYTES)
