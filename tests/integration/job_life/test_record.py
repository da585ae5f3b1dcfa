"""What a worker stores: epochs, states and events together, and states that cannot be used."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from service.domain.jobs import EventKind
from service.storage import blobs, checkpoints, leases
from service.storage.database import Connection, Database
from tests.factories import measured, progress, saved_state
from tests.integration.job_life.hands import (
    claimed,
    do,
    epochs_of,
    everything,
    log,
    read,
    record,
    states_of,
    stored_blobs,
    trained,
)


def test_epochs_state_and_events_are_stored_together(database: Database) -> None:
    held = claimed(database)
    record(database, held, 1, 2, step=5)
    job = read(database)
    assert (job.epoch, job.best_epoch, job.fraction, job.rows_per_second) == (2, 1, 0.2, 100.0)
    assert job.latest == {"epoch": 2, "loss": 0.5, "val_loss": None}
    assert job.best == {"epoch": 1, "loss": 1.0, "val_loss": None}
    assert epochs_of(database) == [1, 2]
    assert [(event.kind, event.data) for event in log(database)][2:] == [
        (EventKind.EPOCH, {"epoch": 1, "loss": 1.0, "val_loss": None}),
        (EventKind.EPOCH, {"epoch": 2, "loss": 0.5, "val_loss": None}),
    ]
    with database.read() as connection:
        newest = checkpoints.newest(connection, "job-1")
        assert newest is not None
        assert (newest.number, newest.epoch, newest.step) == (1, 2, 5)
        assert checkpoints.content(connection, newest) == saved_state(2, 5).content


def test_progress_within_an_epoch_touches_neither_epochs_nor_log(database: Database) -> None:
    held = claimed(database)
    record(database, held, 1, step=0)
    before = everything(database)
    do(database, leases.record_progress, held, replace(progress(1), fraction=0.15, eta_seconds=1.5))
    job = read(database)
    assert (job.epoch, job.fraction, job.eta_seconds) == (1, 0.15, 1.5)
    after = everything(database)
    assert {name: rows for name, rows in after.items() if name != "jobs"} == {
        name: rows for name, rows in before.items() if name != "jobs"
    }


@pytest.mark.parametrize("where", ["in the epochs", "in the checkpoint", "in the commit"])
def test_record_that_fails_on_its_way_leaves_nothing(database: Database, where: str) -> None:
    """What the tables refuse stands for a server that dies: by then a part of it has been written."""
    held = claimed(database)
    record(database, held, 1, step=0)
    before = everything(database)
    bad: Any = None
    rate = bad if where == "in the epochs" else 0.1
    saved = saved_state(3, bad if where == "in the checkpoint" else 0)
    new = [measured(2), replace(measured(3), learning_rate=rate)]

    def work(connection: Connection) -> None:
        leases.record(connection, held, progress(3), 1, new, saved)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError if where == "in the commit" else IntegrityError):
        do(database, work)
    assert everything(database) == before
    record(database, held, 2, 3, step=0)
    assert epochs_of(database) == [1, 2, 3]


def test_record_whose_answer_was_lost_adds_nothing_twice(database: Database) -> None:
    held = claimed(database)
    for _ in range(3):
        record(database, held, 1, 2, step=4)
    assert epochs_of(database) == [1, 2]
    record(database, held, 1, 2, 3, 4, step=0)
    record(database, held, 1, 2, 3, 4)
    assert epochs_of(database) == [1, 2, 3, 4]
    assert [event.data["epoch"] for event in log(database) if event.kind is EventKind.EPOCH] == [1, 2, 3, 4]


def test_two_newest_states_are_kept_and_the_bytes_of_no_other(database: Database) -> None:
    held = claimed(database)
    before = stored_blobs(database)
    for epoch in range(1, 6):
        record(database, held, epoch, step=0)
        assert [kept.epoch for kept in states_of(database)] == [epoch - 1, epoch][-min(epoch, 2) :]
    assert [kept.number for kept in states_of(database)] == [4, 5]
    assert stored_blobs(database) - before == {kept.sha256 for kept in states_of(database)}


def test_bytes_that_another_job_needs_stay(database: Database) -> None:
    first, second = trained(database, "a", "w1"), trained(database, "b", "w2")
    assert [kept.sha256 for kept in states_of(database, "a")] == [kept.sha256 for kept in states_of(database, "b")]
    for epoch in (5, 6):
        do(database, leases.record, first, progress(epoch), 1, [measured(epoch)], saved_state(epoch, 0, b"%d" % epoch))
    newest = states_of(database, "b")[-1]
    with database.read() as connection:
        assert checkpoints.content(connection, newest) == saved_state(4, 3).content
    do(database, leases.fail, second, "training_diverged", "why")
    assert newest.sha256 not in stored_blobs(database)


def test_same_state_stored_twice_is_still_there_after_one_is_gone(database: Database) -> None:
    """A retried commit stores a state under two numbers."""
    held = claimed(database)
    for _ in range(2):
        record(database, held, 1, step=0)
    first, second = states_of(database)
    assert (first.number, second.number, first.sha256) == (1, 2, second.sha256)
    do(database, leases.go_back, held, second, "damaged")
    with database.read() as connection:
        assert checkpoints.content(connection, first) == saved_state(1).content


def test_damaged_state_is_forgotten_with_the_epochs_that_only_it_stands_for(database: Database) -> None:
    held = trained(database)
    older, newest = states_of(database)
    do(database, leases.go_back, held, newest, "the stored bytes are damaged")
    assert epochs_of(database) == [1, 2]
    assert states_of(database) == [older]
    assert (read(database).epoch, read(database).best_epoch) == (2, 1)
    last = log(database)[-1]
    assert last.kind is EventKind.CHECKPOINT_DAMAGED
    assert last.data == {"epoch": 2, "reason": "the stored bytes are damaged"}
    assert newest.sha256 not in stored_blobs(database)
    record(database, held, 3, 4, step=3)
    assert epochs_of(database) == [1, 2, 3, 4]
    assert [kept.number for kept in states_of(database)] == [1, 3], "the sound one stays until there are two newer"


def test_bytes_that_the_database_cannot_reach_are_left_behind(database: Database) -> None:
    held = trained(database)
    older, newest = states_of(database)
    do(database, leases.go_back, held, newest, "the database is damaged", keeps_bytes=True)
    assert (states_of(database), epochs_of(database)) == ([older], [1, 2])
    assert newest.sha256 in stored_blobs(database)
    do(database, blobs.delete_unused, newest.sha256)


def test_both_states_damaged_leave_the_beginning(database: Database) -> None:
    held = trained(database)
    for damaged in reversed(states_of(database)):
        do(database, leases.go_back, held, damaged, "damaged")
    job = read(database)
    assert (job.epoch, job.best_epoch, job.latest, job.best, epochs_of(database)) == (0, None, None, None, [])
    assert [event.data["epoch"] for event in log(database)[-2:]] == [2, 0]


def test_epochs_that_no_state_stands_for_are_forgotten(database: Database) -> None:
    held = claimed(database)
    record(database, held, 1, 2)
    do(database, leases.go_back, held, None, "there is none")
    assert (read(database).epoch, epochs_of(database)) == (0, [])
    assert log(database)[-1].data == {"epoch": 0, "reason": "there is none"}


def test_best_epoch_goes_where_its_epoch_goes(database: Database) -> None:
    held = claimed(database)
    do(database, leases.record, held, progress(1), 1, [measured(1)], saved_state(1))
    do(database, leases.record, held, progress(2), 2, [measured(2)], saved_state(2))
    do(database, leases.go_back, held, states_of(database)[-1], "damaged")
    assert read(database).best_epoch is None
    assert read(database).best is None
