"""How many requests about jobs one API process carries, and what each costs it and the server of PostgreSQL.

``python -m benchmarks.simulation.requests``: eight connections, which another process keeps busy. The costs are of
processors, so they hold on a machine that has other things to do, too.
"""

import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.jobs import BODY, JSON
from benchmarks.simulation import meter
from benchmarks.simulation.stock import fill
from service.storage import schema
from service.storage.database import Database
from service.use_cases.datasets import add_builtin_datasets
from tests import servers
from tests.api_process import ApiProcess, api_process
from tests.factories import stored_job

LINE, OWNERS, CONNECTIONS, SECONDS = 10_000, 100, 8, 8.0
REQUESTS = {"POST /jobs": ("POST", "/jobs"), "GET /jobs/{id}": ("GET", "/jobs/job-1"), "GET /jobs": ("GET", "/jobs")}


def main() -> int:
    """Measure and print."""
    if sys.argv[1:2] == ["client"]:
        port, method, path, seconds = sys.argv[2:]
        return client(int(port), method, path, float(seconds))
    with tempfile.TemporaryDirectory(prefix="selfnorm-requests-", dir="/tmp") as folder:
        options = {"fsync": "on", "max_parallel_maintenance_workers": "0"}
        (Path(folder) / "server").mkdir()
        with servers.postgresql_server(Path(folder) / "server", **options) as server:
            assert server.process is not None
            url = f"{server.url}/postgres"
            database = Database(url)
            schema.upgrade(database)
            add_builtin_datasets(database)
            fill(database, LINE, OWNERS)
            stored_job(database.owned_by("local"))
            with api_process(url, Path(folder), SELFNORM_MAX_QUEUED_JOBS="1000000") as api:
                for name, (method, path) in REQUESTS.items():
                    print(name, measured(api, database, server.process.pid, method, path))
            database.close()
    return 0


def measured(api: ApiProcess, database: Database, server: int, method: str, path: str) -> str:
    """Say how many there are in a second, and what each costs."""
    first, own = meter.read(database, server), meter.processor_seconds(api.pid)
    asked = [str(api.port), method, path, str(SECONDS)]
    command = [sys.executable, "-m", "benchmarks.simulation.requests", "client", *asked]
    count, p50, p99 = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    of_api = meter.processor_seconds(api.pid) - own
    of_server = meter.read(database, server).processor_seconds - first.processor_seconds
    each = [1000 * seconds / int(count) for seconds in (of_api, of_server)]
    rate = f"{int(count) / SECONDS:.0f}/s, p50 {p50} ms, p99 {p99} ms"
    return f"{rate}; {each[0]:.2f} ms of the process' processor, {each[1]:.2f} of the server's"


def client(port: int, method: str, path: str, seconds: float) -> int:
    """Ask on some connections as fast as it is answered; print how often, and for how long."""
    times: list[float] = []
    over = time.perf_counter() + seconds

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", port)
        while (began := time.perf_counter()) < over:
            connection.request(method, path, BODY if method == "POST" else None, JSON if method == "POST" else {})
            answer = connection.getresponse()
            answer.read()
            assert answer.status in (200, 202), answer.status
            times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    print(len(times), f"{1000 * times[len(times) // 2]:.1f}", f"{1000 * times[len(times) * 99 // 100]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
