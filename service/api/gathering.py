"""Answers rows: what one turn of the event loop has brought in one call, what takes long in threads.

Nobody waits for a batch to fill: requests that have already arrived share a call of the network, and what a row is
answered depends on no other row, to the last bit.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from anyio import CapacityLimiter
from numpy.typing import NDArray

from service.api.metering.traffic import note_model
from service.inference.rows import CheckedRows
from service.use_cases import predict
from service.use_cases.predict import Answer
from service.use_cases.serving import Served

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
OnAnswer = Callable[[NDArray[np.floating] | None], None]

LOOP_WORK = 16_000_000
"""So many multiplications (rows x parameters, half a millisecond) are done on the event loop; more go to a thread."""
MOST_THREADS = 32
SMALL_BYTES = 2**20
LARGE_AT_ONCE = 2
NONE_UNSEEN: Mapping[str, int] = {}
"""Rows with categories unknown to training have something to be said of them, and are answered one by one."""


@dataclass(slots=True)
class _Waiting:
    """Rows of one request that wait for the end of the turn."""

    encoded: NDArray[np.float64]
    on_answer: OnAnswer


class Gathering:
    """Used by one event loop; what it calls back, it calls there."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(min(MOST_THREADS, (os.cpu_count() or 1) + 1), "answering")
        self._waiting: dict[Served, list[_Waiting]] = {}
        self._large = CapacityLimiter(LARGE_AT_ONCE)

    @asynccontextmanager
    async def room_for(self, length: str | None) -> AsyncIterator[None]:
        """Let few large bodies in at a time, for each takes much memory; ``length`` is what the header announces."""
        is_small = length is not None and length.isdecimal() and int(length) <= SMALL_BYTES
        async with nullcontext() if is_small else self._large:
            yield

    def close(self) -> None:
        """Let go of the threads; what is under way in them is finished, nobody waits for it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def add(self, served: Served, encoded: NDArray[np.float64], on_answer: OnAnswer) -> None:
        """Answer encoded rows, (rows, encoded columns), that are not far outside; soon, without waiting for others.

        ``on_answer`` is called with the network's values, or with None where they are not finite or it failed.
        """
        if len(encoded) * served.version.parameters > LOOP_WORK:
            asyncio.get_running_loop().run_in_executor(self._threads, _run, served, encoded).add_done_callback(
                partial(_call_back, on_answer)
            )
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.setdefault(served, []).append(_Waiting(encoded, on_answer))

    async def answer(self, served: Served, checked: CheckedRows) -> Answer:
        """Answer checked rows with whatever is odd about them.

        Raises:
            InvalidRows: a row has no finite answer.
        """
        note_model(served)
        if checked.count * served.version.parameters > LOOP_WORK:
            return await self.in_thread(lambda: predict.answer(served, checked))
        return predict.answer(served, checked)

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Do what takes long where it holds up nobody."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for served, requests in waiting.items():
            if len(requests) == 1:
                _tell(requests[0].on_answer, _run(served, requests[0].encoded))
                continue
            values = _run(served, np.concatenate([request.encoded for request in requests]))
            start = 0
            for request in requests:
                stop = start + len(request.encoded)
                # Where one request's rows have no answer, each is asked for itself.
                mine = _run(served, request.encoded) if values is None else values[start:stop]
                _tell(request.on_answer, mine)
                start = stop


def _run(served: Served, encoded: NDArray[np.float64]) -> NDArray[np.floating] | None:
    served.used_at = time.monotonic()
    try:
        values = served.network.run(encoded)
    except Exception:  # whoever waits is told, and then finds out by itself what is wrong
        logger.exception("model %s version %d failed", served.version.name, served.version.version)
        return None
    if not np.isfinite(values).all():
        return None
    served.guard.take(encoded)
    if served.guard.has_categories:
        served.guard.take_unseen(len(encoded), NONE_UNSEEN)
    return values


def _call_back(on_answer: OnAnswer, future: "asyncio.Future[Any]") -> None:
    _tell(on_answer, None if future.cancelled() or future.exception() is not None else future.result())


def _tell(on_answer: OnAnswer, values: NDArray[np.floating] | None) -> None:
    try:
        on_answer(values)
    except Exception:  # the others of the same turn still wait for their answers
        logger.exception("an answer could not be given")
