"""Work that nothing can interrupt, done in a thread so that a cancel need not wait for it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")

WAIT_SECONDS = 0.25
NAME = "background"


def in_background(work: Callable[[], Result], on_wait: Callable[[], None]) -> Result:
    """Work in a thread, while ``on_wait`` is called again and again, and once more when the work is done.

    What it raises ends the waiting, not the work.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # raised again where the result is asked for
            future.set_exception(error)

    thread = threading.Thread(target=run, name=NAME, daemon=True)
    thread.start()
    while thread.is_alive():
        on_wait()
        thread.join(WAIT_SECONDS)
    on_wait()
    return future.result()


def is_working() -> bool:
    """Whether work goes on; once its attempt has ended, nobody waits for it any more."""
    return any(thread.name == NAME for thread in threading.enumerate())
