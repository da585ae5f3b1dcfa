"""What /metrics tells of the API processes themselves, all of them together."""

import os
import resource
import threading
import time
from contextlib import suppress
from pathlib import Path

from prometheus_client import Counter, Gauge

from service.storage.database import Database

PROCESSES = Gauge("selfnorm_api_processes", "API processes that run", multiprocess_mode="livesum")
MEMORY = Gauge(
    "selfnorm_api_resident_memory_bytes", "What the API processes take of the memory", multiprocess_mode="livesum"
)
FILES = Gauge("selfnorm_api_open_fds", "File descriptors that the API processes hold", multiprocess_mode="livesum")
CPU = Counter("selfnorm_api_cpu_seconds", "Processor time that the API processes have taken")
CONNECTIONS = Gauge(
    "selfnorm_database_connections",
    "Connections to the database that the API processes hold: in use, or idle",
    ("state",),
    multiprocess_mode="livesum",
)
TAKEN_BACK = Counter(
    "selfnorm_sweeper_jobs_taken_back",
    "Jobs that API processes took from lost workers; workers do so, too, and only their logs tell",
)
PAUSE_SECONDS = 1.0


class ProcessCounts:
    """Looks at this process; safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looking = threading.Lock()
        self._look_at = self._cpu = 0.0

    def update(self) -> None:
        """Look, where the last time is a while ago."""
        with self._looking:
            if time.monotonic() < self._look_at:
                return
            self._look_at = time.monotonic() + PAUSE_SECONDS
            used = resource.getrusage(resource.RUSAGE_SELF)
            cpu, self._cpu = self._cpu, used.ru_utime + used.ru_stime
            CPU.inc(self._cpu - cpu)
            PROCESSES.set(1)
            with suppress(OSError):  # there is no /proc elsewhere
                MEMORY.set(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
                FILES.set(len(os.listdir("/proc/self/fd")))
            in_use, idle = self._database.connections()
            CONNECTIONS.labels("in use").set(in_use)
            CONNECTIONS.labels("idle").set(idle)
