"""How what a user passes becomes part of a request: addresses, parameters and JSON bodies."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from service.client.steps import Exchange

if TYPE_CHECKING:
    from pydantic import BaseModel


PAGE_SIZE = 100
"""So many things of a list come at once."""


_written = json.JSONEncoder(allow_nan=False).encode


class Identified(Protocol):
    """Anything with an id, such as the view of a job."""

    @property
    def id(self) -> str:
        """What the service calls it."""


Reference = str | Identified
"""An id, or what the service has said of the thing, which has its id."""


def at(*parts: Reference | int) -> str:
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


def listing(path: str, token: str | None, **wanted: Any) -> Exchange:
    """Return the request for the page of a list that is behind a token."""
    return Exchange("GET", path, given(**wanted, page_size=PAGE_SIZE, page_token=token))


def fields_of(spec: BaseModel | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec as plain fields; those that are given by name take the place of the spec's own."""
    asked = spec if spec is None or isinstance(spec, Mapping) else spec.model_dump(mode="json")
    return {**(asked or {}), **fields}


def with_json(method: str, path: str, body: Any, *, params: Mapping[str, Any] | None = None) -> Exchange:
    """Return a request that carries JSON, in which nothing is missing: a null that nobody wrote would be a default.

    Raises:
        TypeError, ValueError: as ``encoded`` does, and where a number is none.
    """
    headers = {"Content-Type": "application/json"}
    return Exchange(method, path, params or {}, headers, encoded(body, has_gaps=False))


def encoded(value: Any, *, has_gaps: bool = True) -> bytes:
    """Return a value as JSON text: arrays and tuples as lists, views by their id, and in rows NaN and its like as null.

    Raises:
        TypeError: JSON has nothing for it.
        ValueError: it holds an infinite number, or one that is none where there are no gaps.
    """
    try:
        return _written(value).encode()
    except (TypeError, ValueError):  # there is something unusual in it, which takes ten times as long
        return _written(plain(value, has_gaps=has_gaps)).encode()


def plain(value: Any, *, has_gaps: bool = True) -> Any:
    """Return a value made of what JSON has.

    Raises:
        TypeError, ValueError: as ``encoded`` does.
    """
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else _not_finite(value, has_gaps=has_gaps)
        case Mapping():
            return {str(name): plain(cell, has_gaps=has_gaps) for name, cell in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(cell, has_gaps=has_gaps) for cell in value]
    if _is_model(value):
        return value.id if hasattr(value, "id") else value.model_dump(mode="json")
    if is_missing(value):
        return _not_finite(math.nan, has_gaps=has_gaps)
    if hasattr(value, "tolist"):  # an array, or a scalar, of NumPy
        return plain(value.tolist(), has_gaps=has_gaps)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if type(value).__name__ == "Decimal":
        return plain(float(value), has_gaps=has_gaps)
    raise TypeError(f"JSON has nothing for {type(value).__name__}; pass text, numbers, booleans, dates or None")


def _is_model(value: Any) -> bool:
    return hasattr(value, "model_dump")  # To import pydantic takes as long as all the rest of the client.


def is_missing(value: Any) -> bool:
    """Whether a value stands for a missing cell: NaN, pandas' NaT and NA."""
    if type(value).__name__ in ("NaTType", "NAType"):
        return True
    try:
        return bool(value != value)  # only NaN differs from itself
    except (TypeError, ValueError):  # an array has no truth
        return False


def _not_finite(value: float, *, has_gaps: bool) -> None:
    if not has_gaps:
        raise ValueError(f"{value} is no number that the service takes; leave the field out, or mend it")
    if not math.isnan(value):
        raise ValueError(f"{value} is no number that the service takes; leave the cell empty (None), or mend it")
