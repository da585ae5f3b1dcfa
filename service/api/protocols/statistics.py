"""What this process has answered under the protocols, counted by version as Triton counts it."""

import time
from dataclasses import dataclass, field
from typing import Any

from service.use_cases.serving import Served

UNUSED = ("queue", "cache_hit", "cache_miss")
"""Requests wait in no queue here, and no answer is kept."""


@dataclass(slots=True)
class Duration:
    """How often something was done, and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count one more."""
        self.count += 1
        self.ns += ns

    def to_dict(self) -> dict[str, int]:
        """Return both as JSON has them."""
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class _Counts:
    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


class Statistics:
    """Counts of one process, since it began; used by one event loop."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], _Counts] = {}

    def succeeded(self, served: Served, rows: int, begun: int, read: int, answered: int) -> None:
        """Count a request that has just been answered.

        The times are those of ``time.perf_counter_ns``: when its body had come, its rows had been read, and the network
        had answered.
        """
        now = time.perf_counter_ns()
        counts = self._of(served)
        counts.last_inference = time.time_ns() // 1_000_000
        counts.inference_count += rows
        counts.execution_count += 1
        counts.success.add(now - begun)
        counts.compute_input.add(read - begun)
        counts.compute_infer.add(answered - read)
        counts.compute_output.add(now - answered)

    def failed(self, served: Served, begun: int) -> None:
        """Count a request whose rows the network had no answer to."""
        self._of(served).fail.add(time.perf_counter_ns() - begun)

    def describe(self, served: Served) -> dict[str, Any]:
        """Return the counts of a version as the statistics extension has them."""
        counts = self._of(served)
        durations = ("success", "fail", "compute_input", "compute_infer", "compute_output")
        return {
            "name": served.version.name,
            "version": str(served.version.version),
            "last_inference": counts.last_inference,
            "inference_count": counts.inference_count,
            "execution_count": counts.execution_count,
            "inference_stats": {
                **{name: getattr(counts, name).to_dict() for name in durations},
                **{name: Duration().to_dict() for name in UNUSED},
            },
            "response_stats": {},
            "batch_stats": [],
            "memory_usage": [],
        }

    def _of(self, served: Served) -> _Counts:
        key = (served.owner, served.version.name, served.version.version)
        return self._counts.setdefault(key, _Counts())
