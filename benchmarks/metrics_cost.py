"""What being counted costs a prediction: without and with, in turns: ``python -m benchmarks.metrics_cost``.

Measured as ``benchmarks.turns`` says. What was counted is added to the metrics four times a second, as the service
does: in memory or, where ``PROMETHEUS_MULTIPROC_DIR`` is set, in files that several processes share. Bar: 3 % of the
short way and of the way through the application.
"""

import os
import sys
from typing import TYPE_CHECKING

from benchmarks.turns import MODEL, Side, is_kept, side, stocked

if TYPE_CHECKING:
    from service.storage.database import Database

SHARED = "PROMETHEUS_MULTIPROC_DIR"
BAR = 0.03


def sides(database: "Database") -> tuple[Side, Side]:
    """Return the service without and with its counts."""
    from service.api.app import create_app
    from service.api.gate.observation import Observation
    from service.api.hot_path import HotProtocol
    from service.api.services import Services
    from service.api.short_ways import protocol
    from service.domain.owners import DEFAULT_OWNER
    from service.task_queue import Doorbell

    services = Services(database, Doorbell("redis://127.0.0.1:1/0"))
    services.serving.find(DEFAULT_OWNER, MODEL)
    counted, plain = create_app(services), create_app(services)
    plain.user_middleware = [layer for layer in plain.user_middleware if Observation.__name__ not in str(layer.cls)]
    kind = protocol(services, counted.state.statistics)
    uncounted: type[HotProtocol] = type("Uncounted", (kind,), {"_count": lambda *_: None})
    return side(plain, uncounted), side(counted, kind, update=services.update_metrics)


def main() -> int:
    """Measure, print, and return 1 if the bar is missed."""
    with stocked() as database:
        where = "shared by processes" if SHARED in os.environ else "of one process"
        return 0 if is_kept(BAR, f"counts {where}", *sides(database)) else 1


if __name__ == "__main__":
    sys.exit(main())
