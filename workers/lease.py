"""The claim on a job while an attempt runs: renewed from a thread, and patient with a database that is down."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from service.domain.errors import LeaseLost
from service.domain.jobs import Beat, Claim, EventKind
from service.storage import leases, losses
from service.storage.database import Connection, Database
from service.storage.faults import DATABASE_DOWN, is_awaited, is_damaged

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

RETRY_SECONDS = 1.0
GIVE_UP_SECONDS = 60.0
RENEWED_SECONDS = 3 * leases.HEARTBEAT_SECONDS
"""A lease that was not renewed for so long shows that the database is down."""
LOOK_SECONDS = 1.0
"""So often somebody looks whether a cancel or a pause was asked for.

How long a training has been silent is counted in looks, not in time: while this process was frozen, or the database
hung, nobody could look, and the training may have waited for the same.
"""
CANCEL_LOOKS = 2
"""A training that was told to stop and has not heard it after so many looks is cancelled over its head."""
LOST_LOOKS = 30
"""The same for one whose job another worker has."""
STALL_LOOKS = 120
STALL_FACTOR = 10
"""A training that shows no sign of life for so many looks, or for so many times as long as usual, hangs."""
WAIT_LOOKS = 1800
"""So does one that only waits for so many looks, for a table that is read or downloaded or a network that is compiled.

Half an hour is what a download of 170 MB takes at 100 kB a second; a network of 128 layers compiles for half a minute.
"""


class Cancelled(Exception):  # no error: somebody asked for it
    """Somebody asked that this job ends without a model."""


class Leaving(Exception):  # no error: somebody asked for it
    """The job leaves this worker and goes on later: somebody asked to pause it, or the worker is to end."""

    def __init__(self, kind: EventKind | None) -> None:
        self.kind = kind
        super().__init__("the job leaves this worker")


class Lease:
    """Renews the claim from a thread, brings word of what was asked, and gives up a training that does not hear it.

    ``stopping`` says that this worker is to end. ``abandon`` ends the process, once the job is in other hands; where
    there is none, a training that hears nothing is waited for. ``is_waiting`` says whether the training waits for
    something that nothing can interrupt and that may hang: to say so again and again is no sign of life.
    """

    def __init__(
        self,
        database: Database,
        claim: Claim,
        stopping: threading.Event | None = None,
        abandon: Callable[[str], None] | None = None,
        *,
        is_waiting: Callable[[], bool] = lambda: False,
        look_seconds: float = LOOK_SECONDS,
        lost_looks: int = LOST_LOOKS,
        stall_looks: int = STALL_LOOKS,
        wait_looks: int = WAIT_LOOKS,
    ) -> None:
        self.claim = claim
        self.renewed_at = time.monotonic()
        self._renew_at = 0.0
        self._database = database
        self._stopping = stopping or threading.Event()
        self._abandon = abandon
        self._is_waiting = is_waiting
        self._look_seconds = look_seconds
        self._lost_looks = lost_looks
        self._stall_looks = stall_looks
        self._wait_looks = wait_looks
        self._over = threading.Event()
        self._word: Cancelled | Leaving | LeaseLost | None = None
        self._is_heard = False
        self._waits = False
        self._signs = 0
        self._looks = self._silent_looks = self._unheard_looks = 0
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        """Begin to renew."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop renewing."""
        self._over.set()
        self._thread.join()

    def show_life(self) -> None:
        """Say that the training moves, or waits for something that will come."""
        self._signs += 1
        self._silent_looks = 0

    def check(self) -> None:
        """Return at once while the job may go on; a sign of life, unless the training only waits.

        Raises:
            Cancelled: somebody asked to cancel.
            Leaving: somebody asked to pause, or this worker is to end.
            LeaseLost: another worker owns the job.
        """
        waits = self._is_waiting()
        if not waits:
            self.show_life()
        self._waits = waits  # last, for the silence of a wait that is over is not to be judged as any other
        if self._word is None and self._stopping.is_set():
            self._say(Leaving(EventKind.HANDED_BACK))  # at once: nobody has to be asked whether this worker ends
        if self._word is not None:
            self._is_heard = True
            raise self._word

    def _renew(self) -> None:
        while not self._over.wait(self._look_seconds):
            try:
                if self._hears():
                    self._judge()
            except Exception:  # without this thread the lease would end, and the training with it
                logger.exception("job %s: the lease could not be renewed; trying again", self.claim.job_id)

    def _hears(self) -> bool:
        """Renew the lease where it is time, and take what was asked; return whether the database answered."""
        now = time.monotonic()
        try:
            if now >= self._renew_at:
                with self._database.write() as connection:
                    beat = leases.heartbeat(connection, self.claim)
                self.renewed_at, self._renew_at = now, now + leases.HEARTBEAT_SECONDS
            else:
                with self._database.read() as connection:
                    beat = leases.word(connection, self.claim)
        except LeaseLost as error:
            self._say(error)
        except DATABASE_DOWN as error:
            logger.warning("the database does not answer the heartbeat: %s", error)
            return False
        else:
            self._take(beat)
        return True

    def _take(self, beat: Beat) -> None:
        if beat.cancel_requested:
            self._say(Cancelled())
        elif beat.pause_requested:
            self._say(Leaving(None))
        elif self._stopping.is_set():
            self._say(Leaving(EventKind.HANDED_BACK))

    def _say(self, word: Cancelled | Leaving | LeaseLost) -> None:
        """Pass a word on; a later one counts more, and is to be heard anew."""
        if type(word) is not type(self._word):
            self._word, self._is_heard, self._unheard_looks = word, False, 0

    def _judge(self) -> None:
        """Give up a training that neither hears nor moves."""
        if self._abandon is None or self._over.is_set():
            return
        self._looks, self._silent_looks = self._looks + (0 if self._waits else 1), self._silent_looks + 1
        self._unheard_looks = 0 if self._word is None or self._is_heard else self._unheard_looks + 1
        if isinstance(self._word, Cancelled) and self._unheard_looks > CANCEL_LOOKS:
            self._give_up("was cancelled while nothing could interrupt it", leases.leave)
        elif isinstance(self._word, LeaseLost) and self._unheard_looks > self._lost_looks:
            self._give_up("belongs to another worker, and nothing could interrupt it here", leases.leave)
        elif self._silent_looks > self._most_looks():
            lose = partial(losses.lose, kind=EventKind.STALLED)
            self._give_up(f"stood still for {self._silent_looks * self._look_seconds:.0f} s", lose)

    def _most_looks(self) -> float:
        """Return for how many looks the training may be silent now."""
        return self._wait_looks if self._waits else max(self._stall_looks, STALL_FACTOR * self._usual_looks())

    def _usual_looks(self) -> float:
        """Return how many looks there were from one sign of life to the next.

        The silence that goes on now does not count, nor does waiting.
        """
        return (self._looks - self._silent_looks) / max(self._signs, 1)

    def _give_up(self, reason: str, leave: Callable[[Connection, Claim], object]) -> None:
        """Put the job into other hands, if it is not there already, and end the process."""
        assert self._abandon is not None
        try:
            with self._database.write() as connection:
                leave(connection, self.claim)
        except LeaseLost:
            pass
        except DATABASE_DOWN as error:
            logger.warning("job %s %s, but the database does not answer: %s", self.claim.job_id, reason, error)
            return
        self._abandon(f"job {self.claim.job_id} {reason}")


def patiently(
    session: Callable[[], AbstractContextManager[Connection]],
    lease: Lease,
    work: Callable[[Connection], Result],
    *,
    is_last: bool = False,
) -> Result:
    """Work in a session, again and again while the database, or its object store, is down or full.

    A training waits for it and goes on.

    It gives up when the lease is renewed all the while and there is room: then the database is not down, and this work
    cannot succeed. It gives up at once where the database is damaged, which no waiting mends.
    """
    began = time.monotonic()
    while True:
        tried = time.monotonic()
        try:
            with session() as connection:
                return work(connection)
        except DATABASE_DOWN as error:
            if is_damaged(error):
                raise
            if is_awaited(error) or tried - lease.renewed_at > RENEWED_SECONDS:
                began = time.monotonic()
            elif lease.renewed_at - began > GIVE_UP_SECONDS:
                raise
            logger.warning("the database does not answer, trying again: %s", error)
            time.sleep(RETRY_SECONDS)
            lease.show_life()
            if not is_last:
                lease.check()
