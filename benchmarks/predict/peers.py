"""One row of 13 numbers, one of 784, and 256 of 13: every server and route in turns, in one run.

Bars: 300 times the tutorial's service for one row of 13 over 8 connections; in every case not behind the better of
Triton with one instance and with two, and with no worse a p99. Of our settings, one process and two, the one that is
ahead with the better p99 counts, as somebody would choose. A ratio is the median of the rounds' ratios: what else the
machine does in a round, it does to all of them.
"""

import contextlib
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np

from benchmarks.predict import networks, report, wrk
from benchmarks.predict.networks import SMALL, WIDE, Network
from benchmarks.predict.protocols import NATIVE, OPEN_INFERENCE, TUTORIAL, Protocol, Rows
from benchmarks.predict.registry import make_database, register
from benchmarks.predict.report import Figure
from benchmarks.predict.servers import DidNotStart, Front, Server, selfnorm, tutorial
from benchmarks.predict.triton import NoTriton, install, triton

TUTORIAL_BAR = 300.0
TRITON_BAR, TRITON_AIM = 1.0, 1.25
P99_BAR = 1.0
SAME = 1e-5
CONNECTIONS = (1, 8, 32)
WARM_SECONDS = 1.0
SLOW_SECONDS = 5.0
"""The tutorial's service answers nothing at times in less."""
TUTORIAL_CONNECTIONS = 8
"""It is loaded with these only: more make it no faster, and it takes most of the time as it is."""


@dataclass(frozen=True)
class Case:
    """What is asked, over how many connections."""

    network: Network
    rows: int
    connections: int

    @property
    def name(self) -> str:
        """Rows x columns, and connections."""
        return f"{self.rows} x {self.network.features}, {self.connections}"


@dataclass(frozen=True)
class Turn:
    """What one turn of one server came to."""

    load: wrk.Load
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.load.per_second

    @property
    def p50(self) -> float:
        """In milliseconds."""
        return self.load.p50_milliseconds

    @property
    def p99(self) -> float:
        """In milliseconds."""
        return self.load.p99_milliseconds

    @property
    def cpu_microseconds(self) -> float:
        """Of the server's processes, for each request."""
        return self.cpu_seconds / self.load.requests * 1e6


What = Callable[[Turn], float]
Turns = dict[tuple[Case, Front], list[Turn]]
RATE: What = attrgetter("per_second")
P99: What = attrgetter("p99")
CPU: What = attrgetter("cpu_microseconds")
SHAPES = ((SMALL, 1), (WIDE, 1), (SMALL, 256))
CASES = tuple(Case(network, rows, connections) for network, rows in SHAPES for connections in CONNECTIONS)


def measure(rounds: int, seconds: float) -> list[Figure]:
    """Start all servers, check that they agree, and load them in turns."""
    missing: list[Figure] = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        networks.write([SMALL, WIDE], folder, for_peers=True)
        ours = _start_ours(folder, stack)
        peers = [Front(stack.enter_context(tutorial(folder)), TUTORIAL), *_start_triton(folder, stack, missing)]
        fronts = [front for front in [*ours, *peers] if _agrees(front, missing)]
        turns = _turns(fronts, rounds, seconds)
        _print(turns, fronts)
        return [*missing, *_judge(turns, fronts)]


def _start_ours(folder: Path, stack: contextlib.ExitStack) -> list[Front]:
    database = make_database(folder)
    register(database, [SMALL, WIDE], folder)
    servers = [stack.enter_context(selfnorm(folder, database, processes)) for processes in (1, 2)]
    return [Front(server, protocol) for protocol in (NATIVE, OPEN_INFERENCE) for server in servers]


def _start_triton(folder: Path, stack: contextlib.ExitStack, missing: list[Figure]) -> list[Front]:
    try:
        site = install()
        servers = [stack.enter_context(triton(site, folder, [SMALL, WIDE], instances)) for instances in (1, 2)]
    except (NoTriton, DidNotStart) as reason:
        missing.append(Figure("Triton", f"not measured: {reason}"))
        print(f"without Triton: {reason}")
        return []
    return [Front(server, OPEN_INFERENCE) for server in servers]


def _agrees(front: Front, missing: list[Figure]) -> bool:
    """Hold the answers of a route against the network run here; False where there is no such route.

    Raises:
        AssertionError: an answer differs by more than 1e-5, in units of the target's spread.
    """
    for network, count in SHAPES:
        rows = network.rows(count)
        found = front.answer(network, rows)
        if found is None:
            missing.append(Figure(front.name, "not measured: there is no such route"))
            return False
        expected = _expected(network, rows)
        assert found.shape == expected.shape, f"{front.name}: {found.shape} instead of {expected.shape}"
        difference = float((np.abs(found - expected) / np.maximum(network.outputs.scale, np.abs(expected))).max())
        assert difference <= SAME, f"{front.name} differs by {difference:.1e} on {count} x {network.features}"
    return True


def _expected(network: Network, rows: Rows) -> Rows:
    """Run the network in float64 with numpy."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    values = (rows - network.inputs.mean) / network.inputs.scale
    *hidden, head = network.weights()
    for kernel, bias in hidden:
        values = values @ kernel.astype(np.float64) + bias
        values = scale * np.where(values > 0, values, alpha * np.expm1(np.minimum(values, 0)))
    values = values @ head[0].astype(np.float64) + head[1]
    if not network.classes:
        return np.asarray(values * network.outputs.scale + network.outputs.mean)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _turns(fronts: Sequence[Front], rounds: int, seconds: float) -> Turns:
    """Load every front in every case, in turns; each round begins with another of them."""
    turns: Turns = defaultdict(list)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}; {report.machine()}", flush=True)
        first = number % len(fronts)
        for case in CASES:
            for front in [*fronts[first:], *fronts[:first]]:
                request = front.request(case.network, case.rows)
                is_slow = front.protocol is TUTORIAL
                if is_slow and case.connections != TUTORIAL_CONNECTIONS:
                    continue
                if number == 0 and not is_slow:
                    wrk.send(request, case.connections, WARM_SECONDS)
                before = front.server.cpu_seconds()
                load = wrk.send(request, case.connections, max(seconds, SLOW_SECONDS * is_slow))
                turns[case, front].append(Turn(load, front.server.cpu_seconds() - before))
    return turns


def _median(turns: Sequence[Turn], what: What) -> float:
    return statistics.median(map(what, turns))


def _ratio(mine: Sequence[Turn], other: Sequence[Turn], what: What) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(what(one) / what(two) for one, two in zip(mine, other, strict=True))


def _best(turns: Turns, case: Case, fronts: Sequence[Front]) -> Front:
    return max(fronts, key=lambda front: _median(turns[case, front], RATE))


def _print(turns: Turns, fronts: Sequence[Front]) -> None:
    heads = ["rows x columns, connections", "server and route", "requests/s", "p50 ms", "p99 ms", "CPU us", "of Triton"]
    rows = []
    rivals = _of(fronts, "triton")
    for case in CASES:
        for front in fronts:
            mine = turns[case, front]
            if not mine:
                continue
            ratio = _ratio(mine, turns[case, _best(turns, case, rivals)], RATE) if rivals else None
            cells = [f"{_median(mine, RATE):,.0f}"]
            cells += [f"{_median(mine, what):.2f}" for what in (attrgetter("p50"), P99)]
            cells += [f"{_median(mine, CPU):,.0f}", "" if ratio is None else f"{ratio:.2f}"]
            rows.append([case.name, front.name, *cells])
    print()
    report.print_table(heads, rows, left=2)
    _print_memory(list({front.server.pid: front.server for front in fronts}.values()))


def _print_memory(servers: Sequence[Server]) -> None:
    rows = []
    for server in servers:
        held = server.memory()
        sizes = [f"{held.resident / 1e6:,.0f}", f"{held.proportional / 1e6:,.0f}"]
        rows.append([server.name, str(len(server.pids)), *sizes])
    print()
    report.print_table(["server", "processes", "resident MB", "shared pages divided, MB"], rows, left=1)


def _of(fronts: Sequence[Front], server: str, protocol: Protocol | None = None) -> list[Front]:
    """Return the fronts of one server, whatever its number of processes."""
    return [one for one in fronts if one.server.name.startswith(server) and protocol in (None, one.protocol)]


def _judge(turns: Turns, fronts: Sequence[Front]) -> list[Figure]:
    figures = [_beside_tutorial(turns, fronts)]
    for protocol in (NATIVE, OPEN_INFERENCE):
        mine, rivals = _of(fronts, "selfnorm", protocol), _of(fronts, "triton")
        for case in CASES if mine and rivals else ():
            theirs = _best(turns, case, rivals)
            ours = _chosen(turns, case, mine, theirs)
            name = f"{case.name} connection(s): {ours.name} / {theirs.name}"
            ratio = _ratio(turns[case, ours], turns[case, theirs], RATE)
            slower = _ratio(turns[case, ours], turns[case, theirs], P99)
            bar = f"{TRITON_BAR:.2f}, aim {TRITON_AIM}"
            figures.append(Figure(f"{name}, requests/s", f"{ratio:.2f}", bar, ratio >= TRITON_BAR))
            figures.append(Figure(f"{name}, p99", f"{slower:.2f}", f"{P99_BAR:.2f}", slower <= P99_BAR))
    return figures


def _chosen(turns: Turns, case: Case, mine: Sequence[Front], theirs: Front) -> Front:
    """Return the setting with the better p99 of those that are ahead, or else the one that is behind the least."""
    ahead = [front for front in mine if _ratio(turns[case, front], turns[case, theirs], RATE) >= TRITON_BAR]
    if not ahead:
        return _best(turns, case, mine)
    return min(ahead, key=lambda front: _ratio(turns[case, front], turns[case, theirs], P99))


def _beside_tutorial(turns: Turns, fronts: Sequence[Front]) -> Figure:
    case = Case(SMALL, 1, TUTORIAL_CONNECTIONS)
    ours, [theirs] = _best(turns, case, _of(fronts, "selfnorm", NATIVE)), _of(fronts, "tutorial")
    ratio = _ratio(turns[case, ours], turns[case, theirs], RATE)
    name = f"{case.name} connections: {ours.name} / tutorial, requests/s"
    return Figure(name, f"{ratio:.0f}", f"{TUTORIAL_BAR:.0f}", ratio >= TUTORIAL_BAR)
