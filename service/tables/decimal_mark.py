"""Which mark separates whole numbers from fractions in a file whose columns are not separated by commas."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from service.domain.wording import listed, shown
from service.tables.cells import TypedColumn
from service.tables.number_cells import check_range


def settle(columns: Sequence[TypedColumn]) -> tuple[list[TypedColumn], str, tuple[str, ...]]:
    """Decide the decimal mark of a file once all of its columns are known.

    The comma is it where some column can be read in no other way and none has decimal points. Where both are found,
    each column is read by its own; where a mark may as well group digits, nothing is guessed that a factor of 1000
    hangs on without saying so.

    Returns the columns, the mark, and what the owner should know.

    Raises:
        InvalidTable: a number is beyond float32.
    """
    with_comma = [column for column in columns if column.with_comma and column.with_comma.is_certain]
    points = [column.name for column in columns if column.has_decimal_point]
    mark = "," if with_comma and not points else "."
    settled = [_settled(column, mark) for column in columns]
    if not with_comma or not points:
        return settled, mark, ()
    warning = (
        f"decimal commas in {listed([column.name for column in with_comma])}, decimal points in {listed(points)}: "
        "each column is read by its own mark"
    )
    return settled, mark, (warning,)


def _settled(column: TypedColumn, mark: str) -> TypedColumn:
    other = column.with_comma
    if other is None:
        return column
    is_text = column.distinct is not None
    if other.is_certain or mark == ",":
        check_range(column.name, other.values)
        warnings = () if is_text else (_points_warning(other.values),)
        return TypedColumn(column.name, other.values, missing_tokens=other.missing_tokens, warnings=warnings)
    if not is_text:
        return replace(column, with_comma=None)
    cell = shown(column.values.drop_null()[0].as_py())
    warning = (
        f"cells such as {cell} may hold decimal commas or commas between groups of digits, so they are taken as text; "
        f"write them with a decimal point or without groups, or upload it again with ?kinds={column.name[:64]}:numeric "
        "to read the commas as decimal marks"
    )
    return replace(column, with_comma=None, warnings=(*column.warnings, warning))


def _points_warning(values: pa.ChunkedArray) -> str:
    first = values.drop_null()[0].as_py()
    return f"the file has decimal commas, so points are read as marks between groups of digits: the first as {first:,}"
