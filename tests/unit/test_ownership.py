"""The tripwire of the tests tells a statement that forgets whose things it touches from one that does not."""

from typing import Any

import pytest
from sqlalchemy import Select, Table, delete, exists, insert, or_, select, text, union_all, update

from service.storage.tables import comparison_jobs, comparisons, datasets, epochs, events, jobs, models
from tests.ownership import faults_of

ANN = "ann"


def owned(query: Any, table: Table, owner: str = ANN) -> Any:
    return query.where(table.c.owner == owner)


def one_job() -> Select[Any]:
    selected: Select[Any] = owned(select(jobs.c.id).where(jobs.c.id == "j"), jobs)
    return selected


IN_ORDER: dict[str, Any] = {
    "a row of hers": one_job(),
    "what nobody owns": select(1),
    "hers and what is built in": select(datasets).where(or_(datasets.c.owner == ANN, datasets.c.owner.is_(None))),
    "a child through its parent": select(events).where(events.c.job_id == one_job().scalar_subquery()),
    "children through some parents": delete(epochs).where(epochs.c.job_id.in_(one_job())),
    "a child beside its parent": owned(select(epochs).join(jobs, jobs.c.id == epochs.c.job_id), jobs),
    "a child beside a child": owned(
        select(epochs)
        .join(comparison_jobs, comparison_jobs.c.job_id == epochs.c.job_id)
        .join(jobs, jobs.c.id == epochs.c.job_id),
        jobs,
    ),
    "a change": owned(update(models).values(revision=1), models),
    "a new row": insert(models).values(owner=ANN, name="m"),
    "what stands around it": owned(select(jobs), jobs).where(exists().where(events.c.job_id == jobs.c.id)),
}
FORGETFUL: dict[str, Any] = {
    "a row of anybody's": select(jobs).where(jobs.c.id == "j"),
    "a row of another's": owned(select(jobs), jobs, "bob"),
    "hers or any of this name": select(jobs).where(or_(jobs.c.owner == ANN, jobs.c.model_name == "m")),
    "any but hers": select(jobs).where(jobs.c.owner != ANN),
    "a child by itself": select(events).where(events.c.job_id == "j"),
    "a child through anybody's parent": select(events).where(events.c.job_id.in_(select(jobs.c.id))),
    "a child beside anybody's parent": select(epochs).join(jobs, jobs.c.id == epochs.c.job_id),
    "two tables of which one is hers": owned(select(jobs, comparisons), jobs),
    "anybody's within hers": one_job().where(jobs.c.model_name.in_(select(models.c.name))),
    "anybody's beside hers": union_all(one_job(), select(jobs.c.id)),
    "a change to anybody's": update(models).values(revision=1),
    "a deletion of anybody's": delete(jobs).where(jobs.c.id == "j"),
    "a new row of nobody's": insert(models).values(name="m"),
    "a new row of another's": insert(models).values(owner="bob", name="m"),
    "words": text("SELECT * FROM jobs"),
}


@pytest.mark.parametrize("name", IN_ORDER)
def test_statement_that_names_the_owner_is_in_order(name: str) -> None:
    assert faults_of(IN_ORDER[name], ANN) == []
    assert faults_of(IN_ORDER[name], ANN) == [], "also once it is known"


@pytest.mark.parametrize("name", FORGETFUL)
def test_statement_that_forgets_the_owner_is_found(name: str) -> None:
    assert faults_of(FORGETFUL[name], ANN)


def test_rows_that_are_given_beside_a_statement_are_looked_at() -> None:
    assert faults_of(insert(models), ANN, [{"owner": ANN}, {"owner": ANN}]) == []
    assert faults_of(insert(models), ANN, [{"owner": ANN}, {"owner": "bob"}])
    assert faults_of(insert(models), ANN, [{"name": "m"}])


def test_known_form_with_another_owner_is_found() -> None:
    assert faults_of(owned(select(models), models), ANN) == []
    assert faults_of(owned(select(models), models, "bob"), ANN)
