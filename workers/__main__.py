"""The root of a worker: ``python -m workers``. On SIGTERM it hands its job back to the queue and ends.

This process consumes messages and never loads TensorFlow; the one child that it spawns trains.
"""

import logging
import os
import socket

# Celery reads this when it is imported: SIGTERM then ends the child at once, and its job goes back to the queue below.
os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from service.settings import Settings
from service.storage import leases
from service.storage.database import Database
from service.sweeper import Sweeper
from service.task_queue import Doorbell, create_celery
from workers.tasks import NAME_VARIABLE


def main() -> None:
    """Run until told to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings()
    name = os.environ[NAME_VARIABLE] = f"{socket.gethostname()}-{os.getpid()}"
    app = create_celery(settings.broker_url)
    app.conf.include = ["workers.tasks"]
    app.conf.worker_max_memory_per_child = settings.worker_memory_bytes // 1024  # Celery counts in KiB
    database = Database(settings.database_url)
    doorbell = Doorbell(lambda: app)
    sweeper = Sweeper(database, doorbell)
    sweeper.start()
    try:
        app.worker_main(
            ["--quiet", "worker", "--loglevel=INFO", "--without-gossip", "--without-mingle", f"--hostname={name}"]
        )
    finally:
        sweeper.stop()
        doorbell.close()
        with database.write() as connection:
            leases.hand_back(connection, name)
        database.close()


if __name__ == "__main__":
    main()
