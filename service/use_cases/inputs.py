"""What a version was asked, by all API processes together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from service.domain.counts import add
from service.inference.guard import FLOAT64_MAX, Recent, drift
from service.storage import inputs, models
from service.storage.database import Database
from service.storage.inputs import InputRecord
from service.use_cases.serving import Serving, is_self_normalizing

LATELY = timedelta(minutes=10)
"""The last rows of processes that were asked so much earlier than the one that was asked last are left out."""


@dataclass(frozen=True, slots=True)
class InputsReport:
    """Counts since the version was first asked, and the moments of its last rows."""

    name: str
    version: int
    rows: int = 0
    far_rows: int = 0
    far: dict[str, int] = field(default_factory=dict)
    """Far values by encoded column."""
    unseen: dict[str, int] = field(default_factory=dict)
    """Cells whose category training did not see, by column."""
    recent: Recent = field(default_factory=lambda: Recent(0))
    warnings: tuple[str, ...] = ()
    updated_at: datetime | None = None


def read_inputs(database: Database, serving: Serving, name: str, version: int) -> InputsReport:
    """Read what a version was asked; other processes store what they counted every few seconds.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
    """
    serving.store_inputs(database.owner)
    with database.read() as connection:
        found = models.get_version(connection, name, version)
        records = inputs.read(connection, name, version)
    if not records:
        return InputsReport(name, version)
    total: dict[str, Any] = {}
    for record in records:
        total = add(total, record.counts)
    recent = _together(records)
    updated_at = max(record.updated_at for record in records)
    warnings = tuple(drift(recent, is_self_normalizing=is_self_normalizing(found)))
    return InputsReport(name, version, **total, recent=recent, warnings=warnings, updated_at=updated_at)


def _together(records: Sequence[InputRecord]) -> Recent:
    """Put the last rows of several processes together, each with its share."""
    asked = [record for record in records if record.recent]  # of processes that have ended nothing recent is kept
    newest = max((record.updated_at for record in asked), default=None)
    if newest is None:
        return Recent(0)
    lately = [Recent.from_dict(record.recent) for record in asked if record.updated_at >= newest - LATELY]
    rows = np.array([recent.rows for recent in lately])
    share = rows / rows.sum()
    shares: dict[str, float] = {}
    for part, recent in zip(share.tolist(), lately, strict=True):
        for column, unseen in (recent.unseen_share or {}).items():
            shares[column] = shares.get(column, 0.0) + part * unseen
    means = np.array([recent.mean for recent in lately])
    with np.errstate(over="ignore", invalid="ignore"):
        mean = share @ means
        variance = share @ (np.array([recent.variance for recent in lately]) + (means - mean) ** 2)
    mean, variance = np.nan_to_num(mean), np.nan_to_num(variance, nan=FLOAT64_MAX)
    return Recent(int(rows.sum()), lately[0].columns, tuple(mean.tolist()), tuple(variance.tolist()), shares)
