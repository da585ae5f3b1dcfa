"""What the doctor finds in the database, and in the jobs and workers that it holds."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from service.doctor.checks import Check, Place, Status, bounded, masked
from service.doctor.store import store_check
from service.domain.workers import SILENT_SECONDS, Worker, WorkerState
from service.storage import doctor, health, workers
from service.storage.database import Connection
from service.storage.doctor import LATE_SECONDS, Found
from service.storage.tables import SCHEMA_REVISION

VERSION = version("selfnorm")
QUICK_CHECK_SECONDS = 3.0
CLOCK_SECONDS = 5.0
LEAST_ROOM_BYTES = 2**30


def database_checks(place: Place) -> Iterator[Check]:
    """Check the database first, and what it holds where it can be read."""
    asked = masked(place.database_url)
    database = bounded("database", asked, place.database_advice, lambda: _database(place))
    yield database
    if database.status is Status.PROBLEM:
        return
    file = doctor.sqlite_file(place.database_url)
    if file is not None:
        yield bounded("file", str(file), "", lambda: _file(file))
        yield _asked("integrity", place, _integrity)
        yield bounded("disk", str(file.parent), "", lambda: room(file.parent))
    migrations = _asked("migrations", place, _migrations)
    yield migrations
    yield _asked("clock", place, _clock)
    if migrations.status is Status.OK:  # other tables than this code's could not be read
        for look in (_workers, _queue, _leases, _times, _stops, _losses, _store):
            yield _asked(look.__name__[1:], place, look)


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


def _asked(name: str, place: Place, look: Callable[[Connection, Place], Check]) -> Check:
    """Ask the database on a connection of its own, so that one that hangs holds up nothing else."""

    def work() -> Check:
        with doctor.reading(place.database_url) as connection:
            return look(connection, place)

    return bounded(name, masked(place.database_url), place.database_advice, work)


def _database(place: Place) -> Check:
    file = doctor.sqlite_file(place.database_url)
    with doctor.reading(place.database_url) as connection:
        doctor.now(connection)  # SQLAlchemy compiles it once
        began = time.perf_counter()
        doctor.now(connection)
        took = f"a round trip takes {1000 * (time.perf_counter() - began):.1f} ms"
        if file is None:
            server = doctor.postgresql_version(connection)
            return Check("database", Status.OK, f"PostgreSQL {server}, {masked(place.database_url)}, {took}")
    return Check("database", Status.OK, f"SQLite file {file}, {took}")


def _file(file: Path) -> Check:
    if not doctor.is_writable(file):
        advice = "give both to the user who runs selfnorm, and run this as that user"
        return Check("file", Status.PROBLEM, f"this user cannot write {file}, or its folder", advice)
    if not doctor.has_wal(file):
        detail = f"{file} is not in WAL mode: readers and writers hold each other up"
        return Check("file", Status.WARNING, detail, "selfnorm sets it when it starts")
    return Check("file", Status.OK, "can be written, in WAL mode")


def _integrity(connection: Connection, _place: Place) -> Check:
    damage = doctor.quick_check(connection, QUICK_CHECK_SECONDS)
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
    theirs = doctor.now(connection)
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


def _queue(connection: Connection, place: Place) -> Check:
    queue = doctor.queue(connection)
    if not queue.waiting:
        return Check("queue", Status.OK, "no job waits")
    detail = f"{_jobs(queue.waiting)} in line, the oldest for {queue.oldest_seconds:.0f} s"
    if queue.oldest_seconds <= LATE_SECONDS or queue.moves:
        return Check("queue", Status.OK, detail)
    known = workers.list_all(connection)
    if idle := _names(known, WorkerState.IDLE):
        advice = f"start that worker again; {place.worker_log} says why it takes none"
        return Check("queue", Status.PROBLEM, f"{detail}, though idle: {', '.join(idle)}", advice)
    if _none_gets_ready(known):
        starting = ", ".join(_names(known, WorkerState.STARTING))
        advice = f"{place.worker_log} says why; one that died a moment ago is ready again within a minute"
        return Check("queue", Status.PROBLEM, f"{detail}, and no worker gets ready: {starting}", advice)
    return Check("queue", Status.OK, detail)


def _names(known: list[Worker], state: WorkerState) -> list[str]:
    """Name the workers that live and are in a state."""
    return [worker.name for worker in known if worker.state == state and not worker.is_lost]


def _none_gets_ready(known: list[Worker]) -> bool:
    """Whether all workers that live are starting, and not only since a moment ago.

    One that dies while it starts comes again under another name, so those that were lost in that state are counted too.
    Where no worker lives, that is the problem, and another check says so.
    """
    starting = [worker for worker in known if worker.state == WorkerState.STARTING]
    known_for = [(worker.seen_at - worker.started_at).total_seconds() + worker.seconds_silent for worker in starting]
    alive = {worker.state for worker in known if not worker.is_lost}
    return alive == {WorkerState.STARTING} and max(known_for) > LATE_SECONDS


def _leases(connection: Connection, place: Place) -> Check:
    found = doctor.expired(connection)
    if not found.count:
        return Check("leases", Status.OK, "every job that runs has a worker")
    return Check("leases", Status.PROBLEM, f"lost by their workers: {_named(found)}", place.start_sweeper)


def _times(connection: Connection, place: Place) -> Check:
    found = doctor.far_ahead(connection)
    if not found.count:
        return Check("times", Status.OK, "no job waits for a time far ahead")
    detail = f"held until a time far ahead, for the database's clock was set back: {_named(found)}"
    return Check("times", Status.PROBLEM, detail, place.start_sweeper)


def _stops(connection: Connection, _place: Place) -> Check:
    found = doctor.unheeded(connection)
    if not found.count:
        return Check("stops", Status.OK, "no job is late to pause or to be cancelled")
    detail = f"asked to pause or to cancel more than {LATE_SECONDS:.0f} s ago and still running: {_named(found)}"
    return Check("stops", Status.PROBLEM, detail, "end their workers, whose logs say what they do: nothing is lost")


def _losses(connection: Connection, _place: Place) -> Check:
    found = doctor.with_losses(connection)
    if not found.count:
        return Check("losses", Status.OK, "no unfinished job has cost a worker since it was last stored")
    detail = f"has cost a worker since it was last stored: {_named(found)}"
    return Check("losses", Status.WARNING, detail, "see whether its worker has enough memory; the third loss fails it")


def _store(connection: Connection, place: Place) -> Check:
    return store_check(doctor.files_elsewhere(connection), place.store)


def _named(found: Found) -> str:
    more = ", ..." if found.count > len(found.ids) else ""
    return f"{_jobs(found.count)} ({', '.join(found.ids)}{more})"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
