"""Does faults to a topology, takes them back when their time is over, and writes down what was hit."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Select, func, select, update

from service.domain.jobs import HELD_STATES, EventKind, JobState
from service.storage.database import Connection, database_time
from service.storage.faults import DATABASE_DOWN
from service.storage.tables import events, jobs
from tests.chaos.faults import Fault
from tests.chaos.history import History
from tests.chaos.parts import began
from tests.chaos.topology import Topology

FAIR_LOSSES = 1
"""A job that has lost more workers since its last checkpoint is spared: the third loss would rightly fail it."""
VICTIM_SECONDS = 6.0
"""So long a fault waits for somebody whom it can hit."""
HOUR_SECONDS = 3600.0
FULL_BYTES = 64 * 1024
"""Beyond the logs of a short run, far below any database."""
LOCK_TIMEOUT_SECONDS = 5.0

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "restart": signal.SIGTERM, "quit": signal.SIGQUIT}
"""What the first words of faults that are nothing but a signal stand for."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A job, and the worker that runs it if one does."""

    job_id: str
    losses: int
    index: int = -1


class Injector:
    """Hits a topology; to be used from one thread."""

    def __init__(self, topology: Topology, history: History) -> None:
        self._topology = topology
        self._history = history
        self._later: list[tuple[float, str, Callable[[], object]]] = []
        self._frozen_workers: set[int] = set()

    @property
    def in_force(self) -> list[str]:
        """The names of the faults that last still."""
        return [name for _, name, _ in self._later]

    def do(self, fault: Fault) -> str | None:
        """Do a fault; return what it hit, None where there was nothing."""
        victim: Victim | None = None
        if fault.seconds and fault.name in self.in_force:
            return None  # the end of one would be the end of both
        if fault.kind.takes:
            victim = self._wait_for_victim(fault)
            if victim is None:
                return None
        what = getattr(self, f"_{fault.name}", None)
        hit = what(fault, victim) if what is not None else self._signal(fault, victim)
        if hit is None:
            return None
        job_id = victim.job_id if victim is not None and fault.kind.takes != "queued" else None
        self._history.hit(fault, job_id)
        return f"{hit} with job {job_id}" if job_id else str(hit)

    def tick(self) -> None:
        """Take back what is over."""
        now = time.monotonic()
        for due in [each for each in self._later if each[0] <= now]:
            self._later.remove(due)
            due[2]()

    def calm(self) -> None:
        """Take everything back."""
        for _, _, undo in self._later:
            undo()
        self._later.clear()

    # Whom it hits.

    def _wait_for_victim(self, fault: Fault) -> Victim | None:
        deadline = time.monotonic() + VICTIM_SECONDS
        while time.monotonic() < deadline:
            try:
                found = self._queued() if fault.kind.takes == "queued" else self._busy(fault.kind.takes == "loss")
            except DATABASE_DOWN:
                found = []
            if found:
                return found[int(fault.choice * len(found))]
            self.tick()
            time.sleep(0.1)
        return None

    def _busy(self, to_lose: bool) -> list[Victim]:
        """Return the jobs that live processes train; of those that may lose one only the ones that lost the fewest."""
        by_pid = {str(part.pid): index for index, part in enumerate(self._topology.parts["worker"])}
        found = []
        for row in self._topology.look(lambda connection: connection.execute(_held()).all(), seconds=0):
            index = _index_of(row.worker, by_pid)
            trainer = None if index is None else self._topology.trainer(index)
            # A job seems to run until somebody has seen that its process died; a younger one trains something else.
            if index is not None and trainer is not None and began(trainer) < row.started.timestamp():
                found.append(Victim(row.id, row.losses, index))
        found = [victim for victim in found if victim.index not in self._frozen_workers]
        if not to_lose:
            return found
        fewest = min((victim.losses for victim in found), default=0)
        return [victim for victim in found if victim.losses == fewest <= FAIR_LOSSES]

    def _queued(self) -> list[Victim]:
        query = select(jobs.c.id, jobs.c.losses).where(jobs.c.state == JobState.QUEUED)
        rows = self._topology.look(lambda connection: connection.execute(query).all(), seconds=0)
        return [Victim(row.id, row.losses) for row in rows]

    # What it does, by the names of the faults.

    def _signal(self, fault: Fault, victim: Victim | None) -> str | None:
        """Do what is nothing but a signal: kill_trainer, term_worker, restart_broker and the like."""
        how, _, name = fault.name.partition("_")
        number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "restart": signal.SIGTERM, "quit": signal.SIGQUIT}[
            how
        ]
        index = victim.index if victim is not None else self._any(name, fault)
        pid = self._topology.send(name, number, index)
        return None if pid is None else f"{name} {index} (process {pid})"

    def _kill_worker_and_trainer(self, _: Fault, victim: Victim | None) -> str | None:
        assert victim is not None
        below = self._topology.parts["worker"][victim.index].below()
        pid = self._topology.kill("worker", victim.index)
        for each in below:
            try:
                os.kill(each, signal.SIGKILL)
            except ProcessLookupError:  # it has just died with its parent
                continue
        return None if pid is None else f"worker {victim.index} (process {pid}) and {len(below)} below it"

    def _freeze_trainer(self, fault: Fault, victim: Victim | None) -> str | None:
        assert victim is not None
        return self._freeze("trainer", victim.index, fault)

    def _freeze_worker(self, fault: Fault, victim: Victim | None) -> str | None:
        assert victim is not None
        return self._freeze("worker", victim.index, fault)

    def _freeze_api(self, fault: Fault, _: Victim | None) -> str | None:
        return self._freeze("api", self._any("api", fault), fault)

    def _freeze(self, name: str, index: int, fault: Fault) -> str | None:
        if name != "api" and len(self._frozen_workers) + 1 >= max(2, len(self._topology.parts["worker"])):
            return None  # somebody must be left to go on
        pids = self._topology.freeze(name, index)
        if not pids:
            return None

        def thaw() -> None:
            self._topology.thaw(pids)
            if name != "api":
                self._frozen_workers.discard(index)

        if name != "api":
            self._frozen_workers.add(index)
        self._after(fault, thaw)
        return f"{name} {index} (processes {', '.join(map(str, pids))})"

    def _flush_broker(self, _: Fault, __: Victim | None) -> str | None:
        try:
            self._topology.flush_broker()
        except RedisError:  # it is down
            return None
        return "broker"

    def _cut_broker(self, _: Fault, __: Victim | None) -> str:
        self._topology.broker_proxy.cut()
        return "connections to the broker"

    def _silence_broker(self, fault: Fault, _: Victim | None) -> str:
        self._topology.broker_proxy.freeze()
        self._after(fault, self._topology.broker_proxy.thaw)
        return "connections to the broker"

    def _refuse_broker(self, fault: Fault, _: Victim | None) -> str:
        proxy = self._topology.broker_proxy
        proxy.refuse()
        proxy.cut()
        self._after(fault, proxy.accept)
        return "connections to the broker"

    def _cut_database(self, _: Fault, __: Victim | None) -> str:
        assert self._topology.database_proxy is not None
        self._topology.database_proxy.cut()
        return "connections to the database"

    def _silence_database(self, fault: Fault, _: Victim | None) -> str:
        assert self._topology.database_proxy is not None
        self._topology.database_proxy.freeze()
        self._after(fault, self._topology.database_proxy.thaw)
        return "connections to the database"

    def _refuse_database(self, fault: Fault, _: Victim | None) -> str:
        proxy = self._topology.database_proxy
        assert proxy is not None
        proxy.refuse()
        proxy.cut()
        self._after(fault, proxy.accept)
        return "connections to the database"

    def _lock_database(self, fault: Fault, _: Victim | None) -> str | None:
        holder = sqlite3.connect(self._topology.data / "selfnorm.db", LOCK_TIMEOUT_SECONDS, isolation_level=None)
        try:
            holder.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            holder.close()
            return None
        self._after(fault, holder.close)
        return "the write lock"

    def _fill_disk(self, fault: Fault, _: Victim | None) -> str:
        self._topology.limit_files(FULL_BYTES)
        self._after(fault, lambda: self._topology.limit_files(None))
        return "files of all API processes and workers"

    def _clock_forward(self, _: Fault, victim: Victim | None) -> str | None:
        """As if the clock were an hour further: a lease has expired."""
        return self._shift(victim, "lease_until", -HOUR_SECONDS)

    def _clock_back(self, _: Fault, victim: Victim | None) -> str | None:
        """As if the clock were an hour behind: a lease lasts for more than an hour."""
        return self._shift(victim, "lease_until", HOUR_SECONDS)

    def _clock_forward_in_queue(self, _: Fault, victim: Victim | None) -> str | None:
        return self._shift(victim, "claimable_at", -HOUR_SECONDS)

    def _clock_back_in_queue(self, _: Fault, victim: Victim | None) -> str | None:
        return self._shift(victim, "claimable_at", HOUR_SECONDS)

    def _shift(self, victim: Victim | None, column: str, seconds: float) -> str | None:
        assert victim is not None
        states = HELD_STATES if column == "lease_until" else {JobState.QUEUED}
        which = (jobs.c.id == victim.job_id) & jobs.c.state.in_(states)

        def shift(connection: Connection) -> int:
            return connection.execute(update(jobs).where(which).values({column: database_time(seconds)})).rowcount

        try:
            with self._topology.database.write() as connection:
                return f"{column} of job {victim.job_id}" if shift(connection) else None
        except DATABASE_DOWN:
            return None

    def _any(self, name: str, fault: Fault) -> int:
        return int(fault.choice * len(self._topology.parts[name]))

    def _after(self, fault: Fault, undo: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + fault.seconds, fault.name, undo))


def _held() -> Select[Any]:
    """Select the jobs that workers hold, with the time since when."""
    stored = (jobs.c.id, jobs.c.losses, jobs.c.worker)
    started = func.max(events.c.created_at, type_=events.c.created_at.type).label("started")
    joined = select(*stored, started).join(events, events.c.job_id == jobs.c.id)
    joined = joined.where(jobs.c.state.in_(HELD_STATES), events.c.kind == EventKind.STARTED)
    return joined.group_by(*stored).order_by(jobs.c.id)


def _index_of(worker: str | None, by_pid: dict[str, int]) -> int | None:
    """Return which worker has this name: its process id is a word of it."""
    return next((by_pid[word] for word in (worker or "").split("-") if word in by_pid), None)
