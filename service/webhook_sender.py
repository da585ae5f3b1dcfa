"""Sends webhooks what they are to be told, in every API process; workers have no way to the internet.

Any number of processes may send: each thing is claimed in the database first. One that hangs keeps one thread of a
process, for of one webhook's things only one is sent at a time.
"""

import logging
import random
import threading
import time
from collections.abc import Collection
from importlib.metadata import version

from service.domain.webhooks import ClaimedDelivery, signed_headers, wait_after
from service.outbound import NotSent, Outbound
from service.storage import deliveries
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
AT_ONCE = 8
GONE = 410
"""By which a receiver says that it wants to hear nothing more."""
AGENT = f"selfnorm-webhooks/{version('selfnorm')}"


class WebhookSender:
    """A thread that looks every second for what is due, and one for each thing that is being sent."""

    def __init__(self, database: Database, outbound: Outbound) -> None:
        self._database = database.for_everybody()
        self._outbound = outbound
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._look = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more; what is being sent is left to its end, or to another process in a minute."""
        self._stopped = True
        self._look.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopped:
            with self._database.trouble.outlived("sender of webhooks"):
                for claimed in self._claim():
                    name = f"webhooks {claimed.number}"
                    threading.Thread(target=self._send, args=(claimed,), name=name, daemon=True).start()
            self._look.wait(POLL_SECONDS)
            self._look.clear()

    def _claim(self) -> list[ClaimedDelivery]:
        with self._lock:
            busy = set(self._busy)
        taken = claim(self._database, AT_ONCE - len(busy), busy)
        with self._lock:
            self._busy.update(claimed.webhook_id for claimed in taken)
        return taken

    def _send(self, claimed: ClaimedDelivery) -> None:
        try:
            send(self._database, self._outbound, claimed)
        except DATABASE_DOWN as error:
            logger.warning("what came of delivery %d is not stored, so it is sent again: %s", claimed.number, error)
        except Exception:  # a mistake in one must not end the sending of all others; this one is due again in a minute
            logger.exception("delivery %d failed", claimed.number)
        finally:
            with self._lock:
                self._busy.discard(claimed.webhook_id)
            self._look.set()  # there may be more for the same one


def claim(database: Database, limit: int = AT_ONCE, busy: Collection[str] = ()) -> list[ClaimedDelivery]:
    """Take some of what is due, where there is any; one thing at most for each webhook, and none for the busy ones."""
    if limit <= 0:
        return []
    with database.read() as connection:
        if not deliveries.has_due(connection):
            return []
    with database.write() as connection:
        return deliveries.claim(connection, limit, busy)


def send(database: Database, outbound: Outbound, claimed: ClaimedDelivery) -> None:
    """Send what was claimed, and store what came of it."""
    status, error = _post(outbound, claimed)
    wait = wait_after(claimed.attempt, random.uniform(-1, 1))
    with database.write() as connection:
        if error is None and status is not None:
            deliveries.mark_delivered(connection, claimed, status)
        elif status == GONE:
            deliveries.mark_failed(connection, claimed, status, "answered 410: it has gone", None)
            deliveries.disable(connection, claimed.webhook_id, "its receiver answered 410: it has gone")
        else:
            deliveries.mark_failed(connection, claimed, status, error or "", wait)
    logger.info("delivery %d, try %d: %s", claimed.number, claimed.attempt, error or f"answered {status}")


def _post(outbound: Outbound, claimed: ClaimedDelivery) -> tuple[int | None, str | None]:
    """Return the status of the answer, if there was one, and what is wrong with it, if anything is."""
    headers = {"content-type": "application/json", "user-agent": AGENT, **signed_headers(claimed, time.time())}
    try:
        status = outbound.post(claimed.url, headers, claimed.body.encode())
    except NotSent as error:
        return None, str(error)
    if 200 <= status < 300:
        return status, None
    redirects = "; redirects are not followed" if 300 <= status < 400 else ""
    return status, f"answered {status}{redirects}"
