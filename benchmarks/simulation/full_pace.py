"""Whether one PostgreSQL keeps up with what 1,000 workers claim, of which a small machine cannot run the Python.

``python -m benchmarks.simulation.full_pace``: pgbench, which is written in C, stands for the workers, each on a
connection of its own. It sends the statements of real ones, recorded from the functions: looks for a job, claims,
heartbeats, reports, ends, at their pace; progress with each heartbeat only, and no checkpoints. Beside it sweepers look
for lost jobs, owners come with one job each, and some real claims are made and measured, with all that Python and the
driver take.
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
from contextlib import contextmanager
from functools import partial
from pathlib import Path
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

RATE_BAR, P99_BAR_SECONDS = 95.0, 0.05
"""The rate is what workers come to by themselves, about 100."""
WORKER = "the worker"
PARAMETER = re.compile(r"%\((\w+)\)s|%%")
SHORTEST, LONGEST, BEAT = 5000, 15_000, 3000
"""How long a job takes, and the pause between two heartbeats, in milliseconds."""
SWEEPERS = 9
"""As many as there are where many workers and one API process run."""
VARIABLES = {"fence_1": ":fence", "number": ":last_event"}
"""Parameters of statements on one job for which pgbench has variables, from what the claim has returned."""

Work = Callable[[Connection], object]


def main() -> int:
    """Measure and print."""
    asked = _arguments()
    with stocked(asked.jobs, asked.owners, asked.workers + 100) as (server, database):
        assert server.process is not None
        script = server.folder / "worker.pgbench"
        script.write_text(worker(Recorder(database)))
        return measured(asked, database, server.binaries / "pgbench", script, server.process.pid)


def measured(asked: argparse.Namespace, database: Database, pgbench: Path, script: Path, server: int) -> int:
    """Let the workers work, and claim beside them."""
    seconds = asked.warm_up + asked.seconds
    submitter = Submitter(database, asked.owners, 0)
    with (
        running(pgbench, script, database, asked.workers, seconds) as load,
        repeating(SWEEP_SECONDS / SWEEPERS, Sweeper(database).look),
        repeating(LINE_SECONDS / SWEEPERS, partial(keep_line, database)),
        repeating(1 / asked.singles, submitter.submit_single),
    ):
        time.sleep(asked.warm_up)
        first, began = meter.read(database, server), claims(database)
        times = probed(database, asked.probes, asked.seconds - 2.0)
        last, ended = meter.read(database, server), claims(database)
    if load.returncode != 0:
        raise RuntimeError("pgbench failed; what it says stands above")
    elapsed = last.at - first.at
    rate, p99 = (ended - began - len(times)) / elapsed, times[int(0.99 * len(times))]
    shown = ", ".join(f"p{part} {1000 * times[int(part / 100 * len(times))]:.1f}" for part in (50, 95, 99))
    print(f"{asked.workers} workers, {asked.owners} owners, {asked.jobs} jobs in line, {elapsed:.0f} s")
    print(f"{rate:.1f} claims a second by workers; {len(times)} that were measured beside: {shown} ms")
    print(
        f"server: {100 * (last.processor_seconds - first.processor_seconds) / elapsed:.0f} % of a core, "
        f"{(last.commits - first.commits) / elapsed:,.0f} commits/s"
    )
    waits = sorted(findings.waits(database))
    print(f"an owner with one job waited {waits[len(waits) // 2]:.2f} s (median), {waits[-1]:.2f} s at most")
    faults = findings.faults(database, [])
    print("faults:", dict(faults) or "none")
    return 0 if not faults and rate > RATE_BAR and p99 < P99_BAR_SECONDS else 1


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
            self._held = leases.claim_where(connection, jobs.c.number == number, WORKER)

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


def worker(recorder: Recorder) -> str:
    """Return a worker's life with one job as a script of pgbench, which repeats it."""
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
    lines = [
        "\\if :began",
        "\\else",
        "\\set began 1",
        "SELECT 'worker-' || :client_id AS worker \\gset",
        f"\\set rest random(0, {LONGEST})",
        "\\sleep :rest ms",
        "\\endif",
        *_session(waits),
        *_claim(claim),
        "\\if :last_event > 0",
        f"\\set left random({SHORTEST}, {LONGEST})",
    ]
    for number in range(LONGEST // BEAT):
        lines += [f"\\if :left > {BEAT}", f"\\sleep {BEAT} ms", f"\\set left :left - {BEAT}"]
        lines += [*_session(beat), *_session(moved), *(_session(report) if number % 2 else []), "\\endif"]
    return "\n".join([*lines, "\\sleep :left ms", *_session(end, takes=True), "\\endif"]) + "\n"


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
def repeating(pause: float, work: Callable[[], object]) -> Iterator[None]:
    """Do something again and again beside."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(pause):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


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


def claims(database: Database) -> int:
    """Count all claims there have been."""
    with database.read() as connection:
        return int(connection.execute(select(func.sum(jobs.c.fence))).scalar_one())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation.full_pace", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--owners", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=100_000, help="in line at the beginning")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--warm-up", type=float, default=30.0)
    parser.add_argument("--probes", type=float, default=10.0, help="claims a second that are made and measured beside")
    parser.add_argument("--singles", type=float, default=2.0, help="owners a second that come with one job each")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
