"""How long one row waits while another client sends 10,000 rows at a time."""

import statistics
import threading

from benchmarks.predict import wrk
from benchmarks.predict.networks import SMALL
from benchmarks.predict.protocols import NATIVE
from benchmarks.predict.report import Figure
from benchmarks.predict.running import database_with
from benchmarks.predict.servers import Front, selfnorm

BAR_MILLISECONDS = 20.0
ROWS = 10_000
CONNECTIONS = (1, 8)
LEAD_SECONDS = 1.0


def measure(rounds: int, seconds: float) -> list[Figure]:
    """Load the API with one row at a time, alone and beside large requests."""
    figures = []
    with database_with([SMALL]) as (folder, database):
        for processes in (1, 2):
            with selfnorm(folder, database, processes) as server:
                front = Front(server, NATIVE)
                for connections in CONNECTIONS:
                    wrk.send(front.request(SMALL, 1), connections, LEAD_SECONDS)
                    figures += _figures(front, connections, rounds, seconds)
    return figures


def _figures(front: Front, connections: int, rounds: int, seconds: float) -> list[Figure]:
    alone, beside, large = [], [], []
    for _ in range(rounds):
        alone.append(wrk.send(front.request(SMALL, 1), connections, seconds))
        small, other = _beside(front, connections, seconds)
        beside.append(small)
        large.append(other)
    name = f"{front.server.name}, 1 x 13 over {connections} connection(s)"
    p99 = _p99(beside)
    value = f"p99 {p99:.1f} ms, {_rate(beside):,.0f}/s beside {_rate(large):.1f}/s"
    before = f"p99 {_p99(alone):.1f} ms, {_rate(alone):,.0f}/s"
    return [
        Figure(f"{name}, alone", before),
        Figure(f"{name}, beside {ROWS:,} rows", value, f"{BAR_MILLISECONDS:.0f} ms", p99 < BAR_MILLISECONDS),
    ]


def _beside(front: Front, connections: int, seconds: float) -> tuple[wrk.Load, wrk.Load]:
    """Load with single rows while another client sends large requests, which begins before and ends after."""
    large: list[wrk.Load] = []
    request = front.request(SMALL, ROWS)
    other = threading.Thread(target=lambda: large.append(wrk.send(request, 1, seconds + 2 * LEAD_SECONDS)))
    other.start()
    threading.Event().wait(LEAD_SECONDS)
    small = wrk.send(front.request(SMALL, 1), connections, seconds)
    other.join()
    assert large, "the large requests failed"
    return small, large[0]


def _p99(loads: list[wrk.Load]) -> float:
    return statistics.median(load.p99_milliseconds for load in loads)


def _rate(loads: list[wrk.Load]) -> float:
    return statistics.median(load.per_second for load in loads)
