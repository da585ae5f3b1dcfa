import json

from redis import Redis

from service.storage import leases
from service.storage.database import Database
from service.sweeper import sweep
from service.task_queue import TRAIN_TASK, Doorbell, create_celery
from tests.factories import stored_job


def messages(broker_url: str) -> list[dict[str, object]]:
    with Redis.from_url(broker_url, decode_responses=True) as broker:
        found = [json.loads(text)["headers"] for text in broker.lrange("celery", 0, -1)]
        broker.flushall()
    return found


def test_message_is_the_job_id_and_nothing_else(broker_url: str) -> None:
    messages(broker_url)
    assert Doorbell(lambda: create_celery(broker_url)).ring("job-7")
    [message] = messages(broker_url)
    assert (message["task"], message["argsrepr"], message["kwargsrepr"]) == (TRAIN_TASK, "['job-7']", "{}")


def test_ringing_without_a_broker_is_no_error() -> None:
    assert not Doorbell(lambda: create_celery("redis://127.0.0.1:1/0")).ring("job-7")


def test_sweep_rings_for_a_job_that_a_stopped_worker_handed_back(database: Database, broker_url: str) -> None:
    messages(broker_url)
    stored_job(database)
    with database.write() as connection:
        leases.claim(connection, "job-1", "w")
        leases.hand_back(connection, "w")
    sweep(database, Doorbell(lambda: create_celery(broker_url)))
    [message] = messages(broker_url)
    assert message["argsrepr"] == "['job-1']"
    sweep(database, Doorbell(lambda: create_celery(broker_url)))
    assert messages(broker_url) == []
