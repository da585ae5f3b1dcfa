"""How the rooms of this folder say that an upload is no table."""

from service.domain.errors import InvalidTable, Violation
from service.domain.wording import shown

KINDS_POINTER = "?kinds"
"""Where the user says what columns are to be taken for."""


def refused(detail: str) -> InvalidTable:
    """Return the error of a file; the detail goes on after "the file"."""
    return InvalidTable([Violation("#", f"the file {detail}")])


def refused_kind(column: str, detail: str) -> InvalidTable:
    """Return the error of a kind that a column cannot have; the detail goes on after the column's name."""
    return InvalidTable([Violation(KINDS_POINTER, f"column {shown(column)} {detail}")])
