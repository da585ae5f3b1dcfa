"""Which columns of text hold dates, how these are written, and from when to when they go."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain import dates
from service.domain.datasets import Histogram
from service.domain.wording import shown
from service.tables.distinct import Distinct
from service.tables.measures import histogram
from service.tables.refusals import refused_kind

ISO_ONLY = (dates.ISO,)
"""How dates are written in files whose cells have types."""
MICROSECONDS_PER_DAY = 86_400_000_000
MAX_STRAY_SHARE = 0.05
"""So large a part of a column may be no dates, and its owner is told that it nearly is one of dates."""
ADVICE = "Write dates as YYYY-MM-DD"

_LOOKED_AT_FIRST = 100
_LIKE_A_DATE = re.compile(r"\s*\d{1,4}[-./]\d{1,2}[-./]\d{1,4}(?!\d)")


@dataclass(frozen=True, slots=True)
class Dates:
    """What was found out about a column of text: its dates, or what its owner should know."""

    written: str | None = None
    first: str | None = None
    last: str | None = None
    """ISO 8601."""
    histogram: Histogram | None = None
    """In days since 1970."""
    warnings: tuple[str, ...] = ()


def find(name: str, distinct: Distinct, formats: tuple[str, ...], *, is_sure: bool = False) -> Dates:
    """Look for dates in a column of text.

    ``formats`` are the ways of writing that may be met. ``is_sure`` says that the column's owner says they are dates.

    Raises:
        InvalidTable: they are sure to be dates, and are not; names the first that is none.
    """
    least_share = 0.0 if is_sure else 1 - 2 * MAX_STRAY_SHARE
    candidates = _candidates(distinct, formats, least_share)
    if not candidates and not is_sure:
        return Dates()
    if distinct.given == 0:
        raise refused_kind(name, "cannot be date: it has no cells at all")
    cells = distinct.cells.to_numpy(zero_copy_only=False)
    read = {written: dates.parse(cells, written) for written in candidates}
    fitting = [written for written, (_, wrong) in read.items() if len(wrong) == 0]
    if len(fitting) == 1:
        return _measured(fitting[0], read[fitting[0]][0], distinct)
    if fitting:
        problem, is_near = f"day and month could be either way round in every date, as in {shown(cells[0])}", True
    else:
        problem, is_near = _stray(distinct, [wrong for _, wrong in read.values()])
    if is_sure:
        raise refused_kind(name, f"cannot be date: {problem}. {ADVICE}")
    return Dates(warnings=(f"taken as text: {problem}. {ADVICE}",) if is_near else ())


def _candidates(distinct: Distinct, formats: tuple[str, ...], least_share: float) -> list[str]:
    """Return the formats in which the first cells are dates, all of them or nearly so."""
    first = distinct.cells.slice(0, _LOOKED_AT_FIRST).to_pylist()
    likely = [cell for cell in first if _LIKE_A_DATE.match(cell)]
    if not likely or len(likely) < len(first) * least_share:
        return []
    counts = {written: sum(dates.parse_one(cell, written) is not None for cell in likely) for written in formats}
    if counts.get(dates.ISO) == len(likely):
        return [dates.ISO]  # it is understood in every other format too
    return [written for written, count in counts.items() if count and count >= len(first) * least_share]


def _stray(distinct: Distinct, misfits: list[NDArray[np.int64]]) -> tuple[str, bool]:
    """Name the first cell that is no date in the format that fits best, and say whether nearly all others are.

    ``misfits`` are the places of the cells that are none, for every format; without formats all cells are.
    """
    wrong = np.ones(len(distinct.cells), bool)
    if misfits:
        wrong[:] = False
        wrong[min(misfits, key=lambda places: int(distinct.counts[places].sum()))] = True
    row, cell = distinct.first_row(wrong)
    strays = int(distinct.counts[wrong].sum())
    problem = f"{strays:,} of {distinct.given:,} cells are no dates, the first {shown(cell)} in row {row:,}"
    return problem, strays <= distinct.given * MAX_STRAY_SHARE


def _measured(written: str, moments: NDArray[np.datetime64], distinct: Distinct) -> Dates:
    has_time = bool((moments != moments.astype("datetime64[D]")).any())
    has_fraction = bool((moments != moments.astype("datetime64[s]")).any())
    unit = f"datetime64[{('us' if has_fraction else 's') if has_time else 'D'}]"
    first, last = (str(moment.astype(unit)) for moment in (moments.min(), moments.max()))
    days = moments.astype(np.int64) / MICROSECONDS_PER_DAY
    return Dates(written, first, last, histogram(days, distinct.counts))
