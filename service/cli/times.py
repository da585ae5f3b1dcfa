"""Times as they are typed and shown by the commands that work on the database itself."""

import re
from datetime import UTC, datetime, timedelta

from service.cli.printing import MISUSED, fail

SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
UNITS = "a number and m, h, d, w or y, such as 12h or 90d, up to 100y"
_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhdwy])")
_MOST_SECONDS = 100 * SECONDS["y"]


def span(option: str, text: str) -> float:
    """Return for how many seconds something is to last.

    Raises:
        typer.Exit: the text is no such time.
    """
    seconds = _seconds(text)
    if seconds is None:
        fail(MISUSED, f"{option} takes {UNITS}; got {text[:64]!r}")
    return seconds


def moment(option: str, text: str) -> datetime:
    """Return a time that was given as one, or as how long ago it was; without a zone it is UTC.

    Raises:
        typer.Exit: the text is no time.
    """
    ago = _seconds(text)
    if ago is not None:
        return datetime.now(UTC) - timedelta(seconds=ago)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(MISUSED, f"{option} takes {UNITS}, or a time such as 2026-01-31; got {text[:64]!r}")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def shown_time(at: datetime, precision: str = "minutes") -> str:
    """Return a time for people to read."""
    return at.isoformat(sep=" ", timespec=precision).replace("+00:00", " UTC")


def _seconds(text: str) -> float | None:
    found = _SPAN.fullmatch(text)
    seconds = 0 if found is None else int(found[1]) * SECONDS[found[2]]
    return seconds if 0 < seconds <= _MOST_SECONDS else None
