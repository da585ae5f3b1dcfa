"""How much a training process may take of a disk, and work that waits for a while where a disk has no room."""

import errno
import logging
import resource
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

from service.domain.training_errors import NoRoomForFiles

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REST_SECONDS = 1.0
PATIENCE_SECONDS = 600.0
OPEN_FILES = 1024
"""A training opens some dozens."""


def bound_files(file_bytes: int | None) -> None:
    """Let this process have only so many files open, none of which grows larger, and leave no memory image behind.

    None where it writes to a file that is everybody's, which may be larger than any of a training.
    """
    bounds = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: OPEN_FILES}
    if file_bytes is not None:
        bounds[resource.RLIMIT_FSIZE] = file_bytes
    for kind, bound in bounds.items():
        most = resource.getrlimit(kind)[1]
        held = bound if most == resource.RLIM_INFINITY else min(bound, most)
        resource.setrlimit(kind, (held, held))


def when_there_is_room(work: Callable[[], Result], on_wait: Callable[[], None]) -> Result:
    """Do the work, again and again while the disk is full; ``on_wait`` is called before each try.

    What ``on_wait`` raises ends the waiting, as does any other fault of the work.

    Raises:
        NoRoomForFiles: there was none for ten minutes.
    """
    began = time.monotonic()
    is_told = False
    while True:
        on_wait()
        try:
            return work()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise NoRoomForFiles("the files of the network", tempfile.gettempdir(), error.strerror or "") from None
            if not is_told:
                logger.warning("there is no room in %s, which is waited for: %s", tempfile.gettempdir(), error)
            is_told = True
        time.sleep(REST_SECONDS)
