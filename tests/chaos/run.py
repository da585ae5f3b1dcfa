"""One run: start everything, train undisturbed, disturb, wait until it is calm again, and check."""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, select

from service.domain.jobs import EventKind
from service.storage.faults import DATABASE_DOWN
from service.storage.tables import jobs
from tests.chaos import snapshot
from tests.chaos.checker import Run, Twin, Violation, check, twins
from tests.chaos.client import Client, Spec
from tests.chaos.faults import Fault, draw
from tests.chaos.history import Call, History, Hit, Sighting
from tests.chaos.injector import Injector
from tests.chaos.topology import Kind, NotEnded, Topology
from tests.patience import PATIENCE_SECONDS

Say = Callable[[str], None]

SIGHTING_SECONDS = 0.5
TICK_SECONDS = 0.05
CALM_SECONDS = PATIENCE_SECONDS
"""So long everything that waits has to end once nothing more is done to it; each job adds a little."""
SECONDS_FOR_EACH_JOB = 15.0


def _spec(dataset: str, layers: int, epochs: int, dropout: float = 0.0, validation: float = 0.0) -> Spec:
    """Without validation rows the weights are those of the last step, so that every step before counts."""
    network = {"hidden_layers": layers, "units": 32, "dropout": dropout}
    parts = {"test_fraction": 0.2, "validation_fraction": validation}
    training = {"epochs": epochs, "batch_size": 1, "early_stopping": None, "learning_rate": 1e-4, **parts}
    return {"dataset": dataset, "network": network, "training": training}


SPECS: Mapping[str, Spec] = {
    "iris": _spec("iris", 4, 2000),
    "wine": _spec("wine", 6, 1200, dropout=0.1, validation=0.2),
    "digits": _spec("digits", 2, 200, validation=0.2),
    "digits-dropout": _spec("digits", 3, 120, dropout=0.05),
    "diabetes": _spec("diabetes", 4, 500),
}
"""Trainings of a few seconds, with many steps and with few, in many epochs and in few."""


@dataclass(frozen=True)
class Plan:
    """What is to be done in a run."""

    database: Kind
    seed: int
    kills: int | None = None
    """It ends after so many kill -9,"""
    seconds: float | None = None
    """... or after so many seconds of faults,"""
    faults: int | None = None
    """... or after so many faults; one of the three is given."""
    workers: int = 2
    apis: int = 1
    waiting: int = 6
    """So many jobs wait beside those that run; some of them wait for the end of a dead worker's lease."""
    longest: float = 45.0
    """No fault lasts for longer."""
    specs: tuple[str, ...] = tuple(SPECS)

    @property
    def command(self) -> str:
        """Return how to do it again."""
        end = f"--kills {self.kills}" if self.kills else f"--seconds {self.seconds:.0f}" if self.seconds else ""
        words = f"python -m tests.chaos --database {self.database} {end or f'--faults {self.faults}'}"
        return f"{words} --seed {self.seed} --workers {self.workers} --apis {self.apis} --longest {self.longest:g}"

    def schedule(self) -> list[Fault]:
        """Return the faults in order, as many as it takes where each of them hits; else more follow."""
        chosen: list[Fault] = []
        for fault in draw(self.seed, self.database, self.longest):
            if self.is_over(chosen, sum(each.pause for each in chosen)):
                break
            chosen.append(fault)
        return chosen

    def is_over(self, done: Sequence[Fault | Hit], seconds: float) -> bool:
        """Whether nothing more is to be done, after these faults and so many seconds."""
        if self.kills is not None:
            return sum(each.is_kill for each in done) >= self.kills
        return seconds >= self.seconds if self.seconds is not None else len(done) >= (self.faults or 0)


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    plan: Plan
    run: Run
    violations: list[Violation]

    def summary(self) -> str:
        """Return the figures of the run, in lines."""
        stored, history = self.run.stored.jobs.values(), self.run.history
        broken = Counter(violation.invariant for violation in self.violations)
        slowest = max(self._unfrozen(), key=lambda call: call.seconds)
        lines = [
            f"jobs {len(stored)}: {_counted(job.state for job in stored)}",
            f"faults {len(history.hits)}, of them kills {sum(hit.is_kill for hit in history.hits)}: "
            f"{_counted(hit.fault for hit in history.hits)}",
            f"attempts {sum(job.fence for job in stored)}, "
            f"workers lost {sum(len(job.all_of(EventKind.WORKER_LOST)) for job in stored)}",
            f"accepted jobs lost {broken['nothing_accepted_is_lost']}, doubles {broken['one_job_for_each_key']}, "
            f"models {len(list(twins(self.run)))}, that differ from undisturbed ones {broken['twins_are_equal']}",
            f"requests {len(history.calls)}, without an answer {sum(call.status is None for call in history.calls)}, "
            f"slowest while no API process was frozen {slowest.seconds:.1f} s: {slowest.method} {slowest.path} "
            f"{slowest.status or slowest.error}",
        ]
        for words, kind in (("is taken back", EventKind.WORKER_LOST), ("starts again", EventKind.STARTED)):
            if waited := sorted(self.waits(kind)):
                (slow, how), median = waited[-1], statistics.median(seconds for seconds, _ in waited)
                lines.append(f"a job {words} after a kill -9: median {median:.1f} s, slowest {slow:.1f} s ({how})")
        return "\n".join(lines)

    def _unfrozen(self) -> list[Call]:
        """Return the requests that no frozen API process can have held up."""
        frozen = [(hit.at, hit.at + hit.seconds) for hit in self.run.history.hits if hit.fault == "freeze_api"]
        calls = self.run.history.calls
        return [call for call in calls if not any(call.began < end and start < call.ended for start, end in frozen)]

    def waits(self, kind: EventKind) -> Iterator[tuple[float, str]]:
        """Return the seconds from each kill to the next event of a kind of its job, with what was done to which job."""
        for hit in self.run.history.hits:
            job = self.run.stored.jobs.get(hit.job_id or "")
            if hit.is_kill and job is not None:
                later = [event.created_at for event in job.all_of(kind) if event.created_at > hit.clock]
                if later:
                    yield (later[0] - hit.clock).total_seconds(), f"{hit.fault}, job {job.id}"


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common()) or "none"


def run(plan: Plan, say: Say, *, keeps: bool = False) -> Outcome:
    """Do a run; where something is wrong its folder is kept, and with ``keeps`` always."""
    history, topology = History(), Topology(plan.database, plan.workers, plan.apis)
    topology.keeps_folder = True
    late, stored = [], None
    try:
        with topology:
            try:
                done = _disturb(plan, topology, history, say)
                stored, violations = done.stored, check(done)
            finally:
                history.write(topology.folder / "history.jsonl", stored)
            topology.keeps_folder = keeps or bool(violations)
    except NotEnded as fault:
        late.append(Violation("everything_ends", str(fault)))
    if topology.keeps_folder:
        say(f"logs, database and history are kept in {topology.folder}")
    return Outcome(plan, done, violations + late)


def _disturb(plan: Plan, topology: Topology, history: History, say: Say) -> Run:
    specs = {name: SPECS[name] for name in plan.specs}
    users = Client(topology.addresses, history, plan.seed, specs, backlog=plan.workers + plan.waiting)
    first = users.undisturbed(CALM_SECONDS)
    undisturbed = _twins(topology.look(snapshot.read), history, first)
    assert undisturbed.keys() == specs.keys(), f"undisturbed, only {list(undisturbed)} succeeded; see {topology.folder}"
    say(f"undisturbed weights: {', '.join(f'{name} {twin.weights_sha256[:8]}' for name, twin in undisturbed.items())}")
    with _watched(topology, history), users:
        _do_faults(plan, Injector(topology, history), history, say)
        say("calm: waiting until every job has ended")
        users.stop_submitting()
        users.wait(CALM_SECONDS + SECONDS_FOR_EACH_JOB * (plan.workers + plan.waiting))
    return Run(topology.look(snapshot.read), history, undisturbed, unanswered=tuple(users.unanswered))


def _do_faults(plan: Plan, injector: Injector, history: History, say: Say) -> None:
    began, faults = time.monotonic(), draw(plan.seed, plan.database, plan.longest)
    try:
        while not plan.is_over(history.hits, time.monotonic() - began):
            fault = next(faults)
            due = time.monotonic() + fault.pause
            while time.monotonic() < due:
                injector.tick()
                time.sleep(TICK_SECONDS)
            hit = injector.do(fault)
            say(f"{time.monotonic() - began:6.1f} s  {fault}: {hit or 'hits nothing'}")
    finally:
        injector.calm()


@contextmanager
def _watched(topology: Topology, history: History) -> Iterator[None]:
    """Look at the job table all the while."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(SIGHTING_SECONDS):
            try:
                history.see(topology.look(_sightings, seconds=0))
            except DATABASE_DOWN:
                continue

    with ThreadPoolExecutor(1, thread_name_prefix="watch") as pool:
        looking = pool.submit(look)
        try:
            yield
        finally:
            over.set()
            looking.result()


def _sightings(connection: Connection) -> list[Sighting]:
    stored = jobs.c
    rows = connection.execute(select(stored.id, stored.state, stored.fence, stored.epoch, stored.last_event)).all()
    return [Sighting(time.monotonic(), row.id, row.state, row.fence, row.epoch, row.last_event) for row in rows]


def _twins(stored: snapshot.Snapshot, history: History, job_ids: list[str]) -> dict[str, Twin]:
    """Return what undisturbed jobs gave, by the name of their spec."""
    run = Run(stored, history)
    found = {}
    for version in stored.versions:
        job = stored.jobs[version.job_id]
        if job.id in job_ids and (key := run.key_of(job)):
            found[history.specs[key]] = Twin(version.weights_sha256, job.curve)
    return found
