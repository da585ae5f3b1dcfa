"""How messages show values and names; without pydantic, for the process that reads uploads starts faster without it."""

from collections.abc import Sequence
from datetime import UTC, datetime

JSON_WORDS = {None: "null", True: "true", False: "false"}
MAX_SHOWN = 64


def shown(value: object) -> str:
    """Return a value as an error may echo it: at most 64 characters."""
    text = JSON_WORDS[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def pointer_step(step: str | int) -> str:
    """Return a step of a JSON pointer; a key that a client made up is cut, and shown without control characters."""
    text = str(step) if str(step).isprintable() else shown(str(step))
    return text[:MAX_SHOWN].replace("~", "~0").replace("/", "~1")


def utc(at: datetime) -> str:
    """Return a time as the API writes it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first names of a list, and how many more there are."""
    rest = len(names) - most
    return ", ".join(map(shown, names[:most])) + (f" and {rest:,} more" if rest > 0 else "")
