"""What a list of jobs shows beside them: names, thinned curves, and what tells whether one has changed."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, insert, update

from service.domain.completion import complete_spec
from service.domain.jobs import JobState, Progress
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from service.storage import curves, datasets, leases
from service.storage.database import Database
from service.storage.jobs import JobFilter
from service.storage.pages import PageRequest
from service.storage.tables import epochs
from service.storage.tables import jobs as table
from service.use_cases.job_list import dataset_choices, list_with_curves, look
from service.use_cases.short_specs import shortened
from tests.factories import measured, progress, stored_job

PAGE = PageRequest(25)


def with_epochs(database: Database, job_id: str, count: int, **metrics: Any) -> str:
    """Store a job with so many epochs, whose loss is the number of the epoch."""
    stored_job(database, job_id)
    rows = [
        {
            "job_id": job_id,
            "epoch": epoch,
            "metrics": {"loss": float(epoch), **metrics},
            "learning_rate": 0.1,
            "seconds": 0.1,
        }
        for epoch in range(1, count + 1)
    ]
    with database.write() as connection:
        connection.execute(update(table).where(table.c.id == job_id).values(epoch=count))
        if rows:
            connection.execute(insert(epochs), rows)
    return job_id


def thinned(database: Database, *job_ids: str) -> dict[str, list[float | None]]:
    with database.read() as connection:
        return curves.thinned(connection, job_ids)


def test_curves_are_thinned_evenly_and_keep_both_ends(database: Database) -> None:
    lengths = {"none": 0, "one": 1, "few": 7, "just": curves.POINTS, "more": curves.POINTS + 1, "many": 3333}
    for job_id, count in lengths.items():
        with_epochs(database, job_id, count)
    found = thinned(database, *lengths)
    assert found.keys() == lengths.keys() - {"none"}
    for job_id, points in found.items():
        count = lengths[job_id]
        assert (points[0], points[-1]) == (1, count)
        assert len(points) == count if count <= curves.POINTS else len(points) <= curves.POINTS + 1
        steps = np.diff(np.array(points, float))
        assert len(set(steps[:-1])) <= 1  # only the last one may be shorter
    assert len(found["many"]) > curves.POINTS / 2


def test_all_curves_of_a_page_are_read_in_one_query(database: Database) -> None:
    names = [with_epochs(database, f"job-{number}", 500) for number in range(5)]
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    with database.read() as connection:
        statements.clear()
        found = curves.thinned(connection, names)
        assert len(statements) == 1
    assert sum(map(len, found.values())) <= 5 * (curves.POINTS + 1)


def test_curve_is_of_the_validation_loss_where_there_is_one(database: Database) -> None:
    with_epochs(database, "validated", 3, val_loss=0.5)
    with_epochs(database, "overflowed", 3, val_loss=None)
    with database.write() as connection:
        wrong = (epochs.c.job_id == "validated") & (epochs.c.epoch == 2)
        connection.execute(update(epochs).where(wrong).values(metrics={"loss": 2.0, "val_loss": None}))
    assert thinned(database, "validated", "overflowed") == {"validated": [0.5, None, 0.5], "overflowed": [1, 2, 3]}


def test_list_names_data_sets_also_those_that_are_gone(database: Database) -> None:
    stored_job(database, "kept")
    stored_job(database, "orphan")
    with database.write() as connection:
        connection.execute(update(table).where(table.c.id == "orphan").values(dataset_id="gone"))
    items = list_with_curves(database, JobFilter(), PAGE).items
    assert [(listed.job.id, listed.dataset_name) for listed in items] == [("orphan", "gone"), ("kept", "iris")]
    assert dataset_choices(database, "gone")[-1] == ("gone", "gone")
    assert dataset_choices(database, "iris") == dataset_choices(database, None)


def test_look_tells_what_has_changed_and_no_more(database: Database) -> None:
    for job_id in ("a", "b"):
        stored_job(database, job_id)
    first = look(database, JobFilter(), PAGE, None)
    assert [listed.job.id for listed in first.changed] == ["b", "a"]
    assert look(database, JobFilter(), PAGE, first.marks).changed == []
    with database.write() as connection:
        [claim] = [leases.claim(connection, "a", "worker")]
        assert claim is not None
    second = look(database, JobFilter(), PAGE, first.marks)
    assert [listed.job.state for listed in second.changed] == ["running"]
    with database.write() as connection:
        leases.record_progress(connection, claim, Progress(0, 0.05, 100.0, 2.0))
    third = look(database, JobFilter(), PAGE, second.marks)
    assert [listed.job.fraction for listed in third.changed] == [0.05]
    with database.write() as connection:
        leases.record(connection, claim, progress(1), 1, [measured(1)])
    fourth = look(database, JobFilter(), PAGE, third.marks)
    assert [listed.curve for listed in fourth.changed] == [[1.0]]
    assert first.marks.at < second.marks.at < third.marks.at < fourth.marks.at
    assert look(database, JobFilter(state=JobState.QUEUED), PAGE, None).marks.jobs.keys() == {"b"}


@pytest.mark.parametrize(
    "said",
    [
        {"dataset": "iris"},
        {"dataset": "diabetes", "target": "bmi", "features": ["age", "s1"]},
        {
            "dataset": "wine",
            "network": {"kind": "mlp", "activation": "tanh", "hidden_layers": 3, "normalization": "batch"},
        },
        {"dataset": "wine", "network": {"units": [64, 32, 16]}, "tags": ["a", "b"], "model": "m"},
        {
            "dataset": "digits",
            "training": {
                "epochs": 5,
                "early_stopping": None,
                "schedule": {"kind": "plateau", "patience": 3},
                "class_weights": {"1": 2.0},
            },
            "preparation": {"numeric": "robust"},
        },
    ],
)
def test_shortened_spec_is_what_was_said_and_gives_the_same_job(
    sqlite_database: Database, said: dict[str, Any]
) -> None:
    def completed(spec: dict[str, Any]) -> dict[str, Any]:
        with sqlite_database.read() as connection:
            dataset = datasets.get(connection, spec["dataset"])
        return complete_spec(JobSpec.model_validate(spec), dataset, Limits()).spec.model_dump(mode="json")

    short = shortened(sqlite_database, completed(said), Limits())
    assert completed(short) == completed(said)
    assert short == said


def test_spec_whose_data_set_is_gone_stays_whole(sqlite_database: Database) -> None:
    spec = {"dataset": "gone", "target": "y", "training": {"epochs": 3}}
    assert shortened(sqlite_database, spec, Limits()) == spec
