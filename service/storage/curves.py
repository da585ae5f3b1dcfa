"""Epochs read metric by metric: of each only what is wanted, for there may be very many."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Select, and_, case, literal, or_, select

from service.domain.curves import Curves
from service.storage.owners import mine, my_jobs
from service.storage.tables import epochs, jobs

EPOCHS_AT_ONCE = 5000
POINTS = 32
"""So many epochs, about, are left of a training by ``thinned``, however many it has."""


def names(connection: Connection, job_ids: Sequence[str]) -> list[str]:
    """Read what the first epochs of some jobs measured."""
    query = select(epochs.c.metrics).where(epochs.c.job_id.in_(my_jobs(connection, job_ids)), epochs.c.epoch == 1)
    query = query.order_by(epochs.c.job_id)
    return list(dict.fromkeys(name for metrics in connection.execute(query).scalars() for name in metrics))


def read(
    connection: Connection,
    job_ids: Sequence[str],
    metrics: Sequence[str],
    every: int = 1,
    besides: Sequence[int | None] = (),
) -> dict[str, Curves]:
    """Read some metrics of some jobs by job, of every so many-th epoch from the first, and ``besides`` of some more.

    A job without epochs is left out.
    """
    found = {}
    query = columns(metrics).where(epochs.c.job_id.in_(my_jobs(connection, job_ids)))
    query = query.order_by(epochs.c.job_id, epochs.c.epoch)
    if every > 1:
        more = [epoch for epoch in besides if epoch is not None]
        query = query.where(or_((epochs.c.epoch - 1) % every == 0, epochs.c.epoch.in_(more)))
    for job_id, rows in by_job(connection, query):
        table = np.array([row[1:] for row in rows], dtype=np.float64)
        values = {name: table[:, place] for place, name in enumerate(metrics, 1)}
        found[job_id] = Curves(table[:, 0].astype(np.int64), values)
    return found


def columns(metrics: Sequence[str]) -> Select[Any]:
    """Select job, epoch and some metrics, None where one is not finite or missing, from epochs."""
    return select(epochs.c.job_id, epochs.c.epoch, *(epochs.c.metrics[name].as_float() for name in metrics))


def by_job(connection: Connection, query: Select[Any]) -> Iterator[tuple[str, Iterator[Row[Any]]]]:
    """Run a query whose first column is the job, by which it is ordered, some thousand rows at a time."""
    rows = connection.execute(query, execution_options={"yield_per": EPOCHS_AT_ONCE})
    yield from groupby(rows, key=lambda row: str(row[0]))


def thinned(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[float | None]]:
    """Read how the loss of some jobs went by job, of the validation rows where there are some, in some ``POINTS``.

    The epochs that are wanted are counted out, and none but those are read. None stands for a loss that is not finite.
    """
    places = select(literal(0).label("place")).cte("places", recursive=True)
    places = places.union_all(select(places.c.place + 1).where(places.c.place < POINTS))
    stride = (jobs.c.epoch + POINTS - 1) // POINTS
    step = places.c.place * stride + 1
    # The last place is the last epoch's, in whose stead no step comes.
    wanted = case((and_(places.c.place < POINTS, step < jobs.c.epoch), step), (places.c.place == POINTS, jobs.c.epoch))
    query = (
        columns(("val_loss", "loss"))
        .join_from(jobs, places, literal(True))
        .join(epochs, and_(epochs.c.job_id == jobs.c.id, epochs.c.epoch == wanted))
        .where(mine(connection, jobs), jobs.c.id.in_(job_ids))
    )
    # Sorted here, for SQLite would read every epoch to have them in order.
    rows = sorted(tuple(row) for row in connection.execute(query))
    return {job_id: _loss([row[2:] for row in found]) for job_id, found in groupby(rows, key=itemgetter(0))}


def _loss(points: list[tuple[float | None, ...]]) -> list[float | None]:
    has_validation = any(validation is not None for validation, _ in points)
    return [validation if has_validation else training for validation, training in points]
