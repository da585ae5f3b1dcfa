"""What a check is, and how one is made that always ends and never shows a password."""

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum

from service.storage.faults import reason
from service.storage.object_store import ObjectStore

DEADLINE_SECONDS = 5.0
"""No check takes longer, whatever hangs."""


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


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
    worker_log: str
    """Where a worker says what goes wrong with it."""
    store: ObjectStore | None = None
    """Where large files are kept, if not in the database."""


def masked(text: str) -> str:
    """Return a text without the passwords of the URLs in it.

    A password may hold any character, as the libraries take it: it ends at the last @ of its line.
    """
    text = re.sub(r"(?<=://)([^:@\n]*):.*@", r"\1:***@", text)
    return re.sub(r"(?i)(password=)[^&\n]*", r"\1***", text)


def bounded(name: str, what: str, advice: str, work: Callable[[], Check]) -> Check:
    """Check something that may fail, or never answer; ``advice`` is for both."""
    answer: Future[Check] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except Exception as error:  # noqa: BLE001  # it is read below
            answer.set_exception(error)

    # Nobody waits for this thread: what never answers must not keep the command from ending.
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    if not answer.done():
        return Check(name, Status.PROBLEM, f"{what} gives no answer within {DEADLINE_SECONDS:.0f} s", advice)
    error = answer.exception()
    if error is None:
        return answer.result()
    why = masked(reason(error)) if isinstance(error, Exception) else ""
    return Check(name, Status.PROBLEM, f"{what} cannot be used: {why or type(error).__name__}", advice)
