"""Whose turn it is to have an upload read: a few at once, some that wait, and no more."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar

from anyio import CapacityLimiter
from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from service.api.errors import RETRY_AFTER_SECONDS
from service.domain.limits import TableLimits
from service.tables.importer import TableReader

Result = TypeVar("Result")

MAX_AT_ONCE = 2
"""Each takes a core and up to gigabytes of memory."""
EARLY_BYTES = 1 << 20
"""A smaller file has arrived before its reader would be ready."""
MAX_WAITING = 16
"""Each holds a file on the disk and a client that waits."""


class ImportQueue:
    """Runs imports in threads of their own, in the order in which their files had arrived."""

    def __init__(self, at_once: int = MAX_AT_ONCE, waiting: int = MAX_WAITING) -> None:
        self.running = CapacityLimiter(at_once)
        self._max_early = at_once
        self._early = 0
        self._max_waiting = waiting

    def check_room(self) -> None:
        """Refuse one more.

        Raises:
            HTTPException: too many wait already.
        """
        if self.running.statistics().tasks_waiting >= self._max_waiting:
            detail = f"{self._max_waiting} uploads wait to be read already; try again in a few seconds"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(RETRY_AFTER_SECONDS)})

    @asynccontextmanager
    async def reader(self, request: Request, limits: TableLimits) -> AsyncIterator[TableReader]:
        """Give a reader for one upload; for a large file it starts at once, unless others wait for theirs already."""
        length = request.headers.get("content-length", "")
        is_early = not (length.isdecimal() and int(length) < EARLY_BYTES) and self._early < self._max_early
        self._early += is_early
        try:
            with TableReader(limits) as reader:
                if is_early:
                    await run_in_threadpool(reader.start)
                yield reader
        finally:
            self._early -= is_early

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run one when its turn has come, and return what it returns.

        Raises:
            HTTPException: too many wait already.
        """
        self.check_room()
        async with self.running:
            return await _in_daemon_thread(work)


async def _in_daemon_thread(work: Callable[[], Result]) -> Result:
    """Run a function in a thread that does not keep the process from ending.

    A process that is asked to end would wait for the threads of anyio and asyncio, up to the minutes that an import may
    take; without this one's thread nothing is committed, and the process that reads the file dies with its parent.
    """
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is awaited
            future.set_exception(error)

    threading.Thread(target=run, name="import", daemon=True).start()
    return await asyncio.wrap_future(future)
