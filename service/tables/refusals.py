"""How the rooms of this folder say that an upload is no table."""

from service.domain.errors import InvalidTable, Violation

KINDS_POINTER = "?kinds"
"""Where the user says what columns are to be taken for."""
MAX_SHOWN = 64


def refused(detail: str) -> InvalidTable:
    """Return the error of a file; the detail goes on after "the file"."""
    return InvalidTable([Violation("#", f"the file {detail}")])


def refused_kind(column: str, detail: str) -> InvalidTable:
    """Return the error of a kind that a column cannot have; the detail goes on after the column's name."""
    return InvalidTable([Violation(KINDS_POINTER, f"column {shown(column)} {detail}")])


def shown(value: object) -> str:
    """Return a value as an error or a warning may echo it: at most 64 characters.

    ``service.domain.bounds`` has the like for JSON values; it comes with pydantic, which takes 0.1 s to import, a tenth
    of what a large upload may take.
    """
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def listed(names: list[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(shown(name) for name in names[:5]) + more
