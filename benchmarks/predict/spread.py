"""Whether connections spread over the API's processes: how many requests each of them answered."""

import time
from collections import Counter

from benchmarks.predict import procfs
from benchmarks.predict.clients import Clients
from benchmarks.predict.networks import SMALL
from benchmarks.predict.protocols import NATIVE
from benchmarks.predict.report import Figure
from benchmarks.predict.running import serving
from benchmarks.predict.servers import Server

CONNECTIONS = 32
PROCESSES = 2
SHARE_BAR = 0.4
"""Of the connections, that the process with the fewest has; 0.5 is its fair part."""


def measure(rounds: int, seconds: float) -> list[Figure]:
    """Send over 32 connections that stay open, new ones in every round."""
    with serving([SMALL], PROCESSES) as server:
        return [_once(server, number, seconds) for number in range(1, rounds + 1)]


def _once(server: Server, number: int, seconds: float) -> Figure:
    body = NATIVE.encode(SMALL, SMALL.rows(1))
    with Clients(server.port, NATIVE.path(SMALL), body, CONNECTIONS) as clients:
        time.sleep(seconds)
        answering = procfs.answering(server.pids, server.port)
    seen = clients.seen
    assert not seen.faults, seen.faults[:5]
    requests: Counter[int] = Counter()
    for client, count in seen.answers.items():
        requests[answering[client]] += count
    connections = Counter(answering[client] for client in seen.answers)
    parts = [f"{count:,} over {connections[pid]}" for pid, count in requests.most_common()]
    share = min(connections.values()) / CONNECTIONS if len(connections) == PROCESSES else 0.0
    value = f"{' and '.join(parts)} connections; least {share:.2f} of them"
    return Figure(f"{server.name}, round {number}, requests of each process", value, f"{SHARE_BAR}", share >= SHARE_BAR)
