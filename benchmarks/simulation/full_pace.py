"""Whether one PostgreSQL keeps up with what 1,000 workers claim, of which a small machine cannot run the Python.

``python -m benchmarks.simulation.full_pace``: pgbench, which is written in C, stands for the workers. It sends the
statements of real ones, recorded from the functions: looks for a job, claims, heartbeats, reports, ends, at their pace;
progress with each heartbeat only, and no checkpoints. The workers share connections as through a pooler, without which
so many are not run (docs/scale.md); ``--connections 1000`` gives each its own. In a process beside, sweepers look for
lost jobs and owners come with one job each; in this one some real claims are made and measured, with all that Python
and the driver take.
Bars: 100 claims a second, a p99 of 50 ms; afterwards every log fits its job.
"""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import quantiles
from typing import Any

from psycopg import sql
from sqlalchemy import event, func, make_url, select

from benchmarks.simulation import findings, meter
from benchmarks.simulation.stock import Submitter, stocked
from service.domain.jobs import Claim, Progress
from service.storage import leases, turns, workers
from service.storage.database import Connection, Database
from service.storage.owners import acting_for
from service.storage.tables import jobs
from service.sweeper import LINE_SECONDS, SWEEP_SECONDS, Sweeper, keep_line

RATE_BAR, P99_BAR_SECONDS = 100.0, 0.05
WORKER = "the worker"
PARAMETER = re.compile(r"%\((\w+)\)s|%%")
JOB, BEAT = 10_000, 3000
"""How long a job takes, and the pause between two heartbeats, on average and in milliseconds."""
VARIABLE = re.compile(r"((?<!:):|\\set )(id|owner|fence|last_event|worker)\b")
"""What is another's of each worker of a connection, where a script reads or sets it."""
TAKEN = re.compile(r"\\[ag]set$")
"""Where a script takes over what a statement returns."""
SWEEPERS = 9
"""As many as there are where many workers and one API process run."""
SYNC_SECONDS, PAGE_BYTES = 0.05, 8192
"""How often it is measured what the disk takes by itself: claims wait for it, and others may use it, too."""
VARIABLES = {"fence_1": ":fence", "number": ":last_event"}
"""Parameters of statements on one job for which pgbench has variables, from what the claim has returned."""

Work = Callable[[Connection], object]


def main() -> int:
    """Measure and print."""
    asked = _arguments()
    with stocked(asked.jobs, asked.owners, asked.connections + 100) as (server, database):
        assert server.process is not None
        script = server.folder / "worker.pgbench"
        script.write_text(life(Recorder(database), asked.workers // asked.connections))
        return measured(asked, database, server.binaries / "pgbench", script, server.process.pid)


def measured(asked: argparse.Namespace, database: Database, pgbench: Path, script: Path, server: int) -> int:
    """Let the workers work, and claim beside them."""
    seconds = asked.warm_up + asked.seconds
    with (
        running(pgbench, script, database, asked.connections, seconds) as load,
        others(database, asked),
        syncing(script.parent) as synced,
    ):
        time.sleep(asked.warm_up)
        first, began = meter.read(database, server), claims(database)
        synced.clear()
        times = probed(database, asked.probes, asked.seconds - 2.0)
        syncs = list(synced)
        last, ended = meter.read(database, server), claims(database)
    if load.returncode != 0:
        raise RuntimeError("pgbench failed; what it says stands above")
    elapsed = last.at - first.at
    rate = (ended - began) / elapsed
    asked_for = f"{asked.workers} workers on {asked.connections} connections, {asked.owners} owners"
    print(f"{asked_for}, {asked.jobs} jobs in line, {elapsed:.0f} s")
    print(f"{rate:.1f} claims a second, {len(times)} of them real and measured: {shown(times)}")
    print(f"a write of the disk beside: {shown(syncs)}")
    print(
        f"server: {100 * (last.processor_seconds - first.processor_seconds) / elapsed:.0f} % of a core, "
        f"{(last.commits - first.commits) / elapsed:,.0f} commits/s"
    )
    waits = sorted(findings.waits(database))
    print(f"an owner with one job waited {waits[len(waits) // 2]:.2f} s (median), {waits[-1]:.2f} s at most")
    faults = findings.faults(database, [])
    print("faults:", dict(faults) or "none")
    return 0 if not faults and rate > RATE_BAR and quantiles(times, n=100)[98] < P99_BAR_SECONDS else 1


class Recorder:
    """What functions send to the server, as pgbench takes it; nothing of it stays."""

    def __init__(self, database: Database) -> None:
        self._database = database.for_everybody()
        self._sent: list[tuple[str, Mapping[str, Any]]] = []
        self._held: Claim | None = None

    def record(self, *works: Work) -> list[list[str]]:
        """Call functions on one session that is given up at the end; return the statements of each."""
        found, engine = [], self._database.engine
        event.listen(engine, "before_cursor_execute", self._note)
        with engine.connect() as connection:
            for work in works:
                self._sent = []
                work(connection)
                found.append(self._sent)
            raw = connection.connection.driver_connection
            written = [[self._written(*sent, raw) for sent in of_one] for of_one in found]
            connection.rollback()
        event.remove(engine, "before_cursor_execute", self._note)
        return written

    def claim(self, connection: Connection) -> None:
        """Claim a job in each of the ways that are tried one after the other; what follows is about the last."""
        for number in turns.next_number(connection, None):
            self._held = leases.claim_with(connection, leases.claiming_next(number), WORKER)

    def of_job(self, work: Callable[[Connection, Claim], object]) -> Work:
        """Return a function on the job that was claimed."""

        def call(connection: Connection) -> None:
            assert self._held is not None
            with acting_for(connection, self._held.owner):
                work(connection, self._held)

        return call

    def _note(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        self._sent += [(statement, one) for one in (parameters if isinstance(parameters, list) else [parameters])]

    def _written(self, statement: str, parameters: Mapping[str, Any], raw: Any) -> str:
        """Write parameters out, and variables of pgbench for what is another's of each worker and each job."""
        held = self._held
        assert held is not None
        others: dict[Any, str] = {held.job_id: ":id", held.owner: ":owner", WORKER: ":worker"}
        is_of_job = held.job_id in parameters.values()

        def write(found: "re.Match[str]") -> str:
            name = found[1]
            if name is None:
                return "%"
            value = parameters[name]
            if is_of_job and name in VARIABLES:
                return VARIABLES[name]
            if isinstance(value, str):
                return others.get(value) or sql.quote(str(value), raw)
            return sql.quote(value, raw)

        return PARAMETER.sub(write, statement)


def life(recorder: Recorder, count: int) -> str:
    """Return the life of so many workers on one connection as a script of pgbench, which repeats it.

    Each has a job at a time, and its moments in a round as long as a job; how long they are apart is left to chance.
    """
    progress = Progress(1, 0.5, 1000.0, 5.0)
    waits, claim, report, beat, moved, end = recorder.record(
        leases.has_claimable,
        recorder.claim,
        lambda connection: workers.seen(connection, WORKER, "1", "busy", None),
        recorder.of_job(leases.heartbeat),
        recorder.of_job(lambda connection, held: leases.record_progress(connection, held, progress)),
        recorder.of_job(
            lambda connection, held: leases.succeed(
                connection, held, best_epoch=1, test_metrics={"loss": 0.1}, version=1
            )
        ),
    )
    acts = {0: [*_if_held(_session(end, takes=True)), *_session(waits), *_claim(claim)]}
    for number, at in enumerate(range(BEAT, JOB, BEAT)):
        acts[at] = _if_held([*_session(beat), *_session(moved), *(_session(report) if number % 2 else [])])
    moments = sorted(((at + JOB * slot // count) % JOB, slot, at) for slot in range(count) for at in acts)
    lines = _starts(count)
    for (moment, slot, act), (next_moment, *_) in pairwise([*moments, (JOB, 0, 0)]):
        lines += [_of_slot(slot, line) for line in acts[act]]
        if next_moment > moment:
            lines += [f"\\set rest random(0, {2 * (next_moment - moment)})", "\\sleep :rest ms"]
    return "\n".join(lines) + "\n"


def _starts(count: int) -> list[str]:
    """Return what a connection does once: name its workers, and rest for up to a round."""
    lines = ["\\if :began", "\\else", "\\set began 1"]
    for slot in range(count):
        named = ["SELECT 'worker-' || :client_id || '-{slot}' AS worker \\gset", "\\set last_event 0"]
        lines += [_of_slot(slot, line.format(slot=slot)) for line in named]
    return [*lines, f"\\set rest random(0, {JOB})", "\\sleep :rest ms", "\\endif"]


def _of_slot(slot: int, line: str) -> str:
    """Return a line with the variables of one of the workers of a connection."""
    return TAKEN.sub(rf"\g<0> of_{slot}_", VARIABLE.sub(rf"\g<1>of_{slot}_\g<2>", line))


def _if_held(lines: list[str]) -> list[str]:
    return ["\\if :last_event > 0", *lines, "\\endif"]


def _claim(statements: list[str]) -> list[str]:
    """Return a transaction that claims: an UPDATE for each way to find a job, and what is stored once one has been."""
    ways, stored = statements[::3], statements[-2:]
    lines = ["BEGIN;", "\\set last_event 0"]
    for way in ways:
        lines += ["\\if :last_event = 0", f"{way} \\aset", "\\endif"]
    return [*lines, "\\if :last_event > 0", *(f"{one};" for one in stored), "\\endif", "COMMIT;"]


def _session(statements: list[str], *, takes: bool = False) -> list[str]:
    """Return a transaction; ``takes``: what its first statement returns is taken over into variables."""
    ends = [" \\gset" if takes and number == 0 else ";" for number in range(len(statements))]
    return ["BEGIN;", *map("".join, zip(statements, ends, strict=True)), "COMMIT;"]


@contextmanager
def running(
    pgbench: Path, script: Path, database: Database, count: int, seconds: float
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the workers; returns when they are through."""
    url = make_url(database.engine.url)
    where = {"PGHOST": str(url.host), "PGPORT": str(url.port), "PGUSER": str(url.username)}
    # Plans are kept from the first time on, as where a pooler has few connections that have seen everything.
    where["PGOPTIONS"] = "-c jit=off -c plan_cache_mode=force_generic_plan"
    options = ["--no-vacuum", "--protocol=prepared", "--define=began=0", f"--client={count}", "--jobs=2"]
    command: list[str | Path] = [pgbench, *options, f"--time={seconds:.0f}", f"--file={script}", str(url.database)]
    with subprocess.Popen(command, env={**os.environ, **where}, stdout=subprocess.DEVNULL) as load:
        try:
            yield load
            load.wait()
        finally:
            load.kill()


@contextmanager
def others(database: Database, asked: argparse.Namespace) -> Iterator[None]:
    """Run, in a process of its own so that no claim waits for another thread, what else goes on."""
    context = get_context("spawn")
    is_over = context.Event()
    url = database.engine.url.render_as_string(hide_password=False)
    process = context.Process(target=go_on, args=(url, asked.owners, asked.singles, is_over))
    process.start()
    try:
        yield
    finally:
        is_over.set()
        process.join()


def go_on(url: str, owners: int, singles: float, is_over: Event) -> None:
    """Sweep, keep the line and submit, until it is over."""
    database = Database(url)

    def repeat(pause: float, work: Callable[[], object]) -> None:
        while not is_over.wait(pause):
            work()

    with ThreadPoolExecutor() as pool:
        repeated = [
            pool.submit(repeat, SWEEP_SECONDS / SWEEPERS, Sweeper(database).look),
            pool.submit(repeat, LINE_SECONDS / SWEEPERS, partial(keep_line, database)),
            pool.submit(repeat, 1 / singles, Submitter(database, owners, 0).submit_single),
        ]
    for one in repeated:
        one.result()
    database.close()


def probed(database: Database, pace: float, seconds: float) -> list[float]:
    """Claim jobs and end them at once; return how long the claims took, in order of size."""
    times = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(1 / pace)
        began = time.perf_counter()
        with database.for_everybody().write() as connection:
            held = leases.claim_next(connection, "measured")
        times.append(time.perf_counter() - began)
        if held is not None:
            with database.owned_by(held.owner).write() as connection:
                leases.succeed(connection, held, best_epoch=1, test_metrics={"loss": 0.1}, version=1)
    return sorted(times)


@contextmanager
def syncing(folder: Path) -> Iterator[list[float]]:
    """Force one page after the other to the disk that the log is on; gives how long each took."""
    is_over = threading.Event()
    found: list[float] = []

    def sync() -> None:
        with (folder / "synced").open("wb", buffering=0) as file:
            while not is_over.wait(SYNC_SECONDS):
                file.write(bytes(PAGE_BYTES))
                began = time.perf_counter()
                os.fdatasync(file.fileno())
                found.append(time.perf_counter() - began)

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


def shown(times: list[float]) -> str:
    """Write down the percentiles that are looked at."""
    cuts = quantiles(times, n=100)
    return ", ".join(f"p{percent} {1000 * cuts[percent - 1]:.1f}" for percent in (50, 95, 99)) + " ms"


def claims(database: Database) -> int:
    """Count all claims there have been."""
    with database.read() as connection:
        return int(connection.execute(select(func.sum(jobs.c.fence))).scalar_one())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation.full_pace", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=100, help="that the workers share, as through a pooler")
    parser.add_argument("--owners", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=100_000, help="in line at the beginning")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--warm-up", type=float, default=30.0)
    parser.add_argument("--probes", type=float, default=10.0, help="claims a second that are made and measured beside")
    parser.add_argument("--singles", type=float, default=2.0, help="owners a second that come with one job each")
    asked = parser.parse_args()
    if asked.workers % asked.connections:
        parser.error(f"{asked.workers} workers cannot share {asked.connections} connections evenly")
    return asked


if __name__ == "__main__":
    sys.exit(main())
