"""Dates as people write them: which way a column of text writes them, and the moments that it means."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

ISO = "iso"
"""ISO 8601: ``2020-01-31``, ``2020-01-31T10:00``, ``2020-01-31 10:00:00.5+01:00``; a zone is turned into UTC."""
DAY_FORMATS = ("%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
TIME_FORMATS = ("", " %H:%M", " %H:%M:%S")
FORMATS = (ISO, *(day + time for time in TIME_FORMATS for day in DAY_FORMATS))
"""Every way of writing dates that is understood: ISO 8601, or a pattern of ``datetime.strptime``."""

MAX_LENGTH = 40
"""No date is written longer."""

_DAY = r"(?!0000)\d{4}-\d{2}-\d{2}"
_TIME = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?"
_ISO = re.compile(rf"{_DAY}({_TIME}(Z|[+-]\d{{2}}:?\d{{2}})?)?", re.ASCII)
_ISO_WITHOUT_ZONE = re.compile(rf"{_DAY}({_TIME})?", re.ASCII)


def parse_one(text: str, written: str) -> datetime | None:
    """Return the moment that a text means, in UTC without a zone, or None where it is no date written so.

    ISO 8601 is understood beside every format, for programs write it.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        return None
    try:
        if _ISO.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
        return None if written == ISO else datetime.strptime(text, written)
    except (ValueError, OverflowError):
        return None


def parse(values: NDArray[Any], written: str) -> tuple[NDArray[np.datetime64], NDArray[np.int64]]:
    """Read a column.

    ``values`` is an object array (rows,) of text, None where a cell is missing.

    Returns the moments, datetime64[us] (rows,), NaT where missing or no date; and the rows that hold no date.
    """
    if written == ISO and (fast := _parse_plain_iso(values)) is not None:
        return fast, np.array([], np.int64)
    known: dict[Any, np.datetime64] = {None: np.datetime64("NaT", "us")}
    for text in set(values.tolist()) - {None}:
        moment = parse_one(text, written)
        known[text] = np.datetime64("NaT", "us") if moment is None else np.datetime64(moment, "us")
    moments = np.array([known[text] for text in values.tolist()], "datetime64[us]")
    given = np.array([text is not None for text in values.tolist()], bool)
    return moments, np.flatnonzero(given & np.isnat(moments))


def detect(values: Sequence[str]) -> tuple[str, ...]:
    """Return every format in which all the texts are dates; more than one where day and month could be either."""
    if not values or not all(6 <= len(text) <= 40 for text in values[:100]):
        return ()
    candidates = tuple(written for written in FORMATS if parse_one(values[0], written) is not None)
    for text in values:
        candidates = tuple(written for written in candidates if parse_one(text, written) is not None)
        if not candidates:
            return ()
    # ISO text is read under every format, so a column of it fits them all.
    return (ISO,) if ISO in candidates else candidates


def _parse_plain_iso(values: NDArray[Any]) -> NDArray[np.datetime64] | None:
    """Read ISO dates without zones at once, as ``parse_one`` reads each; None where one is something else."""
    cells = values.tolist()
    if not all(text is None or (len(text) <= MAX_LENGTH and _ISO_WITHOUT_ZONE.fullmatch(text)) for text in cells):
        return None
    try:
        return np.array([text or "NaT" for text in cells], "datetime64[us]")
    except ValueError:  # the 30th of February
        return None
