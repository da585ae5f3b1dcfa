"""The checker finds what is planted, and nothing where nothing is: one that cannot fail would be worthless."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, delete, insert, update

from service.domain.jobs import EventKind
from service.storage import tables
from tests.chaos import snapshot
from tests.chaos.checker import INVARIANTS, Run, Twin, check, twins
from tests.chaos.history import Call, History, Sighting

JOBS = tables.jobs.c
KEYS = {"done": "key-1", "cancelled": "key-2", "failed": "key-3", "paused": "key-4"}
STATES = {"done": "succeeded", "cancelled": "cancelled", "failed": "failed", "paused": "paused"}
LOGS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "done": [
        ("submitted", {}),
        ("started", {"attempt": 1, "epoch": 0}),
        ("epoch", {"epoch": 1}),
        ("epoch", {"epoch": 2}),
        ("worker_lost", {"attempt": 1}),
        ("started", {"attempt": 2, "epoch": 2}),
        ("epoch", {"epoch": 3}),
        ("succeeded", {"version": 1}),
    ],
    "cancelled": [("submitted", {}), ("started", {"attempt": 1, "epoch": 0}), ("cancelled", {})],
    "failed": [
        ("submitted", {}),
        ("started", {"attempt": 1, "epoch": 0}),
        ("epoch", {"epoch": 1}),
        ("epoch", {"epoch": 2}),
        ("checkpoint_damaged", {"epoch": 1}),
        ("epoch", {"epoch": 2}),
        ("failed", {"code": "worker_lost"}),
    ],
    "paused": [("submitted", {}), ("paused", {})],
}
CODES = frozenset({"worker_lost"})

Plant = Callable[[Connection, History], object]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


WORDS = ("weights", "graph", "keras", "table", "split", "state")
WEIGHTS, GRAPH, KERAS, TABLE, SPLIT, STATE = (word.encode() for word in WORDS)


def store(connection: Connection, content: bytes) -> str:
    name = sha256(content)
    connection.execute(insert(tables.blobs).values(sha256=name, size_bytes=len(content)))
    pieces = [content[:2], content[2:]]
    connection.execute(
        insert(tables.blob_parts), [{"sha256": name, "part": part, "data": data} for part, data in enumerate(pieces)]
    )
    return name


def add_job(connection: Connection, job_id: str, key: str, state: str, **values: Any) -> None:
    plain = {"spec": {}, "dataset_id": "iris", "model_name": "iris", "tags": ["first", key], "epochs": 3}
    connection.execute(insert(tables.jobs).values(id=job_id, state=state, **{**plain, **values}))


def add_version(connection: Connection, version: int, job_id: str, **values: Any) -> None:
    empty: dict[str, Any] = {name: {} for name in ("spec", "inputs", "outputs", "metrics", "parity", "environment")}
    files = {"weights_sha256": sha256(WEIGHTS), "onnx_sha256": sha256(GRAPH), "keras_sha256": sha256(KERAS)}
    row = {**empty, **files, "name": "iris", "version": version, "job_id": job_id, "parameters": 1, **values}
    connection.execute(insert(tables.model_versions).values(**row))


def add_epochs(connection: Connection, job_id: str, *numbers: int) -> None:
    plain = {"metrics": {"loss": 0.1}, "learning_rate": 0.1, "seconds": 1.0}
    rows = [{"job_id": job_id, "epoch": number, **plain} for number in numbers]
    connection.execute(insert(tables.epochs), rows)


def add_event(connection: Connection, job_id: str, kind: str, number: int | None = None, **data: Any) -> None:
    """Add an event after the last one, and count it."""
    change = (
        update(tables.jobs).where(JOBS.id == job_id).values(last_event=JOBS.last_event + 1).returning(JOBS.last_event)
    )
    counted = connection.execute(change).scalar_one()
    row = {"job_id": job_id, "number": number or counted, "kind": kind, "data": data}
    connection.execute(insert(tables.events).values(**row))


def set_job(connection: Connection, job_id: str, **values: Any) -> None:
    connection.execute(update(tables.jobs).where(JOBS.id == job_id).values(**values))


def call(path: str = "/jobs", **values: Any) -> Call:
    return Call(**{"began": 1.0, "ended": 2.0, "method": "POST", "path": path, "status": 202, **values})


def told(job_id: str, state: str, attempts: int = 0, at: float = 3.0) -> Call:
    answer = {"id": job_id, "state": state, "attempts": attempts, "epoch": 0}
    return call(f"/jobs/{job_id}", began=at, ended=at + 0.5, method="GET", status=200, answer=answer)


def healthy(connection: Connection) -> History:
    """Store what a good run leaves, and return its history."""
    history = History(specs=dict.fromkeys(KEYS.values(), "small"), paused={"paused"})
    for content in (WEIGHTS, GRAPH, KERAS, TABLE, SPLIT, STATE):
        store(connection, content)
    connection.execute(
        insert(tables.datasets).values(
            id="d1", name="t", builtin=False, rows=1, columns=[], size_bytes=5, sha256=sha256(TABLE)
        )
    )
    for job_id, key in KEYS.items():
        add_job(connection, job_id, key, STATES[job_id])
        for kind, data in LOGS[job_id]:
            add_event(connection, job_id, kind, **data)
        answer = {"id": job_id, "state": "queued", "attempts": 0, "epoch": 0}
        history.add(call(key=key, error="cut", status=None))
        history.add(call(key=key, answer=answer))
        history.add(call(key=key, answer=answer, is_replayed=True, began=9.0, ended=9.5))
        history.add(told(job_id, STATES[job_id], attempts=1))
    set_job(connection, "done", fence=2, epoch=3, model_version=1, split_sha256=sha256(SPLIT))
    set_job(connection, "cancelled", fence=1)
    set_job(connection, "failed", fence=1, epoch=2, error_code="worker_lost", error_detail="why")
    add_epochs(connection, "done", 1, 2, 3)
    add_epochs(connection, "failed", 1, 2)
    connection.execute(
        insert(tables.checkpoints).values(job_id="failed", number=1, sha256=sha256(STATE), epoch=1, step=0)
    )
    connection.execute(insert(tables.models).values(name="iris", newest_version=1))
    add_version(connection, 1, "done")
    history.add(call(status=503, retry_after="1", key="key-1"))
    history.see([Sighting(1.0, "done", "running", 1, 1, 3), Sighting(2.0, "done", "succeeded", 2, 3, 8)])
    return history


def found(plant: Plant | None = None, weights: str = sha256(WEIGHTS)) -> set[str]:
    """Return the names of the invariants that a run breaks."""
    return {violation.invariant for violation in check(run_of(plant, weights))}


def run_of(plant: Plant | None = None, weights: str = sha256(WEIGHTS)) -> Run:
    engine = create_engine("sqlite://")  # without foreign keys, so that anything can be planted
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        history = healthy(connection)
        curve = snapshot.read(connection).jobs["done"].curve
        if plant is not None:
            plant(connection, history)
        stored = snapshot.read(connection)
    engine.dispose()
    return Run(stored, history, {"small": Twin(weights, curve)}, CODES)


def test_good_run_breaks_nothing() -> None:
    assert check(run_of()) == []
    [(version, twin)] = twins(run_of())
    assert (version.job_id, twin.weights_sha256) == ("done", sha256(WEIGHTS))


def lose_job(connection: Connection, _: History) -> None:
    for table in (tables.events, tables.epochs, tables.checkpoints):
        connection.execute(delete(table).where(table.c.job_id == "failed"))
    connection.execute(delete(tables.jobs).where(JOBS.id == "failed"))


def answer_another_job(_: Connection, history: History) -> None:
    history.calls.append(call(key="key-1", answer={"id": "cancelled", "state": "queued", "attempts": 0, "epoch": 0}))


def make_two_jobs(connection: Connection, _: History) -> None:
    add_job(connection, "twice", "key-1", "cancelled")
    add_event(connection, "twice", "submitted")
    add_event(connection, "twice", "cancelled")


def damage_part(connection: Connection, _: History, data: bytes = b"xx") -> None:
    parts = tables.blob_parts.c
    which = (parts.sha256 == sha256(GRAPH)) & (parts.part == 0)
    connection.execute(update(tables.blob_parts).where(which).values(data=data))


def lose_file(connection: Connection, _: History, content: bytes = GRAPH) -> None:
    connection.execute(delete(tables.blob_parts).where(tables.blob_parts.c.sha256 == sha256(content)))
    connection.execute(delete(tables.blobs).where(tables.blobs.c.sha256 == sha256(content)))


def forget_epoch(connection: Connection, _: History) -> None:
    connection.execute(delete(tables.epochs).where(tables.epochs.c.job_id == "done", tables.epochs.c.epoch == 2))


def change_event(which_number: int, **values: Any) -> Plant:
    events = tables.events.c
    which = (events.job_id == "done") & (events.number == which_number)
    return lambda connection, _: connection.execute(update(tables.events).where(which).values(**values))


def see(*sightings: Sighting) -> Plant:
    return lambda _, history: history.see(list(sightings))


def keep_state(connection: Connection, _: History) -> None:
    connection.execute(
        insert(tables.checkpoints).values(job_id="done", number=1, sha256=sha256(STATE), epoch=1, step=0)
    )


def measure_otherwise(connection: Connection, _: History) -> None:
    which = (tables.epochs.c.job_id == "done") & (tables.epochs.c.epoch == 2)
    connection.execute(update(tables.epochs).where(which).values(metrics={"loss": 0.1 + 2**-55}))


PLANTED: list[tuple[str, Plant]] = [
    ("nothing_accepted_is_lost", lose_job),
    ("nothing_accepted_is_lost", answer_another_job),
    ("nothing_accepted_is_lost", lambda c, _: set_job(c, "done", tags=["first"])),
    ("one_job_for_each_key", make_two_jobs),
    ("one_job_for_each_key", answer_another_job),
    ("every_job_has_ended", lambda c, _: set_job(c, "done", state="running")),
    ("every_job_has_ended", lambda c, _: set_job(c, "done", state="queued")),
    ("every_job_has_ended", lambda _, history: history.paused.clear()),
    ("no_job_failed", lambda c, _: set_job(c, "failed", error_code="internal_error")),
    ("no_job_failed", lambda c, _: set_job(c, "failed", error_code=None)),
    ("no_job_failed", lambda c, _: set_job(c, "done", error_code="worker_lost")),
    ("one_model_for_each_success", lambda c, _: add_version(c, 2, "failed")),
    ("one_model_for_each_success", lambda c, _: add_version(c, 2, "nobody")),
    ("one_model_for_each_success", lambda c, _: c.execute(delete(tables.model_versions))),
    ("one_model_for_each_success", lambda c, _: set_job(c, "done", model_version=2)),
    ("one_model_for_each_success", lambda c, _: set_job(c, "done", model_version=None)),
    ("one_model_for_each_success", lambda c, _: set_job(c, "cancelled", model_version=1)),
    ("epochs_have_no_gap", forget_epoch),
    ("epochs_have_no_gap", lambda c, _: add_epochs(c, "done", 4)),
    ("epochs_have_no_gap", lambda c, _: set_job(c, "done", epoch=2)),
    ("epochs_have_no_gap", change_event(4, data={"epoch": 1})),
    ("epochs_have_no_gap", change_event(4, data={"epoch": 3})),
    ("epochs_have_no_gap", change_event(6, data={"attempt": 2, "epoch": 1})),
    ("epochs_have_no_gap", change_event(7, kind="resumed", data={})),
    ("events_have_no_gap", change_event(5, number=50)),
    ("events_have_no_gap", lambda c, _: set_job(c, "done", last_event=7)),
    ("events_have_no_gap", lambda c, _: set_job(c, "done", last_event=9)),
    ("attempts_count_up", change_event(6, data={"attempt": 1, "epoch": 2})),
    ("attempts_count_up", lambda c, _: set_job(c, "done", fence=3)),
    ("attempts_count_up", lambda c, _: set_job(c, "paused", fence=1)),
    ("nothing_follows_the_end", lambda c, _: add_event(c, "done", "resumed")),
    ("nothing_follows_the_end", lambda c, _: add_event(c, "done", "succeeded")),
    ("nothing_follows_the_end", lambda c, _: add_event(c, "paused", "cancelled")),
    ("nothing_follows_the_end", change_event(8, kind="failed")),
    ("nothing_follows_the_end", change_event(8, kind="resumed")),
    ("nothing_follows_the_end", change_event(1, kind="resumed")),
    ("nothing_follows_the_end", change_event(5, kind="submitted")),
    ("time_goes_forward", see(Sighting(3.0, "done", "succeeded", 1, 3, 8))),
    ("time_goes_forward", see(Sighting(3.0, "done", "succeeded", 2, 2, 8))),
    ("time_goes_forward", see(Sighting(3.0, "done", "succeeded", 2, 3, 7))),
    ("time_goes_forward", see(Sighting(3.0, "done", "queued", 2, 3, 8))),
    ("answers_stay_true", lambda _, history: history.add(told("done", "running", attempts=0, at=5.0))),
    ("answers_stay_true", lambda _, history: history.add(told("done", "cancelled", attempts=2, at=5.0))),
    ("answers_stay_true", lambda _, history: history.add(told("cancelled", "succeeded", attempts=2, at=5.0))),
    ("cancelled_jobs_have_no_model", lambda _, history: history.add(told("done", "cancelled", attempts=2))),
    ("cancelled_jobs_have_no_model", change_event(5, kind="cancelled")),
    ("cancelled_jobs_have_no_model", lambda c, _: add_version(c, 2, "cancelled")),
    ("every_file_has_its_hash", damage_part),
    ("every_file_has_its_hash", lambda c, history: damage_part(c, history, b"longer")),
    ("every_file_has_its_hash", lose_file),
    ("every_file_has_its_hash", lambda c, history: lose_file(c, history, WEIGHTS)),
    ("every_file_has_its_hash", lambda c, history: lose_file(c, history, TABLE)),
    ("every_file_has_its_hash", lambda c, history: lose_file(c, history, SPLIT)),
    ("every_file_has_its_hash", lambda c, history: lose_file(c, history, STATE)),
    ("every_file_has_its_hash", lambda c, _: c.execute(update(tables.blobs).values(size_bytes=3))),
    ("no_file_is_left_over", lambda c, _: store(c, b"nobody's")),
    ("no_file_is_left_over", keep_state),
    ("twins_are_equal", measure_otherwise),
    ("answers_are_as_promised", lambda _, history: history.add(call(status=500))),
    ("answers_are_as_promised", lambda _, history: history.add(call(status=404))),
    ("answers_are_as_promised", lambda _, history: history.add(call(status=502, retry_after="1"))),
    ("answers_are_as_promised", lambda _, history: history.add(call(status=503))),
]


@pytest.mark.parametrize(("invariant", "plant"), PLANTED)
def test_what_is_planted_is_found(invariant: str, plant: Plant) -> None:
    assert invariant in found(plant)


def test_other_weights_than_those_of_the_undisturbed_run_are_found() -> None:
    assert found(weights="0" * 64) == {"twins_are_equal"}


def test_model_that_says_why_it_differs_may_differ() -> None:
    def warn(connection: Connection, _: History) -> None:
        connection.execute(update(tables.model_versions).values(warnings=["trained in different environments"]))

    assert found(warn, weights="0" * 64) == set()


def test_reasons_to_fail_are_those_of_the_run() -> None:
    assert {violation.invariant for violation in check(replace(run_of(), allowed_codes=frozenset()))} == {
        "no_job_failed"
    }


def test_request_that_nobody_answered_is_found() -> None:
    [violation] = check(replace(run_of(), unanswered=("POST /jobs key-9",)))
    assert (violation.invariant, violation.detail) == ("everything_is_answered", "nobody answered POST /jobs key-9")


def test_every_invariant_is_broken_by_a_test() -> None:
    broken = {invariant for invariant, _ in PLANTED} | {"everything_is_answered"}
    assert broken == {invariant.__name__ for invariant in INVARIANTS}


def test_every_kind_of_event_can_be_read() -> None:
    def plant(connection: Connection, _: History) -> None:
        for kind in set(EventKind) - {EventKind.SUBMITTED, EventKind.STARTED, EventKind.EPOCH} - {EventKind.SUCCEEDED}:
            add_event(connection, "paused", kind, epoch=0)

    assert found(plant) <= {"nothing_follows_the_end"}
    assert run_of(plant).stored.jobs["paused"].events[0].created_at < datetime.now(UTC)
