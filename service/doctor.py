"""``selfnorm doctor``: looks at every part from outside, changes nothing, and says what is wrong and what to do."""

import http.client
import json
import os
import re
import shlex
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import typer
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.domain.workers import SILENT_SECONDS, WorkerState
from service.embedded import Running, running_on
from service.settings import Settings
from service.storage import diagnosis, health, workers
from service.storage.database import Connection, sqlite_url
from service.storage.diagnosis import LATE_SECONDS, Found
from service.storage.tables import SCHEMA_REVISION

VERSION = version("selfnorm")
DEADLINE_SECONDS = 5.0
"""No check takes longer, whatever hangs."""
QUICK_CHECK_SECONDS = 3.0
TIMEOUT_SECONDS = 2.0
"""What a broker or an API gets for one answer."""
CLOCK_SECONDS = 5.0
LEAST_ROOM_BYTES = 2**30
QUEUE_NAME = "celery"
"""Celery's default; a test holds it against the doorbell."""
WITHOUT_BROKER = "until then jobs are still accepted, and workers find them by polling"
FAULTS = (*diagnosis.DATABASE_FAULTS, RedisError, http.client.HTTPException, OSError, ValueError)


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


COLORS = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "red"}


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found, and what to do."""

    name: str
    status: Status
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What is looked at, and what brings its parts back."""

    database_url: str
    broker_url: str | None
    """None where no service runs, and so no broker."""
    database_advice: str
    broker_advice: str
    migrate: str
    start_worker: str
    start_sweeper: str


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
        place = _of_folder(data_dir, running)
        yield _bounded("service", str(data_dir), place.start_worker, lambda: _service(running, place, data_dir))
    yield from _database_checks(place)
    if place.broker_url is not None:
        url = place.broker_url
        yield _bounded("broker", masked(url), place.broker_advice, lambda: _broker(url))


def masked(text: str) -> str:
    """Return a text without the passwords of the URLs in it."""
    text = re.sub(r"(?<=://)([^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"(?i)(password=)[^&\s]*", r"\1***", text)


def room(folder: Path, least_bytes: int = LEAST_ROOM_BYTES) -> Check:
    """Check how much more can be stored in a folder."""
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GiB are free in {folder}"
    if free < least_bytes:
        return Check("disk", Status.WARNING, detail, "make room: a full disk stops every job")
    return Check("disk", Status.OK, detail)


def clock(theirs: datetime, before: datetime, after: datetime) -> Check:
    """Compare the database's clock with this machine's, read before and after it."""
    seconds = (theirs - before - (after - before) / 2).total_seconds()
    detail = f"the database's is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
    if abs(seconds) - (after - before).total_seconds() / 2 > CLOCK_SECONDS:
        advice = "set both by NTP; jobs go by the database's alone, but times in logs will not match"
        return Check("clock", Status.WARNING, detail, advice)
    return Check("clock", Status.OK, detail)


def _of_settings(settings: Settings) -> Place:
    return Place(
        settings.database_url,
        settings.broker_url,
        database_advice="start it (a SQLite file is made by: selfnorm migrate) or correct SELFNORM_DATABASE_URL",
        broker_advice=f"start it or correct SELFNORM_BROKER_URL; {WITHOUT_BROKER}",
        migrate="run: selfnorm migrate",
        start_worker="start one: selfnorm worker",
        start_sweeper="no API and no worker takes them back; start one: selfnorm api, selfnorm worker",
    )


def _of_folder(data_dir: Path, running: Running | None) -> Place:
    start = f"run: selfnorm up --data-dir {shlex.quote(str(data_dir))}"
    if running is None or not _lives(running.pid):
        return Place(sqlite_url(data_dir / "selfnorm.db"), None, start, start, start, start, start)
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
    )


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _bounded(name: str, what: str, advice: str, work: Callable[[], Check]) -> Check:
    """Check something that may fail, or never answer; ``advice`` is for both."""
    answer: Future[Check] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except Exception as error:  # noqa: BLE001  # it is raised again below
            answer.set_exception(error)

    # Nobody waits for this thread: what never answers must not keep the command from ending.
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    if not answer.done():
        return Check(name, Status.PROBLEM, f"{what} gives no answer within {DEADLINE_SECONDS:.0f} s", advice)
    try:
        return answer.result()
    except FAULTS as error:
        reason = masked(str(getattr(error, "orig", None) or error)).strip().partition("\n")[0].rstrip(".")
        return Check(name, Status.PROBLEM, f"{what} cannot be used: {reason or type(error).__name__}", advice)


def _service(running: Running | None, place: Place, data_dir: Path) -> Check:
    if running is None:
        detail = f"none runs on {data_dir}, or it is not ready yet"
        return Check("service", Status.PROBLEM, detail, place.start_worker)
    if not _lives(running.pid):
        detail = f"process {running.pid} no longer lives and did not end by itself"
        return Check("service", Status.PROBLEM, detail, place.start_worker)
    address = urlsplit(running.address)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        detail = f"process {running.pid} lives, but {running.address} does not answer: {error}"
        return Check("service", Status.PROBLEM, detail, f"see {data_dir / 'logs' / 'api.log'}")
    finally:
        connection.close()
    detail = f"process {running.pid} answers at {running.address}"
    if running.version != VERSION:
        return Check(
            "service", Status.WARNING, f"{detail} with version {running.version}, not {VERSION}", place.migrate
        )
    return Check("service", Status.OK, detail)


def _database_checks(place: Place) -> Iterator[Check]:
    asked = masked(place.database_url)
    database = _bounded("database", asked, place.database_advice, lambda: _database(place))
    yield database
    if database.status is Status.PROBLEM:
        return
    file = diagnosis.sqlite_file(place.database_url)
    if file is not None:
        yield _bounded("file", str(file), "", lambda: _file(file))
        yield _asked("integrity", place, _integrity)
        yield _bounded("disk", str(file.parent), "", lambda: room(file.parent))
    migrations = _asked("migrations", place, _migrations)
    yield migrations
    yield _asked("clock", place, _clock)
    if migrations.status is Status.OK:  # other tables than this code's could not be read
        for look in (_workers, _queue, _leases, _times, _stops, _losses):
            yield _asked(look.__name__[1:], place, look)


def _asked(name: str, place: Place, look: Callable[[Connection, Place], Check]) -> Check:
    """Ask the database on a connection of its own, so that one that hangs holds up nothing else."""

    def work() -> Check:
        with diagnosis.reading(place.database_url) as connection:
            return look(connection, place)

    return _bounded(name, masked(place.database_url), place.database_advice, work)


def _database(place: Place) -> Check:
    file = diagnosis.sqlite_file(place.database_url)
    with diagnosis.reading(place.database_url) as connection:
        diagnosis.now(connection)  # SQLAlchemy compiles it once
        began = time.perf_counter()
        diagnosis.now(connection)
        took = f"a round trip takes {1000 * (time.perf_counter() - began):.1f} ms"
        if file is None:
            server = diagnosis.postgresql_version(connection)
            return Check("database", Status.OK, f"PostgreSQL {server}, {masked(place.database_url)}, {took}")
    return Check("database", Status.OK, f"SQLite file {file}, {took}")


def _file(file: Path) -> Check:
    if not diagnosis.is_writable(file):
        advice = "give both to the user who runs selfnorm, and run this as that user"
        return Check("file", Status.PROBLEM, f"this user cannot write {file}, or its folder", advice)
    if not diagnosis.has_wal(file):
        detail = f"{file} is not in WAL mode: readers and writers hold each other up"
        return Check("file", Status.WARNING, detail, "selfnorm sets it when it starts")
    return Check("file", Status.OK, "can be written, in WAL mode")


def _integrity(connection: Connection, _place: Place) -> Check:
    damage = diagnosis.quick_check(connection, QUICK_CHECK_SECONDS)
    if damage is None:
        detail = f"quick_check found nothing in {QUICK_CHECK_SECONDS:.0f} s and was not at its end"
        return Check("integrity", Status.OK, detail, "selfnorm backup checks everything that it copies")
    if damage:
        advice = "end the service, keep the file, and start on a backup (docs/operations.md)"
        return Check("integrity", Status.PROBLEM, f"the file is damaged: {damage[0]}", advice)
    return Check("integrity", Status.OK, "quick_check found nothing")


def _migrations(connection: Connection, place: Place) -> Check:
    revision = health.schema_revision(connection)
    if revision == SCHEMA_REVISION:
        return Check("migrations", Status.OK, f"at {revision}, which this version needs")
    if revision is None:
        return Check("migrations", Status.PROBLEM, "none has run", place.migrate)
    detail = f"at {revision}, and this version needs {SCHEMA_REVISION}"
    if revision < SCHEMA_REVISION:
        return Check("migrations", Status.PROBLEM, detail, f"make a backup and {place.migrate}")
    return Check("migrations", Status.PROBLEM, detail, "a newer selfnorm made this database; run that one")


def _clock(connection: Connection, _place: Place) -> Check:
    before = datetime.now(UTC)
    theirs = diagnosis.now(connection)
    return clock(theirs, before, datetime.now(UTC))


def _workers(connection: Connection, place: Place) -> Check:
    known = workers.list_all(connection)
    alive = [worker for worker in known if not worker.is_lost]
    lost = [worker.name for worker in known if worker.is_lost]
    others = [f"{worker.name} ({worker.version})" for worker in alive if worker.version != VERSION]
    doing = Counter(str(worker.state) for worker in alive)
    detail = ", ".join(f"{count} {state}" for state, count in sorted(doing.items())) or "none runs"
    advice = []
    if lost:
        detail += f", silent for more than {SILENT_SECONDS:.0f} s: {', '.join(lost)}"
        advice.append("a silent one was killed or does not reach the database; after a day it is forgotten")
    if others:
        detail += f", of another version than {VERSION}: {', '.join(others)}"
        advice.append("start those of another version again with this one")
    if not alive:
        return Check("workers", Status.PROBLEM, detail, place.start_worker)
    return Check("workers", Status.WARNING if advice else Status.OK, detail, " and ".join(advice))


def _queue(connection: Connection, _place: Place) -> Check:
    queue = diagnosis.queue(connection)
    if not queue.waiting:
        return Check("queue", Status.OK, "no job waits")
    detail = f"{_jobs(queue.waiting)} in line, the oldest for {queue.oldest_seconds:.0f} s"
    known = workers.list_all(connection)
    idle = [worker.name for worker in known if worker.state == WorkerState.IDLE and not worker.is_lost]
    if queue.oldest_seconds > LATE_SECONDS and idle and not queue.moves:
        detail += f", though idle: {', '.join(idle)}"
        return Check("queue", Status.PROBLEM, detail, "start that worker again; its log says why it takes none")
    return Check("queue", Status.OK, detail)


def _leases(connection: Connection, place: Place) -> Check:
    found = diagnosis.expired(connection)
    if not found.count:
        return Check("leases", Status.OK, "every job that runs has a worker")
    return Check("leases", Status.PROBLEM, f"lost by their workers: {_named(found)}", place.start_sweeper)


def _times(connection: Connection, place: Place) -> Check:
    found = diagnosis.far_ahead(connection)
    if not found.count:
        return Check("times", Status.OK, "no job waits for a time far ahead")
    detail = f"held until a time far ahead, for the database's clock was set back: {_named(found)}"
    return Check("times", Status.PROBLEM, detail, place.start_sweeper)


def _stops(connection: Connection, _place: Place) -> Check:
    found = diagnosis.unheeded(connection)
    if not found.count:
        return Check("stops", Status.OK, "no job is late to pause or to be cancelled")
    detail = f"asked to pause or to cancel more than {LATE_SECONDS:.0f} s ago and still running: {_named(found)}"
    return Check("stops", Status.PROBLEM, detail, "end their workers, whose logs say what they do: nothing is lost")


def _losses(connection: Connection, _place: Place) -> Check:
    found = diagnosis.with_losses(connection)
    if not found.count:
        return Check("losses", Status.OK, "no unfinished job has cost a worker since it was last stored")
    detail = f"has cost a worker since it was last stored: {_named(found)}"
    return Check("losses", Status.WARNING, detail, "see whether its worker has enough memory; the third loss fails it")


def _broker(url: str) -> Check:
    options = {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    # Celery names a socket differently.
    with Redis.from_url(url.replace("redis+socket://", "unix://", 1), **options) as broker:
        broker.ping()
        waiting = broker.llen(QUEUE_NAME)
    messages = "1 message waits" if waiting == 1 else f"{waiting} messages wait"
    return Check("broker", Status.OK, f"{masked(url)} answers, {messages}")


def _named(found: Found) -> str:
    more = ", ..." if found.count > len(found.ids) else ""
    return f"{_jobs(found.count)} ({', '.join(found.ids)}{more})"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
