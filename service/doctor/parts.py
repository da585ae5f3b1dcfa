"""What the doctor finds of the service in a folder, and of the broker."""

import http.client
import json
from pathlib import Path
from urllib.parse import urlsplit

from service.doctor.checks import Check, Place, Status, masked
from service.doctor.database import VERSION
from service.embedded import Running
from service.processes import is_locked
from service.task_queue import create_celery

TIMEOUT_SECONDS = 2.0
"""What a broker or an API gets for one answer."""


def service_check(running: Running | None, place: Place, data_dir: Path) -> Check:
    """Look whether a service holds the folder and answers."""
    if not is_locked(data_dir):
        ended = f"; the last one, process {running.pid}, did not end by itself" if running else ""
        return Check("service", Status.PROBLEM, f"none runs on {data_dir}{ended}", place.start_worker)
    if running is None:
        return Check("service", Status.PROBLEM, f"the one on {data_dir} is not ready yet", f"see {data_dir / 'logs'}")
    name = f"process {running.pid}"
    if trouble := _trouble(running.address):
        log = data_dir / "logs" / "api.log"
        return Check("service", Status.PROBLEM, f"{name} lives, but {running.address} {trouble}", f"see {log}")
    detail = f"{name} answers at {running.address}"
    if running.version != VERSION:
        other = f"{detail} with version {running.version}, not {VERSION}"
        return Check("service", Status.WARNING, other, place.migrate)
    return Check("service", Status.OK, detail)


def broker_check(url: str) -> Check:
    """Ask the broker through Celery, which has its own way to read URLs."""
    app = create_celery(url, TIMEOUT_SECONDS)
    with app.connection_for_write() as connection:
        broker = connection.default_channel.client
        broker.ping()
        waiting = broker.llen(app.conf.task_default_queue)
    messages = "1 message waits" if waiting == 1 else f"{waiting} messages wait"
    return Check("broker", Status.OK, f"{masked(url)} answers, {messages}")


def _trouble(address: str) -> str | None:
    """Say what is wrong with the API at an address; None where it is one and well."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        said = json.loads(answer.read(1000))
    except (OSError, http.client.HTTPException) as error:
        return f"does not answer: {error}"
    except ValueError:
        return "is answered by something else"
    finally:
        connection.close()
    return None if said == {"status": "ok"} else "is answered by something else"
