"""What a column is taken for: the first guess, and what its owner may make of it; nothing here looks at cells."""

import re
from dataclasses import replace

from service.domain.datasets import Column, ColumnKind
from service.domain.errors import InvalidTable, Violation

MIN_ID_ROWS = 20
"""In fewer rows, cells that all differ are no sign of an identifier."""
ALWAYS_CATEGORIES = 10
"""So few different texts are categories, however few rows there are."""
LEFT_OUT = "is left out of training: "
"""How the warning of a guess begins that leaves a column out."""

_ID_NAME = re.compile(
    r"(.*[_\W])?(?i:id|index|uuid|guid)|.*[a-z0-9](Id|ID)|(?i:row|row[ _]?number)|__index_level_\d+__|Unnamed: 0",
    re.DOTALL,
)
"""``id``, ``user_id``, ``userId``, ``index``, ``row-uuid``; the last two are how pandas names an index in a file."""


def guess_kind(column: Column, rows: int, max_categories: int, *, looks_like_code: bool = False) -> ColumnKind:
    """Guess what a column is from what was measured on all its cells.

    ``looks_like_code`` says of a text column that its cells are short and hold no blanks.
    """
    unique = column.unique or 0
    differ = unique == rows >= MIN_ID_ROWS
    if column.stored == "boolean":
        return "boolean"
    if column.stored == "number":
        return "id" if differ and column.is_integer and _ID_NAME.fullmatch(column.name) else "numeric"
    if column.date_format is not None:
        return "date"
    if differ and looks_like_code:
        return "id"
    given = rows - (column.missing or 0)
    repeats = unique < given and (unique <= ALWAYS_CATEGORIES or 2 * unique <= given)
    return "categorical" if 0 < unique <= max_categories and repeats else "text"


def left_out_warning(column: Column, max_categories: int) -> str | None:
    """Say in plain words that a guess leaves a column out of training, and how to take it in; None if it does not."""
    name, unique = column.name[:64], column.unique or 0
    if unique == 0:
        return f"{LEFT_OUT}it has no cells at all"
    if column.kind == "id" and column.stored == "number":
        return f"{LEFT_OUT}its numbers look like an identifier of the rows; to use it, set ?kinds={name}:numeric"
    if column.kind not in ("id", "text"):
        return None
    what = "looks like an identifier" if column.kind == "id" else "looks like free text"
    if unique > max_categories:
        return f"{LEFT_OUT}it {what}, and its {unique:,} different cells are too many for categories"
    return f"{LEFT_OUT}it {what}, with {unique:,} different cell(s); to use it, set ?kinds={name}:categorical"


def counting_warning(column: Column, rows: int) -> str | None:
    """Say of a numeric column that it may number the rows: it counts up by one, in whatever order."""
    if column.kind != "numeric" or not column.is_integer or not column.unique == rows >= MIN_ID_ROWS:
        return None
    assert isinstance(column.min, int | float)
    assert isinstance(column.max, int | float)
    if column.max - column.min + 1 != rows:
        return None
    name = column.name[:64]
    return (
        f"holds every number from {column.min:.0f} to {column.max:.0f} once; if it numbers rows, set ?kinds={name}:id"
    )


def change_kind(column: Column, kind: ColumnKind, max_categories: int) -> Column:
    """Return a stored column with another kind; what was measured on its cells stays.

    Raises:
        InvalidTable: its stored cells cannot be taken so.
    """
    if problem := refusal(column, kind, max_categories):
        raise InvalidTable([Violation(f"#/kinds/{column.name}", problem)])
    warnings = tuple(warning for warning in column.warnings if not warning.startswith(LEFT_OUT))
    return replace(column, kind=kind, warnings=warnings)


def refusal(column: Column, kind: ColumnKind, max_categories: int) -> str | None:
    """Say why a column as it is stored cannot have a kind, or None if it can."""
    unique = column.unique or 0
    if kind in ("id", "text") or kind == column.kind:
        return None
    if kind == "categorical":
        if unique > max_categories:
            return f"has {unique:,} different cells; categories are at most {max_categories:,}"
        return None
    if kind == "numeric" and column.stored == "text":
        return f"is stored as text; to read it as numbers, upload it again with ?kinds={column.name[:64]}:numeric"
    if kind == "date" and column.stored == "text":
        if column.date_format is None:
            return "holds cells that are no dates, or dates in more than one way of writing; write them as YYYY-MM-DD"
        return None
    if kind == "boolean" and column.stored == "text":
        return "holds other cells than true and false; write these, or take it as categorical"
    if kind == "boolean" and column.stored == "number" and not _is_zero_or_one(column):
        return f"is a number between {column.min} and {column.max}; only columns of 0 and 1 can be boolean"
    if (kind == "numeric" and column.stored == "number") or (kind == "boolean" and column.stored != "text"):
        return None
    return f"is stored as {column.stored} and cannot be {kind}; it can be {_allowed(column, max_categories)}"


def _allowed(column: Column, max_categories: int) -> str:
    kinds: tuple[ColumnKind, ...] = ("numeric", "categorical", "boolean", "date", "id", "text")
    own = {"number": "numeric", "boolean": "boolean", "text": "text"}[column.stored]
    fit = (column.unique or 0) <= max_categories
    dated = column.date_format is not None
    usable = {own, "id", "text", *(["categorical"] * fit), *(["date"] * dated)}
    return ", ".join(kind for kind in kinds if kind in usable)


def _is_zero_or_one(column: Column) -> bool:
    """Whether a number column holds nothing but 0 and 1: two different values are its least and its greatest."""
    return (column.unique or 0) <= 2 and {column.min, column.max} <= {0, 1}
