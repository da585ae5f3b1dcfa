"""Work on many columns, or pieces of rows, at once: Arrow, numpy and ONNX Runtime let other threads run meanwhile."""

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = min(8, os.cpu_count() or 1)


def in_parallel(work: Callable[[Item], Result], items: Collection[Item]) -> list[Result]:
    """Return what the work gives for each item; the first error is raised. A single one is done here."""
    if len(items) == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        return list(pool.map(work, items))
