"""Many workers and users at once."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from sqlalchemy import update

from service.domain.errors import JobDidNotFail, JobIsCancelling, JobIsFinal, JobIsNotFinal, LeaseLost, UnknownJob
from service.domain.jobs import EventKind
from service.storage import blobs, checkpoints, jobs, leases, losses, retries
from service.storage.database import Database, database_time
from service.storage.tables import jobs as table
from service.sweeper import sweep
from tests.factories import measured, progress, saved_state, stored_job
from tests.integration.job_life.hands import change, claim_next, column, do, expire, leave, read, trained


def test_concurrent_writers_wait_for_each_other(database: Database) -> None:
    stored_job(database)

    def count_up(_: int) -> None:
        with database.write() as connection:
            connection.execute(update(table).values(losses=table.c.losses + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(80)))
    assert column(database, "losses") == 80


SEED = 20240607


def by_chance(chance: random.Random, ways: Sequence[tuple[int, Callable[[], object]]]) -> None:
    """Go one of some ways, each as often as its number says."""
    [way] = chance.choices([way for _, way in ways], [weight for weight, _ in ways])
    way()


def work_by_chance(database: Database, worker: str, names: list[str]) -> None:
    chance = random.Random(f"{SEED} {worker}")
    for turn in range(20):
        held = claim_next(database, worker)
        if held is None:
            # One of them, for to take many rows at once could be a deadlock of the test's own.
            change(database, chance.choice(list(names)), claimable_at=database_time(-1))
            continue
        with suppress(LeaseLost):
            epoch = read(database, held.job_id).epoch
            for new in range(epoch + 1, epoch + chance.randint(2, 4)):
                time.sleep(0.02 * chance.random())
                # As in life, jobs share states by a retry alone.
                saved = saved_state(new, turn % 3, f"{held} {new} {chance.random()}".encode())
                do(database, leases.record, held, progress(new), 1, [measured(new)], saved)
            code = chance.choice(["worker_lost", "training_diverged"])
            ways: list[tuple[int, Callable[[], object]]] = [
                (1, partial(do, database, leases.fail, held, code, "why")),
                (1, partial(do, database, leases.succeed, held, best_epoch=1, test_metrics=None, version=1)),
                (2, partial(do, database, losses.lose, held)),
                (2, partial(do, database, leases.hand_back, worker)),
                (3, partial(leave, database, held, EventKind.HANDED_BACK)),
                (1, partial(expire, database, held.job_id)),
            ]
            by_chance(chance, ways)


def ask_by_chance(database: Database, user: str, names: list[str]) -> None:
    chance = random.Random(f"{SEED} {user}")
    for turn in range(40):
        job_id, new = chance.choice(list(names)), f"{user}-{turn}"

        def retry(job_id: str = job_id, new: str = new) -> None:
            do(database, retries.retry, job_id, new)
            names.append(new)

        def submit(new: str = new) -> None:
            names.append(stored_job(database, new))

        with suppress(JobIsFinal, JobIsCancelling, JobDidNotFail, JobIsNotFinal, UnknownJob):
            ways: list[tuple[int, Callable[[], object]]] = [
                (3, partial(do, database, jobs.request_pause, job_id)),
                (3, partial(do, database, jobs.resume, job_id)),
                (1, partial(do, database, jobs.request_cancel, job_id)),
                (1, partial(do, database, jobs.remove, job_id)),
                (1, retry),
                (1, submit),
                (2, partial(sweep, database)),
            ]
            by_chance(chance, ways)


def test_any_order_of_everything_leaves_every_job_sound(database: Database) -> None:
    """Users, workers and sweepers at once, by chance; the fixture looks at what is left."""
    names = [stored_job(database, f"job-{number}") for number in range(4)]
    with ThreadPoolExecutor(8) as pool:
        parts = [pool.submit(work_by_chance, database, f"w{number}", names) for number in range(4)]
        parts += [pool.submit(ask_by_chance, database, f"u{number}", names) for number in range(4)]
    for part in parts:
        part.result()


def test_retry_beside_the_deletion_of_the_failed_job_has_its_states_or_is_refused(database: Database) -> None:
    for number in range(10):
        name, new = f"job-{number}", f"again-{number}"
        do(database, leases.fail, trained(database, name), "worker_lost", "why")
        with ThreadPoolExecutor(2) as pool:
            retried = pool.submit(do, database, retries.retry, name, new)
            removed = pool.submit(do, database, jobs.remove, name)
        removed.result()
        if isinstance(retried.exception(), UnknownJob):
            continue
        retried.result()
        with database.read() as connection:
            newest = checkpoints.newest(connection, new)
            assert newest is not None
            assert blobs.get(connection, newest.sha256) == saved_state(4, 3).content
