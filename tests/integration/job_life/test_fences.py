"""A worker that wakes late changes nothing."""

from collections.abc import Callable

import pytest

from service.domain.diagnostics import Diagnosis, Histograms
from service.domain.errors import LeaseLost
from service.domain.jobs import Checkpoint, Claim, EventKind
from service.domain.owners import DEFAULT_OWNER
from service.domain.verdict import Verdict
from service.storage import jobs, leases, losses
from service.storage.database import Connection, Database, database_time
from tests.factories import measured, progress, saved_state
from tests.integration.job_life.hands import change, claimed, do, everything, leave, lose, states_of, trained

NOTHING_SEEN = Diagnosis(6, (), Histograms((), ()))
LEFT = Verdict("left", "left the domain at epoch 6", 6, 1, "tau rose to 3")


def harmful(old: Claim) -> dict[str, Callable[[Connection], object]]:
    """Every write that a worker makes."""
    record_all = [measured(epoch) for epoch in range(1, 7)]
    return {
        "word": lambda connection: leases.word(connection, old),
        "heartbeat": lambda connection: leases.heartbeat(connection, old),
        "progress": lambda connection: leases.record_progress(connection, old, progress(6)),
        "epochs": lambda connection: leases.record(connection, old, progress(6), 1, record_all),
        "state": lambda connection: leases.record(connection, old, progress(6), 1, record_all, saved_state(6)),
        "looks": lambda connection: leases.record_looks(connection, old, [NOTHING_SEEN], [LEFT]),
        "go back": lambda connection: leases.go_back(connection, old, Checkpoint(2, "0" * 64, 4, 3), "damaged"),
        "split": lambda connection: leases.record_split(connection, old, b"another split"),
        "succeed": lambda connection: leases.succeed(connection, old, best_epoch=1, test_metrics=None, version=1),
        "fail": lambda connection: leases.fail(connection, old, "x", "y"),
        "fail for a while": lambda connection: leases.fail(connection, old, "worker_lost", "y"),
        "leave": lambda connection: leases.leave(connection, old),
        "hand back": lambda connection: leases.leave(connection, old, EventKind.HANDED_BACK),
        "lose": lambda connection: losses.lose(connection, old),
        "stall": lambda connection: losses.lose(connection, old, EventKind.STALLED),
    }


def lost_and_claimed(database: Database, held: Claim) -> None:
    lose(database)
    claimed(database, worker="w2")


def cancelled_and_lost(database: Database, held: Claim) -> None:
    do(database, jobs.request_cancel, "job-1")
    lose(database)


def paused_and_left(database: Database, held: Claim) -> None:
    do(database, jobs.request_pause, "job-1")
    leave(database, held)


def cancelling_elsewhere(database: Database, held: Claim) -> None:
    lost_and_claimed(database, held)
    do(database, jobs.request_cancel, "job-1")


def pausing_here_again(database: Database, held: Claim) -> None:
    """The same worker has it under a new fence."""
    lose(database)
    claimed(database)
    do(database, jobs.request_pause, "job-1")


def failed_here(database: Database, held: Claim) -> None:
    do(database, leases.fail, held, "worker_lost", "why")


def succeeded_here(database: Database, held: Claim) -> None:
    do(database, leases.succeed, held, best_epoch=1, test_metrics=None, version=1)


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda database, _held: lose(database),
        lost_and_claimed,
        cancelling_elsewhere,
        pausing_here_again,
        paused_and_left,
        cancelled_and_lost,
        failed_here,
        succeeded_here,
    ],
    ids=[
        "waits again",
        "runs elsewhere",
        "is cancelled elsewhere",
        "is paused under a new fence",
        "paused",
        "cancelled",
        "failed",
        "succeeded",
    ],
)
def test_worker_that_wakes_late_changes_nothing(
    database: Database, meanwhile: Callable[[Database, Claim], None]
) -> None:
    old = trained(database)
    do(database, leases.record_split, old, b"a split")
    meanwhile(database, old)
    before = everything(database)
    for name, write in harmful(old).items():
        with pytest.raises(LeaseLost):
            do(database, write)
        assert everything(database) == before, name


def test_every_write_of_the_list_is_one_that_changes_something(database: Database) -> None:
    """Else the test above would prove nothing."""
    for name in harmful(Claim("job-1", 1, "w1", DEFAULT_OWNER)):
        held = trained(database, name)
        do(database, leases.record_split, held, b"a split")
        change(database, name, lease_until=database_time(1))
        before = everything(database, name)
        if name == "go back":
            do(database, leases.go_back, held, states_of(database, name)[-1], "damaged")
        else:
            do(database, harmful(held)[name])
        assert (everything(database, name) == before) == (name == "word"), name


def test_claim_of_another_job_opens_nothing(database: Database) -> None:
    trained(database)
    before = everything(database)
    for name, write in harmful(Claim("job-2", 1, "w1", DEFAULT_OWNER)).items():
        with pytest.raises(LeaseLost):
            do(database, write)
        assert everything(database) == before, name
