"""How long a test waits for what nobody has promised in less, and the one way in which it does."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_SECONDS = 300
"""A machine may be slow, or busy with others; whoever waits for what comes loses nothing by being patient."""

Found = TypeVar("Found")


def until(
    ask: Callable[[], Found],
    seconds: float = PATIENCE_SECONDS,
    told: Callable[[], object] = lambda: "",
    every: float = 0.02,
) -> Found:
    """Ask again and again, after ``every`` seconds, until what comes is true; return it.

    Raises:
        AssertionError: it is still not so after ``seconds``; with what ``told`` then returns.
    """
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, f"still not so after {seconds:g} s: {told()}"
        time.sleep(every)
    return found
