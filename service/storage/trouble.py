"""What the threads of a process say of a database that they cannot use: once, and once more when it is well again."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from service.storage.faults import DATABASE_DOWN, DatabaseDown, is_damaged, is_full, is_unmigrated, reason
from service.storage.object_store import ObjectStoreDown

logger = logging.getLogger(__name__)


class Kind(Enum):
    """What is wrong, and what is said when it is over."""

    UNMIGRATED = (
        "the database lacks what this version needs; run: selfnorm migrate",
        "the database has what this version needs",
    )
    DAMAGED = ("the database is damaged; run: selfnorm doctor", "the database is not found damaged any more")
    FULL = ("there is no room on the database's disk", "there is room on the database's disk again")
    STORE_DOWN = ("the object store cannot be used", "the object store can be used again")
    DOWN = ("the database does not answer", "the database answers again")


class Trouble:
    """Keeps who cannot use a database, and why; threads that try again every second would say so every second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._met: dict[str, Kind] = {}
        self._said: set[Kind] = set()

    @contextmanager
    def outlived(self, who: str) -> Iterator[None]:
        """Let no error out of the block, for ``who``, a thread, is to try again; say what went wrong.

        What is wrong with the database is said once by all threads together.
        """
        try:
            yield
        except Exception as error:  # a thread that has died does nothing any more; its next try may succeed
            if not self.meet(who, error):
                logger.exception("the %s failed; it tries again", who)
        else:
            self.overcome(who)

    def meet(self, who: str, error: BaseException) -> bool:
        """Say what is wrong, unless that has been said; return whether it is the database at all."""
        kind = kind_of(error)
        if kind is None:
            return False
        with self._lock:
            # That it is down has been said by the watch over the database, which made this error.
            is_new = kind not in self._said and not isinstance(error, DatabaseDown)
            self._met[who] = kind
            if is_new:
                self._said.add(kind)
        logger.log(logging.WARNING if is_new else logging.DEBUG, "%s (the %s: %s)", kind.value[0], who, reason(error))
        return True

    def overcome(self, who: str) -> None:
        """Say what is over, for this one could use the database."""
        if who not in self._met:
            return
        with self._lock:
            self._met.pop(who, None)
            over = self._said - set(self._met.values())
            self._said -= over
        for kind in over:
            logger.warning(kind.value[1])


def kind_of(error: BaseException) -> Kind | None:
    """Return what is wrong with the database or its store; None where it is anything else."""
    if is_unmigrated(error):
        return Kind.UNMIGRATED
    if is_damaged(error):
        return Kind.DAMAGED
    if is_full(error):
        return Kind.FULL
    if isinstance(error, ObjectStoreDown):
        return Kind.STORE_DOWN
    return Kind.DOWN if isinstance(error, DATABASE_DOWN) else None
