"""Work that needs room on a disk for a moment: where there is none, it waits for it."""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REST_SECONDS = 1.0


def when_there_is_room(work: Callable[[], Result], on_wait: Callable[[], None]) -> Result:
    """Do the work, again and again while the disk is full; ``on_wait`` is called before each try.

    What ``on_wait`` raises ends the waiting, as does any other fault of the work.
    """
    while True:
        on_wait()
        try:
            return work()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            logger.warning("there is no room for temporary files, which is waited for: %s", error)
        time.sleep(REST_SECONDS)
