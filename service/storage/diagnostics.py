"""What the layers of a network looked like after its epochs, and how its answers to held-out rows fit."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from service.domain.diagnostics import Diagnosis, HeldOut, Histogram
from service.domain.spec import JobSpec
from service.domain.verdict import judge_all
from service.storage.owners import mine, my_job
from service.storage.tables import diagnostics, jobs

BEFORE_ALL = -1
"""No epoch: the untrained network's is 0."""
NO_HISTOGRAMS: dict[str, list[dict[str, Any]]] = {"weights": [], "activations": []}


def add(connection: Connection, job_id: str, diagnoses: Sequence[Diagnosis]) -> None:
    """Store what was seen; epochs that are stored already stay as they are."""
    if not diagnoses:
        return
    query = select(diagnostics.c.epoch).where(diagnostics.c.job_id == my_job(connection, job_id))
    known = set(connection.execute(query).scalars())
    rows = [
        {
            "job_id": job_id,
            "epoch": diagnosis.epoch,
            "layers": diagnosis.layers_to_json(),
            "histograms": diagnosis.histograms_to_json(),
        }
        for diagnosis in diagnoses
        if diagnosis.epoch not in known
    ]
    if rows:
        connection.execute(insert(diagnostics), rows)


def read(connection: Connection, job_id: str, *, histograms: bool = True, after: int = BEFORE_ALL) -> list[Diagnosis]:
    """Read every diagnosis of a job after an epoch, in their order; most of it are the ``histograms``."""
    columns = [diagnostics.c.epoch, diagnostics.c.layers, *([diagnostics.c.histograms] if histograms else [])]
    query = select(*columns).where(diagnostics.c.job_id == my_job(connection, job_id), diagnostics.c.epoch > after)
    query = query.order_by(diagnostics.c.epoch)
    rows = connection.execute(query).mappings()
    return [Diagnosis.from_json(row["epoch"], row["layers"], row.get("histograms", NO_HISTOGRAMS)) for row in rows]


def read_histograms(
    connection: Connection,
    job_id: str,
    kind: Literal["weights", "activations"],
    layer: int,
    after: int = BEFORE_ALL,
) -> list[tuple[int, Histogram]]:
    """Read how the weights or activations of one layer, from 1, were distributed, by epoch; nothing else is read."""
    one = diagnostics.c.histograms[(kind, layer - 1)]
    query = select(diagnostics.c.epoch, one)
    query = query.where(diagnostics.c.job_id == my_job(connection, job_id), diagnostics.c.epoch > after)
    return [
        (epoch, Histogram(found["low"], found["high"], tuple(found["counts"])))
        for epoch, found in connection.execute(query.order_by(diagnostics.c.epoch))
        if found is not None
    ]


def forget_after(connection: Connection, job_id: str, epoch: int) -> None:
    """Forget what was seen after epochs that do not count any more."""
    which = (diagnostics.c.job_id == my_job(connection, job_id), diagnostics.c.epoch > epoch)
    connection.execute(delete(diagnostics).where(*which))


def copy(connection: Connection, job_id: str, other_id: str, until: int) -> None:
    """Give another job what was seen up to an epoch."""
    columns = (diagnostics.c.epoch, diagnostics.c.layers, diagnostics.c.histograms)
    query = select(*columns).where(diagnostics.c.job_id == my_job(connection, job_id), diagnostics.c.epoch <= until)
    rows = connection.execute(query).mappings().all()
    if rows:
        connection.execute(insert(diagnostics), [{**row, "job_id": other_id} for row in rows])


def judged(connection: Connection, job_id: str) -> dict[str, Any] | None:
    """Judge a job's network by what is stored of it, as plain JSON values; None where nothing is."""
    query = select(diagnostics.c.epoch, diagnostics.c.layers)
    query = query.where(diagnostics.c.job_id == my_job(connection, job_id))
    seen = [
        Diagnosis.from_json(row.epoch, row.layers, NO_HISTOGRAMS)
        for row in connection.execute(query.order_by(diagnostics.c.epoch))
    ]
    if not seen:
        return None
    spec = connection.execute(select(jobs.c.spec).where(mine(connection, jobs), jobs.c.id == job_id)).scalar_one()
    verdict = judge_all(seen, JobSpec.model_validate(spec).network)
    return None if verdict is None else verdict.to_dict()


def keep_held_out(connection: Connection, job_id: str, held_out: HeldOut | None) -> None:
    """Store how the answers of a trained network fit."""
    values: dict[str, Any] | None = None if held_out is None else asdict(held_out)
    connection.execute(update(jobs).where(mine(connection, jobs), jobs.c.id == job_id).values(held_out=values))


def held_out(connection: Connection, job_id: str) -> HeldOut | None:
    """Read how the answers of a job's network fit; None where it has not ended, or had no rows for it."""
    query = select(jobs.c.held_out).where(mine(connection, jobs), jobs.c.id == job_id)
    values = connection.execute(query).scalar()
    return None if values is None else HeldOut.from_json(values)


def lint(connection: Connection, job_id: str) -> list[dict[str, Any]] | None:
    """Read what was found about a job's network before it trained; None for a job from before there was a lint."""
    query = select(jobs.c.lint).where(mine(connection, jobs), jobs.c.id == job_id)
    found: list[dict[str, Any]] | None = connection.execute(query).scalar()
    return found
