"""What happened in a run, as the outside saw it: requests with their answers, faults, and looks at the job table."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos.faults import Fault
from tests.chaos.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Call:
    """One request and what came of it; times are of the monotonic clock."""

    began: float
    ended: float
    method: str
    path: str
    key: str | None = None
    """Its Idempotency-Key."""
    status: int | None = None
    """None where no answer came."""
    retry_after: str | None = None
    is_replayed: bool = False
    """Whether the answer is that of an earlier request."""
    answer: dict[str, Any] | None = None
    """What of a job the answer told: ``id``, ``state``, ``attempts``, ``epoch``; or the ``code`` of a refusal."""
    error: str | None = None
    """Why no answer came."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the job table said about one job at one time."""

    at: float
    job_id: str
    state: str
    fence: int
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault that was done: when, to which process, and which job it ran."""

    at: float
    clock: datetime
    """The same by the clock, which is the database's too: all run on one machine."""
    fault: str
    job_id: str | None = None
    is_kill: bool = False
    seconds: float = 0.0
    """How long it was to last."""


@dataclass
class History:
    """Grows from several threads at once."""

    specs: dict[str, str] = field(default_factory=dict)
    """The name of the spec that was asked for under each key."""
    calls: list[Call] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)
    """Jobs that somebody asked to pause last, so that they may stay as they are."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def ask(self, key: str, spec: str) -> None:
        """Note that a spec is about to be submitted under a key."""
        with self._lock:
            self.specs[key] = spec

    def add(self, call: Call) -> Call:
        """Note a request."""
        with self._lock:
            self.calls.append(call)
        return call

    def see(self, sightings: list[Sighting]) -> None:
        """Note a look at the job table."""
        with self._lock:
            self.sightings.extend(sightings)

    def hit(self, fault: Fault, job_id: str | None = None) -> None:
        """Note a fault that has just been done."""
        with self._lock:
            now = time.monotonic(), datetime.now(UTC)
            self.hits.append(Hit(*now, fault.name, job_id, fault.is_kill, fault.seconds))

    def accepted(self) -> dict[str, set[str]]:
        """Return the ids that were answered to each key with 202."""
        found: dict[str, set[str]] = {}
        for call in self.calls:
            if call.path == "/jobs" and call.status == 202 and call.key and call.answer:
                found.setdefault(call.key, set()).add(call.answer["id"])
        return found

    def answers(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Return what was answered about jobs, with the time, in order."""
        told = sorted(
            (call.ended, index) for index, call in enumerate(self.calls) if call.answer and "id" in call.answer
        )
        for ended, index in told:
            answer = self.calls[index].answer
            assert answer is not None
            yield ended, answer

    def write(self, path: Path, stored: Snapshot | None) -> None:
        """Write everything to a file, one JSON object a line; what the database tells of jobs as well."""
        rows: list[tuple[str, Any]] = [
            *(("call", asdict(call)) for call in self.calls),
            *(("sighting", asdict(sighting)) for sighting in self.sightings),
            *(("hit", asdict(hit)) for hit in self.hits),
        ]
        for job in stored.jobs.values() if stored else ():
            rows += [("event", {"job_id": job.id, **asdict(event)}) for event in job.events]
        with path.open("w") as file:
            file.writelines(json.dumps({"line": kind, **row}, default=str) + "\n" for kind, row in rows)
