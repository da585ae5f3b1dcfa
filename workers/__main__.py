"""The root of a worker: ``python -m workers`` hears the doorbell and keeps one training process.

This process never loads TensorFlow. On SIGTERM what is being trained is stored and handed back to the queue.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from concurrent.futures import wait

from service.processes import allowed_bytes
from service.settings import read_settings
from service.storage.database import Database
from service.sweeper import Sweeper
from service.task_queue import SENDER_TIMEOUT_SECONDS, TRAIN_TASK, Doorbell, create_celery
from workers.keeper import FAILED, Keeper

LAST_SECONDS = 1.0
"""So long the messenger has to end once everything else has: it may hang with its broker, and holds nothing."""


def main() -> int:
    """Run until told to end; return the exit status, which is not 0 where this should be started again."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until Celery takes the signal over
    settings = read_settings()
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"  # containers have equal process ids
    database = Database(settings.database_url)
    doorbell = Doorbell(settings.broker_url)
    keeper = Keeper(database, doorbell, name, settings.training_memory_bytes or allowed_bytes())
    keeper.start()  # first of all, for it takes seconds to load TensorFlow
    sweeper = Sweeper(database)
    is_over = threading.Event()

    def end() -> None:
        left = keeper.stop()
        sweeper.stop()
        has_ended = is_over.wait(LAST_SECONDS)  # it would hear the message that is for others
        if left is not None:
            wait([doorbell.ring(left)], 2 * SENDER_TIMEOUT_SECONDS)
        if not has_ended:
            os._exit(keeper.exit_status)

    ending = threading.Thread(target=end, name="ending")
    sweeper.start()
    from celery.signals import worker_shutting_down  # meanwhile

    worker_shutting_down.connect(lambda **_: ending.start(), weak=False)
    app = create_celery(settings.broker_url)
    app.task(keeper.offer, name=TRAIN_TASK)
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", f"--hostname={name}"]
    try:
        app.worker_main(["--quiet", "worker", "--loglevel=INFO", *options])
    finally:
        was_asked = ending.ident is not None  # else Celery has failed, which it says with no status
        if not was_asked:
            ending.start()
        is_over.set()
        ending.join()
        doorbell.close()
        database.close()
    return keeper.exit_status if was_asked else FAILED


if __name__ == "__main__":
    sys.exit(main())
