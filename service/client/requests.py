"""How what a user passes becomes part of a request: addresses, parameters and JSON bodies."""

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import BaseModel

from service.client.steps import Exchange


class Identified(Protocol):
    """Anything with an id, such as the view of a job."""

    @property
    def id(self) -> str:
        """What the service calls it."""


Reference = str | Identified
"""An id, or what the service has said of the thing, which has its id."""


def at(*parts: "Reference | int") -> str:
    """Return the address under which something is, such as ``/jobs/3f2a/cancel``.

    Raises:
        ValueError: a part is empty, so that the address would be that of something else.
    """
    named = [str(part) if isinstance(part, str | int) else part.id for part in parts]
    if not all(named):
        raise ValueError(f"an id or a name is empty in /{'/'.join(named)}; pass that of the thing you mean")
    return "".join(f"/{quote(part, safe='')}" for part in named)


def given(**params: Any) -> dict[str, Any]:
    """Return the parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def fields_of(spec: BaseModel | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec as plain fields; those that are given by name take the place of the spec's own."""
    if isinstance(spec, BaseModel):
        spec = spec.model_dump(mode="json")
    return {**(spec or {}), **fields}


def with_json(method: str, path: str, body: Any, *, params: Mapping[str, Any] | None = None) -> Exchange:
    """Return a request that carries JSON."""
    headers = {"Content-Type": "application/json"}
    return Exchange(method, path, params or {}, headers, encoded(body))


def encoded(value: Any) -> bytes:
    """Return a value as JSON text: arrays and tuples as lists, NaN and its like as null, views by their id.

    Raises:
        TypeError: JSON has nothing for it.
        ValueError: it holds an infinite number.
    """
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError):  # there is something unusual in it, which takes ten times as long
        return json.dumps(plain(value), allow_nan=False).encode()


def plain(value: Any) -> Any:
    """Return a value made of what JSON has.

    Raises:
        TypeError, ValueError: as ``encoded`` does.
    """
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else _not_finite(value)
        case Mapping():
            return {str(name): plain(cell) for name, cell in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(cell) for cell in value]
        case BaseModel():
            return value.id if hasattr(value, "id") else value.model_dump(mode="json")
    if is_missing(value):
        return None
    if hasattr(value, "tolist"):  # an array, or a scalar, of NumPy
        return plain(value.tolist())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if type(value).__name__ == "Decimal":
        return plain(float(value))
    raise TypeError(f"JSON has nothing for {type(value).__name__}; pass text, numbers, booleans, dates or None")


def is_missing(value: Any) -> bool:
    """Whether a value stands for a missing cell: NaN, pandas' NaT and NA."""
    if type(value).__name__ in ("NaTType", "NAType"):
        return True
    try:
        return bool(value != value)  # only NaN differs from itself
    except (TypeError, ValueError):  # an array has no truth
        return False


def _not_finite(value: float) -> None:
    if math.isnan(value):
        return
    raise ValueError(f"{value} is no number that the service takes; leave the cell empty (None), or mend it")
