"""The report: every check in its order, as lines or as one JSON object."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import typer

from service.doctor.checks import Check, Place, Status, bounded, masked
from service.doctor.database import database_checks
from service.doctor.parts import broker_check, service_check
from service.embedded import Running, running_on
from service.processes import is_locked
from service.settings import Settings
from service.storage.database import sqlite_url
from service.storage.object_store import ObjectStore

STORE_SECONDS = 2.0
WITHOUT_BROKER = "until then jobs are still accepted, and workers find them by polling"
COLORS = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "red"}


def run(settings: Settings, data_dir: Path | None, as_json: bool) -> int:
    """Print every check; return the exit status."""
    checks = []
    for check in examine(settings, data_dir):
        checks.append(check)
        if not as_json:
            status = typer.style(f"{check.status:<8}", fg=COLORS[check.status])
            typer.echo(f"{status} {check.name}: {check.detail}" + (f"; {check.advice}" if check.advice else ""))
    healthy = all(check.status is not Status.PROBLEM for check in checks)
    if as_json:
        typer.echo(json.dumps({"healthy": healthy, "checks": [asdict(check) for check in checks]}, indent=2))
    return 0 if healthy else 1


def examine(settings: Settings, data_dir: Path | None = None) -> Iterator[Check]:
    """Check one part after the other: those of the settings, or those of a folder of ``selfnorm up``."""
    if data_dir is None:
        place = _of_settings(settings)
    else:
        data_dir = data_dir.expanduser().resolve()
        running = running_on(data_dir)
        place = replace(_of_folder(data_dir, running), store=_store_of(settings))
        yield bounded("service", str(data_dir), place.start_worker, lambda: service_check(running, place, data_dir))
    yield from database_checks(place)
    if place.broker_url is not None:
        url = place.broker_url
        yield bounded("broker", masked(url), place.broker_advice, lambda: broker_check(url))


def _of_settings(settings: Settings) -> Place:
    return Place(
        settings.database_url,
        settings.broker_url,
        store=_store_of(settings),
        database_advice="start it (a SQLite file is made by: selfnorm migrate) or correct SELFNORM_DATABASE_URL",
        broker_advice=f"start it or correct SELFNORM_BROKER_URL; {WITHOUT_BROKER}",
        migrate="run: selfnorm migrate",
        start_worker="start one: selfnorm worker",
        start_sweeper="no API and no worker takes them back; start one: selfnorm api, selfnorm worker",
        worker_log="the worker's log",
    )


def _store_of(settings: Settings) -> ObjectStore | None:
    """Return the object store, of which nobody waits for longer than the doctor would."""
    return None if settings.blob_url is None else ObjectStore(settings.blob_url, request_seconds=STORE_SECONDS)


def _of_folder(data_dir: Path, running: Running | None) -> Place:
    worker_log = str(data_dir / "logs" / "worker.log")
    start = f"run: selfnorm up --data-dir {shlex.quote(str(data_dir))}"
    if running is None or not is_locked(data_dir):
        if is_locked(data_dir):
            start = f"wait until it is ready; {data_dir / 'logs'} says why it is not"
        return Place(sqlite_url(data_dir / "selfnorm.db"), None, start, start, start, start, start, worker_log)
    restarted = f"it is started again by itself, and {data_dir / 'logs'} says why it ended"
    again = f"end process {running.pid} and {start}"
    return Place(
        sqlite_url(data_dir / "selfnorm.db"),
        running.broker_url,
        database_advice=again,
        broker_advice=f"{restarted}; {WITHOUT_BROKER}",
        migrate=again,
        start_worker=restarted,
        start_sweeper=again,
        worker_log=worker_log,
    )
