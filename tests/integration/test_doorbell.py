import json
import socket
import subprocess
import sys
import time

from redis import Redis

from service.task_queue import TRAIN_TASK, Doorbell
from tests.patience import PATIENCE_SECONDS
from tests.stopwatch import stopwatch


def messages(broker_url: str) -> list[dict[str, object]]:
    with Redis.from_url(broker_url, decode_responses=True) as broker:
        found = [json.loads(text)["headers"] for text in broker.lrange("celery", 0, -1)]
        broker.flushall()
    return found


def test_message_is_the_job_id_and_nothing_else(broker_url: str) -> None:
    messages(broker_url)
    assert Doorbell(broker_url).ring("job-7").result()
    [message] = messages(broker_url)
    assert (message["task"], message["argsrepr"], message["kwargsrepr"]) == (TRAIN_TASK, "['job-7']", "{}")


def test_ringing_without_a_broker_is_no_error() -> None:
    doorbell = Doorbell("redis://127.0.0.1:1/0")
    assert not doorbell.ring("job-7").result()
    with stopwatch() as watch:
        asked = time.monotonic()
        assert not any(doorbell.ring(f"job-{number}").result() for number in range(100))
        assert watch.elapsed(asked) < 1, "a broker that just failed is left alone for a while"
    doorbell.close()


FRESH_PROCESS = """
import sys, threading
from service.task_queue import Doorbell, create_celery
doorbell = Doorbell(sys.argv[1])
threads = [threading.Thread(target=lambda number=number: doorbell.ring(str(number)).result()) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert doorbell.waiting() == 8, doorbell.waiting()
doorbell.close()
"""


def test_first_messages_of_a_process_may_come_at_once(broker_url: str) -> None:
    messages(broker_url)
    subprocess.run([sys.executable, "-c", FRESH_PROCESS, broker_url], check=True, timeout=PATIENCE_SECONDS)
    assert {message["argsrepr"] for message in messages(broker_url)} == {f"['{number}']" for number in range(8)}


def test_broker_that_never_answers_holds_nobody_up_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        doorbell = Doorbell(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        asked = time.monotonic()
        assert doorbell.waiting() == 0
        assert not doorbell.ring("job-7").result()
        doorbell.close()
        assert time.monotonic() - asked < 25, "it waits as long as a worker does, who listens"
