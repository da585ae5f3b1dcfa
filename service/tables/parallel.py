"""Work on many columns at once: Arrow and numpy let other threads run while they work."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = min(8, os.cpu_count() or 1)


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return what the work gives for each item; the first error is raised."""
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        return list(pool.map(work, items))
