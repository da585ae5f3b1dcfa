"""What survives the death and the sleep of workers (``docs/jobs.md``), with real processes.

The numbers are those of the promises; the others are tested in ``test_service_guarantees.py``. Whatever is drawn comes
from ``SEED``, which ``CHAOS_SEED`` changes.
"""

import json
import logging
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from service.domain.jobs import EventKind, JobState
from service.task_queue import TRAIN_TASK, create_celery
from tests.chaos.conftest import Site, Spec
from tests.chaos.promises import HEARD_SECONDS, LONG, SEED, SHORT, kill, on, spec
from tests.chaos.proxy import HOST
from tests.patience import PATIENCE_SECONDS
from tests.processes import linux_only

logger = logging.getLogger(__name__)

pytestmark = linux_only

START_SECONDS = 45
"""A job whose worker was killed goes on by itself within so long."""
LOST_SECONDS = 30
"""So much work a kill costs at most; it is less where epochs are short: 100 times what storing a checkpoint takes."""
LONGEST_LEASE_SECONDS = 55
"""A lease of more than a minute is taken for a fault of the clock."""
STOP_SECONDS = 30

LONG_WITH_DROPOUT = spec("dropout", epochs=250, dropout=0.1)
WEIGHTS: dict[str, str] = {}
"""The hash of the weights that a spec gives when nothing happens to its job."""


def undisturbed(site: Site, *specs: Spec) -> list[str]:
    """Return the hashes of the weights of these specs, trained once without any fault; equal on every database."""
    names = [json.dumps(each) for each in specs]
    running = {name: site.submit(each) for name, each in zip(names, specs, strict=True) if name not in WEIGHTS}
    for name, job_id in running.items():
        WEIGHTS[name] = site.succeeded(job_id).weights_sha256
        assert site.row(job_id)["fence"] == 1
    return [WEIGHTS[name] for name in names]


def now() -> datetime:
    """The time by the clock, which is the database's too: all run on one machine."""
    return datetime.now(UTC)


# 3 and 4. kill -9 of workers: the job goes on by itself, and ends with the weights of an undisturbed one.


def progress(site: Site, job_id: str) -> float:
    """Return which part of a training is done."""
    return float(site.row(job_id)["fraction"] or 0)


def train_through_kills(site: Site, asked: Spec, kills: tuple[str, ...], seed: str, together: threading.Barrier) -> str:
    """Train while workers are killed one after the other; return the hash of the weights.

    The first worker is killed together with that of the other job, and no other one before both jobs go on: one that is
    killed meanwhile would leave no worker for the job that still waits.
    """
    draw = random.Random(seed)
    job_id = site.submit(asked)
    stored = 0
    for number, what in enumerate(kills, 1):
        stored = site.wait_for_checkpoint(job_id, stored)
        # In epochs, not in seconds, so that a fast machine does not end the training before its worker is killed.
        moment = progress(site, job_id) + draw.uniform(0, 0.1)
        site.wait(lambda due=moment: progress(site, job_id) >= due, PATIENCE_SECONDS, "it stands still", job_id)  # type: ignore[misc]
        if number == 1:
            together.wait(PATIENCE_SECONDS)
        before, row, index = site.metrics(job_id), site.row(job_id), site.holder(job_id)
        kill(site, what, index)
        killed_at = now()
        started = site.wait_for_event(job_id, EventKind.STARTED, number + 1, 3 * START_SECONDS)
        waited = (started.created_at - killed_at).total_seconds()
        assert waited < START_SECONDS, f"the job went on {waited:.1f} s after {what} was killed"
        if number == 1:
            together.wait(PATIENCE_SECONDS)
        assert site.metrics(job_id)[: len(before)] == before, "what was stored is there, as it was"
        assert started.data["epoch"] >= len(before)
        lost = row["fraction"] * row["epochs"] - started.data["epoch"]
        seconds_each = sum(epoch["seconds"] for epoch in before) / len(before)
        assert lost * seconds_each <= LOST_SECONDS, f"{lost:.1f} epochs are lost"
        logger.info(
            "%s: %s killed after epoch %d, on again after %.1f s, %.1f epochs lost, %.3f s each",
            *(asked["model"], what, len(before), waited, lost, seconds_each),
        )
    version = site.succeeded(job_id)
    assert version.warnings == []
    assert len(site.events(job_id, EventKind.WORKER_LOST)) == len(kills)
    return version.weights_sha256


@on("postgresql")
def test_guarantee_03_and_04_killed_workers_cost_an_epoch_and_no_bit(site: Site) -> None:
    """`kill -9` of the training process, its parent or the whole worker at any moment costs at most one epoch (or 30 s
    of work, if an epoch is longer); the job goes on by itself within 45 s ... and the finished weights are bit for bit
    those of an undisturbed run on an equal environment.

    Two jobs at once, so that the leases of the first two workers run out at the same time.
    """
    plain, with_dropout = spec("long", epochs=900), spec("dropout", epochs=750, dropout=0.1)
    wanted = undisturbed(site, plain, with_dropout)
    plans = [(plain, ("parent", "trainer", "trainer")), (with_dropout, ("both", "trainer", "trainer"))]
    together = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(train_through_kills, site, *plan, f"kills {SEED} {plan}", together) for plan in plans]
        assert [each.result() for each in running] == wanted


# 5. A message delivered ten times.


@on("postgresql")
def test_guarantee_05_message_that_comes_ten_times_trains_once(site: Site) -> None:
    """A message delivered ten times, late or concurrently, never trains twice with effect and never makes two
    models."""
    site.all_ready()
    url = f"redis://{HOST}:{site.topology.broker_proxy.port}/0"
    with create_celery(url) as celery, ThreadPoolExecutor(10) as pool, site.broker() as broker:

        def send_ten(job_id: str) -> None:
            for sent in [pool.submit(celery.send_task, TRAIN_TASK, args=[job_id]) for _ in range(10)]:
                sent.result()

        with site.frozen_worker(0), site.frozen_worker(1):  # so that both have messages when they wake
            job_id = site.submit(spec("ten", epochs=20))
            send_ten(job_id)
        site.wait_for_event(job_id, EventKind.STARTED, 1)
        send_ten(job_id)
        version = site.succeeded(job_id)
        last = site.events(job_id)[-1].number
        send_ten(job_id)
        site.wait(lambda: site.no_message_waits(broker), HEARD_SECONDS, "messages lie with the broker")
        after = site.submit(SHORT)
        site.succeeded(after)
    assert site.row(job_id)["fence"] == 1
    assert site.events(job_id)[-1].number == last
    assert [started.data["attempt"] for started in site.events(job_id, EventKind.STARTED)] == [1]
    assert site.versions(job_id) == [version]


# 9. A frozen worker.


@on("postgresql")
def test_guarantee_09_frozen_worker_that_wakes_changes_nothing(site: Site) -> None:
    """A frozen worker (SIGSTOP) that wakes after its lease changes nothing.

    While it wakes, the worker that has the job now is frozen, so that whatever changes would be the old one's doing. It
    has given the old job up when it begins with another one.
    """
    [wanted] = undisturbed(site, LONG)
    job_id = site.submit(LONG)
    site.wait_for_checkpoint(job_id)
    old = site.holder(job_id)
    with site.frozen_worker(old, job_id) as thaw:
        site.end_lease_in(job_id, 0)
        started = site.wait_for_event(job_id, EventKind.STARTED, 2, 2 * START_SECONDS)
        new = site.worker_of(started)
        assert new != old
        with site.frozen_worker(new, job_id):
            site.end_lease_in(job_id, LONGEST_LEASE_SECONDS)
            before = site.traces(job_id)
            other = site.submit(SHORT)
            thaw()
            assert site.worker_of(site.wait_for_event(other, EventKind.STARTED, 1, LONGEST_LEASE_SECONDS - 5)) == old
            assert site.traces(job_id) == before
    version = site.succeeded(job_id)
    assert (version.weights_sha256, version.warnings) == (wanted, [])
    assert [event.data["attempt"] for event in site.events(job_id, EventKind.STARTED)] == [1, 2]
    site.succeeded(other)


# 12. SIGTERM to a worker.


@on("postgresql")
def test_guarantee_12_worker_that_is_asked_to_end_hands_its_job_back(site: Site) -> None:
    """SIGTERM: a worker checkpoints and hands its job back within 30 s with 0 epochs lost."""
    [wanted] = undisturbed(site, LONG_WITH_DROPOUT)
    job_id = site.submit(LONG_WITH_DROPOUT)
    site.wait_for_checkpoint(job_id)
    moment = progress(site, job_id) + 0.05
    site.wait(lambda: progress(site, job_id) >= moment, PATIENCE_SECONDS, "it stands still", job_id)
    before, index = site.row(job_id), site.holder(job_id)
    process = site.topology.parts["worker"][index].process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    asked_at, deadline = now(), time.monotonic() + STOP_SECONDS
    handed_back = site.wait_for_event(job_id, EventKind.HANDED_BACK, 1, STOP_SECONDS)
    assert (handed_back.created_at - asked_at).total_seconds() < STOP_SECONDS
    while process.returncode is None:  # whoever watches it asks for it
        assert time.monotonic() < deadline, site.story(job_id)
        time.sleep(0.05)
    assert process.returncode == 0
    assert site.row(job_id)["losses"] == 0
    started = site.wait_for_event(job_id, EventKind.STARTED, 2, START_SECONDS)
    told = [event.data["epoch"] for event in site.events(job_id, EventKind.EPOCH) if event.number < started.number]
    assert started.data["epoch"] == told[-1] >= before["epoch"]
    assert site.row(job_id)["fraction"] >= before["fraction"], "nor is a step lost"
    version = site.succeeded(job_id)
    assert (version.weights_sha256, version.warnings) == (wanted, [])
    assert site.events(job_id, EventKind.WORKER_LOST) == []


# 17. Whole models, or none.


def train_and_kill_at_the_end(site: Site, name: str, rounds: int) -> Counter[str]:
    """Train one short job after the other and kill the trainer of each about when it registers its model."""
    draw = random.Random(f"ends {SEED} {name}")
    hits: Counter[str] = Counter()
    for number in range(rounds):
        job_id = site.submit(spec(f"end-{name}", epochs=100, seed=number))
        index = site.holder(job_id)

        def is_near_its_end(job: str = job_id) -> bool:
            row = site.row(job)
            return row["state"] != JobState.RUNNING or (row["eta_seconds"] or 9) < 0.7

        site.wait(is_near_its_end, PATIENCE_SECONDS, "no end comes near", job_id)
        time.sleep(max(0.0, (site.row(job_id)["eta_seconds"] or 0) + draw.uniform(-0.3, 0.4)))
        site.topology.kill("trainer", index)
        hits["before" if site.row(job_id)["state"] != JobState.SUCCEEDED else "after"] += 1
        version = site.succeeded(job_id)
        assert version.version == number + 1
    return hits


@on("postgresql")
def test_guarantee_17_model_is_registered_whole_or_not_at_all(site: Site) -> None:
    """A model is committed whole, with its metrics and hash, or not at all.

    That every file of every model has its hash is checked after each test.
    """
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(train_and_kill_at_the_end, site, name, 2) for name in ("one", "other")]
        logger.info("killed before and after the model was registered: %s", [dict(each.result()) for each in running])
    site.check()
