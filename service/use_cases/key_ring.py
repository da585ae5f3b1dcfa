"""The keys that open this service, in the memory of each API process: requests are let in without the database.

A thread reads them again every second, so that one that is revoked opens nothing any more within seconds, in every
process. While the database is down, the keys that were known last go on opening what they opened.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from service.domain.keys import KEY_PATTERN, PREFIX, KeyState, Scope
from service.storage import keys
from service.storage.database import Database
from service.storage.faults import DATABASE_FAULTS
from service.storage.keys import EndedKey, ValidKey

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 1.0
STORE_SECONDS = 120.0
"""How often it is stored which keys have been used."""
ABSENT_SECONDS = 2.0
"""So long nobody asks the database again for an id that it does not have."""
MOST_ABSENT = 4096
READER = "reader of keys"
"""What the log calls the thread."""
_ID = slice(len(PREFIX), len(PREFIX) + 12)
_SECRET = slice(len(PREFIX) + 13, None)


@dataclass(slots=True, eq=False)
class Access:
    """What a key opens."""

    key_id: str
    owner: str
    scopes: frozenset[Scope]
    """With all that they imply."""
    digest: bytes
    """The SHA-256 of the secret."""
    until: float | None
    """When it expires, by this process' own clock; None for one that does not."""
    is_used: bool = False
    """Whether it has opened something since that was stored last."""
    is_revoked: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it opens nothing any more; an answer that is under way may ask."""
        return self.is_revoked or (self.until is not None and time.monotonic() >= self.until)


@dataclass(frozen=True, slots=True)
class Absent:
    """An id that opens nothing, as the database had it."""

    asked_at: float
    ended: EndedKey | None
    """The key that did; None where there never was one."""


class KeyRing:
    """The keys that open something, as the database had them a moment ago."""

    def __init__(self, database: Database) -> None:
        """Read nothing yet."""
        self._database = database
        # Requests read this without a lock; whoever exchanges it holds it.
        self._held: dict[bytes, Access] = {}
        self._absent: OrderedDict[str, Absent] = OrderedDict()
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow the database."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Store which keys have been used, and end the thread."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join(timeout=10)
            self._thread = None

    def known(self, text: bytes) -> Access | None:
        """Return what a key opens, from memory and at once; None for one that opens nothing, or is not known yet."""
        access = self._held.get(text[_ID])
        if access is None or not text.startswith(b"sn_"):
            return None
        # What stands between id and secret is part of what is compared: a key has one form only.
        if not compare_digest(sha256(text[_SECRET]).digest(), access.digest) or text[15:16] != b"_":
            return None
        if access.is_over:
            return None
        access.is_used = True
        return access

    def unknown_id(self, text: bytes) -> str | None:
        """Return the id that the database is to be asked for; None where it would have nothing new to say."""
        found = KEY_PATTERN.fullmatch(text.decode("latin-1"))
        if found is None or text[_ID] in self._held:
            return None
        absent = self._absent.get(found[1])
        is_fresh = absent is not None and time.monotonic() - absent.asked_at < ABSENT_SECONDS
        return None if is_fresh else found[1]

    def ended(self, text: bytes) -> tuple[str, KeyState] | None:
        """Return the id of a key that has been met here and opens nothing any more, and why.

        Only who has the whole key is told of: a guess at the secret of an ended one is as unknown as any other.
        """
        found = KEY_PATTERN.fullmatch(text.decode("latin-1"))
        if found is None:
            return None
        held, absent = self._held.get(text[_ID]), self._absent.get(found[1])
        if held is not None and held.is_over:  # expired since the last look
            digest, state = held.digest, KeyState.EXPIRED
        elif absent is not None and absent.ended is not None:
            digest, state = bytes.fromhex(absent.ended.secret_sha256), absent.ended.state
        else:
            return None
        return (found[1], state) if compare_digest(sha256(text[_SECRET]).digest(), digest) else None

    def check(self) -> None:
        """Return at once where the database answers.

        Raises:
            DatabaseDown: it does not.
        """
        self._database.watch.check()

    def look_up(self, ids: Collection[str]) -> None:
        """Ask the database for keys that are not known here: they may have been made a moment ago.

        Raises:
            DatabaseDown and what else is wrong with the database.
        """
        now = time.monotonic()
        with self._database.read() as connection:
            found = keys.valid(connection, ids)
            absent = set(ids) - {key.id for key in found}
            ended = {key.id: key for key in keys.ended(connection, absent)} if absent else {}
        with self._changing:
            self._held = self._held | self._accesses(found)
            for key_id in absent:
                self._absent[key_id] = Absent(now, ended.get(key_id))
                self._absent.move_to_end(key_id)
            while len(self._absent) > MOST_ABSENT:
                self._absent.popitem(last=False)

    def follow(self) -> int:
        """Read every key once; return how many open something."""
        with self._changing:  # so that what has been looked up meanwhile is not lost
            with self._database.read() as connection:
                found = keys.valid(connection)
            before, self._held = self._held, self._accesses(found)
            for key_id in before.keys() - self._held.keys():
                before[key_id].is_revoked = True  # or expired, or deleted
        return len(found)

    def store_uses(self) -> None:
        """Store which keys have been used since the last time."""
        used = [access for access in self._held.values() if access.is_used]
        if not used:
            return
        for access in used:
            access.is_used = False
        try:
            with self._database.write() as connection:
                keys.note_use(connection, [access.key_id for access in used])
        except DATABASE_FAULTS:
            for access in used:
                access.is_used = True
            raise

    def _accesses(self, found: Iterable[ValidKey]) -> dict[bytes, Access]:
        """Return keys as they are held; one that was held before stays the same object."""
        now = time.monotonic()
        made = {}
        for key in found:
            key_id, digest = key.id.encode(), bytes.fromhex(key.secret_sha256)
            until = None if key.remaining_seconds is None else now + key.remaining_seconds
            held = self._held.get(key_id)
            if held is None:
                held = Access(key.id, key.owner, implied(key.scopes), digest, until)
            held.until = until
            made[key_id] = held
        return made

    def _run(self) -> None:
        self._say_how_many()
        store_at = time.monotonic() + STORE_SECONDS
        while not self._stop.wait(FOLLOW_SECONDS):
            with self._database.trouble.outlived(READER):  # without this thread no key would ever be revoked
                self.follow()
                if time.monotonic() >= store_at:
                    store_at = time.monotonic() + STORE_SECONDS
                    self.store_uses()
        with suppress(*DATABASE_FAULTS):
            self.store_uses()

    def _say_how_many(self) -> None:
        with self._database.trouble.outlived(READER):
            if not self.follow():
                logger.warning("there is no key yet, so nobody is let in; make one: selfnorm keys create NAME")


def implied(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Return scopes with all that they imply."""
    held = frozenset(scopes)
    return frozenset(Scope) if Scope.ADMIN in held else held
