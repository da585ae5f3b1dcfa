"""Tells what a key opens: from memory where it is known, else by asking the database once for all who wait.

Whoever shows wrong ones is counted, and after too many of them not asked for; however the key comes.
"""

import asyncio
import time

from fastapi.concurrency import run_in_threadpool
from starlette.types import Scope

from service.api.gate.credentials import address_of
from service.api.gate.rates import Rates
from service.api.metering.refusals import KeyFault, authentication_failed
from service.domain.key_errors import InvalidKey
from service.domain.keys import KEY_PATTERN
from service.domain.quotas import TooManyWrongKeys
from service.storage.faults import DatabaseDown
from service.use_cases.key_ring import Access, KeyRing

MOST_WAITING = 1000
"""So many requests with unknown keys may wait for the database at once."""
LOOK_PAUSE_SECONDS = 0.05
"""So far apart are two questions for unknown keys, each for all that wait: guessing does not wear the database out."""


class KeyCheck:
    """What keys open, for one event loop."""

    def __init__(self, ring: KeyRing, strangers: Rates | None = None) -> None:
        """``strangers`` counts wrong keys by address."""
        self.ring = ring
        self._strangers = strangers
        self._wanted: set[str] = set()
        self._looking = asyncio.Lock()
        self._looked_at = 0.0

    async def admit(self, token: bytes | None, scope: Scope) -> Access:
        """Return what the key of a request opens, and count it where it is wrong; None is one that cannot be read.

        Raises:
            InvalidKey: it opens nothing.
            TooManyWrongKeys: it is not known, and too many wrong ones came from there.
            DatabaseDown and what else is wrong with the database: as ``access`` does.
        """
        access = None if token is None else self.ring.known(token)
        if access is None and self._strangers and not self._strangers.left(address_of(scope)):
            raise TooManyWrongKeys(self._strangers.rate, self._strangers.resets_in())
        if access is None and token is not None:
            access = await self.access(token)
        if access is not None:
            return access
        if self._strangers:
            self._strangers.take(address_of(scope))
        authentication_failed(self._fault(token or b"", scope))
        raise InvalidKey

    def _fault(self, token: bytes, scope: Scope) -> KeyFault:
        """Return what is wrong with a key; only the log is told the id of one that has ended."""
        ended = self.ring.ended(token)
        if ended is not None:
            scope.setdefault("state", {})["key_id"], state = ended
            return KeyFault(state.value)
        return KeyFault.UNKNOWN if KEY_PATTERN.fullmatch(token.decode("latin-1")) else KeyFault.MALFORMED

    async def access(self, token: bytes) -> Access | None:
        """Return what a key opens; None for one that opens nothing.

        Raises:
            DatabaseDown and what else is wrong with the database: it would have to be asked, and does not answer.
        """
        return self.ring.known(token) or await self._look_up(token)

    async def _look_up(self, token: bytes) -> Access | None:
        """Ask the database for a key that is not known: it may have been made a moment ago."""
        key_id = self.ring.unknown_id(token)
        if key_id is None:
            return None
        self.ring.check()
        if len(self._wanted) >= MOST_WAITING:
            raise DatabaseDown("too many unknown keys wait to be looked up")
        self._wanted.add(key_id)
        async with self._looking:
            if self.ring.unknown_id(token) is not None:  # else it has been asked for together with others
                await asyncio.sleep(self._looked_at + LOOK_PAUSE_SECONDS - time.monotonic())
                wanted, self._wanted = self._wanted | {key_id}, set()
                self._looked_at = time.monotonic()
                await run_in_threadpool(self.ring.look_up, wanted)
        return self.ring.known(token)
