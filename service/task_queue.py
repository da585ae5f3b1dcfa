"""The Celery app and the doorbell: a message is a job id, never data, and losing one loses nothing."""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)

TRAIN_TASK = "selfnorm.train"
CONSUMER_TIMEOUT_SECONDS = 30.0
SENDER_TIMEOUT_SECONDS = 2.0
"""So long somebody waits for a broker's answer: a worker, which listens, and who only has something to say."""
MOST_UNSENT = 8
QUIET_SECONDS = 3.0
"""After a broker did not answer, so long nothing is tried."""


def create_celery(broker_url: str, timeout_seconds: float = CONSUMER_TIMEOUT_SECONDS) -> "Celery":
    """Return the Celery app; nothing is connected yet.

    The database is the truth about jobs, so there is no result backend, and a message is acknowledged when it
    arrives. A worker takes one message at a time and hands it to its training process; while that is busy, the others
    stay with the broker.
    """
    from celery import Celery  # a fifth of an API process' start, which only the first job needs

    app = Celery("selfnorm", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        worker_pool="solo",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        broker_transport_options={
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
    )
    return app


class Doorbell:
    """Tells the workers that a job waits; best effort, for they also look by themselves.

    One thread does all the sending. Celery cannot be imported from several threads at once (the second finds no
    ``Celery`` in it), and a broker that does not answer must not hold up requests.
    """

    def __init__(self, broker_url: str) -> None:
        """Connect nothing yet."""
        self._app = cache(partial(create_celery, broker_url, SENDER_TIMEOUT_SECONDS))
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="doorbell")
        self._quiet_until = 0.0
        self._unsent = 0

    def ring(self, job_id: str) -> "Future[bool]":
        """Send the id of a queued job soon; the result says whether the broker took it.

        While many wait to be sent, more are not: a worker that has been woken goes on until no job waits.
        """
        if self._unsent >= MOST_UNSENT:
            refused: Future[bool] = Future()
            refused.set_result(False)
            return refused
        self._unsent += 1
        sending = self._sender.submit(self._send, job_id)
        sending.add_done_callback(self._count_down)
        return sending

    def waiting(self) -> int:
        """Return how many messages no worker has taken; 0 where the broker does not answer."""
        return self._sender.submit(self._count).result()

    def close(self) -> None:
        """End the thread; for what it has not sent yet, workers look by themselves."""
        self._sender.shutdown(cancel_futures=True)

    def _count_down(self, _: "Future[bool]") -> None:
        self._unsent -= 1

    def _send(self, job_id: str) -> bool:
        if time.monotonic() < self._quiet_until:
            return False
        try:
            self._app().send_task(TRAIN_TASK, args=[job_id], retry=False)
        except Exception as error:  # noqa: BLE001  # nobody waits for the result, so it must not be lost in silence
            logger.warning("the broker did not take the message for job %s: %s", job_id, error)
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            return False
        return True

    def _count(self) -> int:
        try:
            with self._app().connection_for_write() as connection:
                queue = connection.default_channel.queue_declare(self._app().conf.task_default_queue, passive=True)
                return int(queue.message_count)
        except Exception:  # noqa: BLE001  # redis-py, kombu and the system each have their own for a broker that is away
            return 0
