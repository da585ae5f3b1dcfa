"""What one PostgreSQL carries: simulated workers claim, beat, store and end jobs by the statements of real ones.

``python -m benchmarks.simulation`` runs 1,000 workers for two minutes and prints a table; ``--short`` takes half a
minute.
Bars: 100 claims a second with a p99 of 50 ms; nothing lost, nothing twice. Server and workers share the machine: 1,000
workers at their full pace (``--look 1 --progress 0.5``) need more than two cores.
"""

import argparse
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from sqlalchemy import text

from benchmarks.simulation import findings, fleet, meter
from benchmarks.simulation.plan import Outcome, Plan
from benchmarks.simulation.stock import Submitter, stocked
from service.storage.database import Database

RATE_BAR, P99_BAR_SECONDS = 95.0, 0.05
"""The rate is what workers come to by themselves, about 100."""


def main() -> int:
    """Measure and print."""
    asked = _arguments()
    with stocked(asked.jobs, asked.owners, asked.idle_connections + 200) as (server, database):
        assert server.process is not None
        return measured(asked, database, f"{server.url}/postgres", server.process.pid)


def measured(asked: argparse.Namespace, database: Database, url: str, pid: int) -> int:
    """Run the fleet against a server."""
    idle = _idle_connections(url, asked.idle_connections)
    before_sizes = meter.sizes(database)
    readings: list[meter.Reading] = []
    is_over = threading.Event()
    submitter = Submitter(database, asked.owners, asked.seed)
    threads = [
        threading.Thread(target=_submit, args=(submitter, asked.submit, is_over)),
        threading.Timer(asked.warm_up, lambda: readings.append(meter.read(database, pid))),
    ]
    plans = [_plan(asked, url, number) for number in range(asked.processes)]
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(fleet.run, plan) for plan in plans]
        for thread in threads:
            thread.start()
        is_over.wait(asked.warm_up + asked.seconds)
        readings.append(meter.read(database, pid))
        memory, processes = meter.resident_bytes(pid)
        outcome = Outcome()
        for part in running:
            outcome.add(part.result())
    is_over.set()
    threads[0].join()
    faults = findings.faults(database, outcome.ended)
    _print(asked, outcome, readings, submitter)
    print(f"memory of the server's {processes} processes, without what they share: {memory / 2**20:.0f} MiB")
    _print_growth(database, before_sizes, len(outcome.ended))
    waits = sorted(findings.waits(database))
    if waits:
        print(f"an owner with one job waited {waits[len(waits) // 2]:.2f} s (median), {waits[-1]:.2f} s at most")
    print(
        "faults:", dict(faults) or "none", "|", ", ".join(f"{name} {n}" for name, n in sorted(outcome.counts.items()))
    )
    for connection in idle:
        connection.close()
    claims = sorted(outcome.times["claim"])
    rate = len(claims) / asked.seconds
    return 0 if not faults and (asked.oldest_first or (rate > RATE_BAR and _at(claims, 0.99) < P99_BAR_SECONDS)) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--short", action="store_true", help="half a minute, 20,000 jobs")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--warm-up", type=float, default=20.0)
    parser.add_argument("--jobs", type=int, default=100_000, help="in line at the beginning")
    parser.add_argument("--owners", type=int, default=1000)
    parser.add_argument("--submit", type=float, default=10.0, help="jobs a second; every tenth is somebody's only one")
    parser.add_argument("--job-seconds", type=float, default=10.0)
    parser.add_argument("--look", type=float, default=0.0, help="0: never; real workers look every second")
    parser.add_argument("--progress", type=float, default=3.0, help="real workers store it every half second")
    parser.add_argument("--checkpoint", type=float, default=10.0, help="the pause between two epochs")
    parser.add_argument("--sweepers", type=int, default=9, help="in all; 1000 is what it would be if none rested")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--connections", type=int, default=2, help="of each process")
    parser.add_argument("--idle-connections", type=int, default=0, help="open besides, and doing nothing")
    parser.add_argument("--most-running", type=int, default=None)
    parser.add_argument("--oldest-first", action="store_true", help="claim as before owners took turns")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.short:
        asked.seconds, asked.warm_up, asked.jobs = 20.0, 10.0, 20_000
    return asked


def _plan(asked: argparse.Namespace, url: str, number: int) -> Plan:
    each = asked.workers // asked.processes
    return Plan(
        url,
        workers=each,
        seconds=asked.seconds,
        warm_up_seconds=asked.warm_up,
        job_seconds=asked.job_seconds,
        connections=asked.connections,
        look_seconds=asked.look,
        progress_seconds=asked.progress,
        checkpoint_seconds=asked.checkpoint,
        sweepers=asked.sweepers // asked.processes + (number < asked.sweepers % asked.processes),
        most_running=asked.most_running,
        oldest_first=asked.oldest_first,
        number=number,
        seed=asked.seed,
    )


def _idle_connections(url: str, count: int) -> list[Database]:
    found = [Database(url) for _ in range(count)]
    for database in found:
        with database.read() as connection:
            connection.execute(text("SELECT count(*) FROM jobs WHERE state = 'paused'"))
    return found


def _submit(submitter: Submitter, pace: float, is_over: threading.Event) -> None:
    count = 0
    while pace and not is_over.wait(1 / pace):
        count += 1
        if count % 10:
            submitter.submit()
        else:
            submitter.submit_single()


def _at(times: list[float], part: float) -> float:
    return times[min(int(part * len(times)), len(times) - 1)] if times else float("nan")


def _print(asked: argparse.Namespace, outcome: Outcome, readings: list[meter.Reading], submitter: Submitter) -> None:
    times = {**outcome.times, "submit": submitter.times, "(behind its time)": outcome.late}
    print(f"{asked.workers} workers, {asked.owners} owners, {asked.jobs} jobs in line, {asked.seconds:.0f} s")
    print(f"{'what':24}{'a second':>10}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}")
    for name, found in sorted(times.items(), key=lambda item: -len(item[1])):
        found.sort()
        shown = "".join(f"{1000 * _at(found, part):10.1f}" for part in (0.5, 0.95, 0.99))
        print(f"{name:24}{len(found) / asked.seconds:10.1f}{shown}")
    first, last = readings[0], readings[-1]
    seconds = last.at - first.at
    jobs = max(len(outcome.times.get("end", [])), 1)
    print(
        f"server: {100 * (last.processor_seconds - first.processor_seconds) / seconds:.0f} % of a core, "
        f"{(last.commits - first.commits) / seconds:,.0f} commits/s, "
        f"{(last.rows_written - first.rows_written) / seconds:,.0f} rows written/s, "
        f"{(last.log_bytes - first.log_bytes) / jobs / 1024:,.0f} KiB of log per job, "
        f"{100 * (last.light_updates - first.light_updates) / max(last.updates - first.updates, 1):.0f} % of the "
        "updates of jobs touch no index"
    )


def _print_growth(database: Database, before: dict[str, int], jobs: int) -> None:
    grown = {name: size - before.get(name, 0) for name, size in meter.sizes(database).items()}
    largest = sorted(grown.items(), key=lambda item: -item[1])[:5]
    print("grown by:", ", ".join(f"{name} {size / max(jobs, 1):,.0f}" for name, size in largest), "bytes per job")


if __name__ == "__main__":
    sys.exit(main())
