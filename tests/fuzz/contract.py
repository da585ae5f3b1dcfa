"""Asks an application everything that its OpenAPI document allows, and much that it forbids, with schemathesis."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from fastapi import FastAPI
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema
from schemathesis.python import asgi

from tests.fuzz.contract_rules import configuration, register_bodies, with_good_rows
from tests.fuzz.world import world

MOST_SHOWN = 1500
EXAMPLES = 9
"""From ten on, hypothesis looks for the most of what schemathesis measures, which takes minutes and finds no more."""


@dataclass
class Findings:
    """What a run came to."""

    cases: Counter[str] = field(default_factory=Counter)
    """By phase."""
    statuses: Counter[int] = field(default_factory=Counter)
    served: set[str] = field(default_factory=set)
    """The operations that did what they were asked, at least once."""
    unserved: set[str] = field(default_factory=set)
    faults: dict[tuple[str, str], str] = field(default_factory=dict)
    """What is wrong by operation and kind, as it was seen first."""
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def answered(self, operation: str, status: int) -> None:
        self.statuses[status] += 1
        if status < 400:
            self.served.add(operation)
            self.unserved.discard(operation)
        elif operation not in self.served:
            self.unserved.add(operation)

    def add(self, operation: str, kind: str, text: str) -> None:
        self.seen[operation, kind] += 1
        self.faults.setdefault((operation, kind), text)

    def told(self) -> str:
        """Say everything that is wrong, each kind once for each operation."""
        return "\n\n".join(
            f"{operation}: {kind}, {self.seen[operation, kind]} times\n{text}"
            for (operation, kind), text in self.faults.items()
        )


def ask(
    examples: int,
    seed: int,
    *,
    authentication: bool = True,
    seconds: float = math.inf,
    without: Iterable[str] = (),
) -> Findings:
    """Ask a new service; ``examples`` are tried of each operation, after its examples and edges; not ``without``."""
    register_bodies()
    with world(authentication=authentication) as there:
        return run(there.app, configuration(there, examples, seed, without), seconds)


def run(app: FastAPI, configured: Mapping[str, Any], seconds: float = math.inf) -> Findings:
    """Ask an application as schemathesis is configured, and close it; what is not asked by then is left."""
    found, until = Findings(), time.monotonic() + seconds
    try:
        config = schemathesis.Config.from_dict(dict(configured))
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
        schema.hooks.register_hook_with_name(with_good_rows, "map_case")
        stream = from_schema(schema).execute()
        for event in stream:
            _read(event, found)
            if time.monotonic() > until:  # schemathesis' own bound is also how long it goes on
                stream.stop()
    finally:
        asgi.shutdown_lifespans()
    return found


def fuzz_contract(first: int, seconds: float, cases: int, say: Callable[[str], None]) -> bool:
    """Ask one new service after the other, each by another number; the first one also everything at its edges."""
    until, done, number = time.monotonic() + seconds, 0, first
    while done < cases and (left := until - time.monotonic()) > 0:
        found = ask(EXAMPLES, number, seconds=left, without=() if number == first else ("coverage",))
        done += found.cases.total()
        if found.faults:
            say(f"{found.told()}\n\nFOUND {len(found.faults)} faults")
            say(f"again: python -m tests.fuzz --target schemathesis --seed {number} --seconds 600 --cases 1")
            return False
        say(f"schemathesis: {done} cases, of the last {dict(found.cases)} by phase, {dict(found.statuses)} by status")
        number += 1
    return True


def _read(event: events.EngineEvent, found: Findings) -> None:
    if isinstance(event, events.ScenarioFinished):
        found.cases[event.phase.value] += len(event.recorder.interactions)
        cases = event.recorder.cases
        for case_id, interaction in event.recorder.interactions.items():
            if interaction.response is not None:
                found.answered(cases[case_id].value.operation.label, int(interaction.response.status_code))
        for case_id, checks in event.recorder.checks.items():
            for check in checks:
                if (info := check.failure_info) is not None:
                    answer = event.recorder.interactions[case_id].response
                    answered = "" if answer is None else f"{answer.status_code} {answer.content[:MOST_SHOWN]!r}"
                    text = f"{info.failure.message[:MOST_SHOWN]}\n{info.code_sample[:MOST_SHOWN]}\n{answered}"
                    found.add(cases[case_id].value.operation.label, _kind(info.failure), text)
    elif isinstance(event, events.NonFatalError):
        found.add(event.label, "cannot be tried", str(event.value))
    elif isinstance(event, events.FatalError):
        raise event.exception


def _kind(failure: Failure) -> str:
    return f"{type(failure).__name__} ({failure.title})"
