"""Raw rows in, a matrix out: what clients send, checked against the columns that a model takes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.bounds import shown
from service.domain.errors import InvalidRows, Violation
from service.domain.models import Inputs

FLOAT32_MAX = float(np.finfo(np.float32).max)
MAX_VIOLATIONS = 20
MAX_ROWS = 100_000
"""More rows in one request would take hundreds of megabytes on their way."""
NUMBERS = frozenset({int, float})


def matrix(instances: Sequence[Any], inputs: Inputs) -> NDArray[np.float64]:
    """Make a float64 matrix (rows, features) of arrays in column order or objects by column name.

    Raises:
        InvalidRows: names the row and the column of every problem, at most 20.
    """
    if not instances:
        raise InvalidRows([Violation("#/instances", "has no rows; send at least one")])
    if len(instances) > MAX_ROWS:
        detail = f"has {len(instances):,} rows; at most {MAX_ROWS:,} are answered at once. Send them in parts"
        raise InvalidRows([Violation("#/instances", detail)])
    found: list[Violation] = []
    rows = []
    for position, instance in enumerate(instances):
        if (row := _row(position, instance, inputs, found)) is not None:
            rows.append(row)
        if len(found) >= MAX_VIOLATIONS:
            break
    if found:
        raise InvalidRows(found[:MAX_VIOLATIONS])
    return np.array(rows, np.float64)


def _row(position: int, instance: Any, inputs: Inputs, found: list[Violation]) -> Sequence[Any] | None:
    if isinstance(instance, Mapping):
        values = _by_name(position, instance, inputs, found)
    elif isinstance(instance, list):
        values = _by_order(position, instance, inputs, found)
    else:
        wanted = f"an array of {len(inputs.features)} numbers or an object by column name"
        found.append(Violation(f"#/instances/{position}", f"row {position} must be {wanted}; got {shown(instance)}"))
        return None
    if values is None:
        return None
    if "boolean" not in inputs.kinds and _are_plain(values):
        return values
    for name, kind, value in zip(inputs.features, inputs.kinds, values, strict=True):
        if problem := _problem(kind, value):
            found.append(Violation(f"#/instances/{position}", f"row {position}, column {shown(name)}: {problem}"))
    return values


def _are_plain(values: Sequence[Any]) -> bool:
    """Whether all are numbers that float32 can hold: the common case, decided without a loop in Python."""
    if not NUMBERS.issuperset(map(type, values)):
        return False
    return min(values) >= -FLOAT32_MAX and max(values) <= FLOAT32_MAX and all(map(math.isfinite, values))


def _by_order(position: int, values: list[Any], inputs: Inputs, found: list[Violation]) -> list[Any] | None:
    if len(values) == len(inputs.features):
        return values
    detail = (
        f"row {position} has {len(values)} values; the model takes {len(inputs.features)}: {_listed(inputs.features)}"
    )
    found.append(Violation(f"#/instances/{position}", detail))
    return None


def _by_name(position: int, row: Mapping[str, Any], inputs: Inputs, found: list[Violation]) -> list[Any] | None:
    if row.keys() == set(inputs.features):
        return [row[name] for name in inputs.features]
    missing = [name for name in inputs.features if name not in row]
    unknown = [name for name in row if name not in set(inputs.features)]
    if missing:
        found.append(Violation(f"#/instances/{position}", f"row {position} lacks the column(s) {_listed(missing)}"))
    if unknown:
        detail = f"row {position} has column(s) that the model does not take: {_listed(unknown)}; leave them out"
        found.append(Violation(f"#/instances/{position}", detail))
    return None


def _problem(kind: str, value: Any) -> str | None:
    if type(value) is bool:
        return None if kind == "boolean" else f"must be a number; got {str(value).lower()}"
    if kind == "boolean" and (type(value) not in NUMBERS or value not in (0, 1)):
        return f"must be true or false; got {shown(value)}"
    if value is None:
        return "is null, and training saw no gaps in this column; send a number"
    if type(value) not in NUMBERS:
        return f"must be a number; got {shown(value)}"
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX:
        return f"must lie within ±3.4e38 (float32); got {shown(value)}"
    return None


def _listed(names: Sequence[str], most: int = 10) -> str:
    rest = len(names) - most
    return ", ".join(shown(name) for name in names[:most]) + (f" and {rest} more" if rest > 0 else "")
