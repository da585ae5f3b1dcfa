"""How long something takes, without the time in which the machine let nobody run."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

TICK_SECONDS = 0.02


class Stopwatch:
    """A thread that sleeps again and again, and notes how much too late it wakes."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._woken = [time.monotonic()]
        self._thread = threading.Thread(target=self._run, name="stopwatch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def elapsed(self, since: float, until: float | None = None) -> float:
        """Return the seconds between two moments of the monotonic clock, without those in which this thread waited."""
        end = time.monotonic() if until is None else until
        return end - since - self._lost(since, end)

    def _lost(self, since: float, until: float) -> float:
        spans = (
            (max(before + TICK_SECONDS, since), min(woken, until)) for before, woken in pairwise([*self._woken, until])
        )
        return sum(late - due for due, late in spans if late > due)

    def _run(self) -> None:
        while not self._over.is_set():
            time.sleep(TICK_SECONDS)
            self._woken.append(time.monotonic())


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Give a stopwatch that runs while the block does."""
    running = Stopwatch()
    try:
        yield running
    finally:
        running.stop()
