"""What it costs a training that nothing of it can be lost: checkpoints, epochs, events, progress, lease.

The same epochs are trained with and without a job behind them, in turns, on a SQLite file with real commits. Bar: 3 %.
Pairs of runs scatter by more than that on a shared machine, so the time for which the training stands still while
something is stored is counted too.
``python -m benchmarks.durability``
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.training import CASES, FASHION, Case, Hook, prepared, spec_of, whole
from service.domain.owners import DEFAULT_OWNER
from service.storage import schema
from service.storage.database import Database
from service.use_cases.datasets import add_builtin_datasets
from workers import environment
from workers.epochs import Epochs

BAR = 0.03
ROUNDS = 7
BOSTON = next(case for case in CASES if case.name == "boston-32")
SHAPES = (
    replace(BOSTON, epochs=800),
    replace(FASHION, name="fashion-128", batch_rows=128, epochs=12),
)
"""Many short epochs, and a few long ones; each takes some seconds."""


class Meter:
    """Counts the seconds that a training spends in what it calls."""

    seconds = 0.0

    def __call__(self, hook: Hook) -> Hook:
        """Return a hook that is counted."""

        def counted(end: Any) -> None:
            began = time.perf_counter()
            hook(end)
            self.seconds += time.perf_counter() - began

        return counted


def main() -> int:
    """Measure each shape."""
    environment.configure(None)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/selfnorm.db").owned_by(DEFAULT_OWNER)
        schema.upgrade(database)
        add_builtin_datasets(database)
        costs = [_cost(database, case) for case in SHAPES]
        database.close()
    return 0 if max(costs) < BAR else 1


def _cost(database: Database, case: Case) -> float:
    meter = Meter()
    plain, durable = _plain(case), whole(case, database, meter)
    for warm_up in (plain, durable):
        warm_up()
    ratios, seconds, stood = [], [], []
    for number in range(ROUNDS):
        first, second = (plain, durable) if number % 2 else (durable, plain)
        meter.seconds = 0.0
        times = {first: _timed(first), second: _timed(second)}
        ratios.append(times[durable] / times[plain] - 1.0)
        seconds.append(times[plain])
        stood.append(meter.seconds / times[durable])
    cost = statistics.median(ratios)
    shown = ", ".join(f"{100 * ratio:+.1f}" for ratio in ratios)
    print(f"{case.name}, {case.epochs} epochs of {statistics.median(seconds) / case.epochs * 1000:.0f} ms: {shown} %")
    still = f"stood still for {100 * statistics.median(stood):.1f} % of the time"
    print(f"  median {100 * cost:+.1f} % (bar {100 * BAR:.0f} %); {still}", flush=True)
    return cost


def _plain(case: Case) -> Callable[[], object]:
    data = prepared(case)
    return lambda: Epochs(spec_of(case), data).run(None)


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
