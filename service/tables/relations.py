"""What a table shows only as a whole: rows that repeat, columns that say the same, and what its owner should know."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.domain.datasets import Column, Related
from service.domain.wording import listed
from service.tables.cells import TypedColumn, is_text
from service.tables.distinct import Distinct

MIN_ROWS = 20
"""In fewer rows, columns agree by chance."""
SAMPLE_ROWS = 10_000
MAX_COMPARED = 200
"""So many columns are compared with each other."""
CORRELATED = 0.999
MAX_CLASSES = 50
MIN_ROWS_PER_CLASS = 5
MAX_RELATED = 100

_BLOCK_ROWS = 16_384
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_MISSING = np.uint64(0x7FF8DEADBEEF0001)
"""Bits that no float64 in use and no ordinary integer has."""


def count_duplicates(columns: Sequence[TypedColumn]) -> int:
    """Count the rows that are equal, cell by cell, to an earlier one: by 64-bit hashes of rows."""
    bits = [_bits(column) for column in columns]
    hashes = np.zeros(len(bits[0]), np.uint64)
    for start in range(0, len(hashes), _BLOCK_ROWS):
        block = hashes[start : start + _BLOCK_ROWS]
        for cells in bits:
            block ^= cells[start : start + _BLOCK_ROWS]
            block *= _FACTOR
            block ^= block >> _HALF  # the low bits of most float64 are 0: without it they would tell nothing
    hashes.sort()
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))


def find_related(columns: Sequence[TypedColumn], described: Sequence[Column]) -> tuple[Related, ...]:
    """Find pairs of columns that say nearly the same; the later two ways are looked for in a sample of the rows."""
    varied = [(c, d) for c, d in zip(columns, described, strict=True) if d.unique is not None and d.unique > 1]
    rows = len(columns[0].values)
    if rows < MIN_ROWS or not varied:
        return ()
    sample = np.linspace(0, rows - 1, min(rows, SAMPLE_ROWS)).astype(np.int64)
    found = {(pair.first, pair.second): pair for pair in _equal(varied)}
    doubles = {second for _, second in found}
    rest = [pair for pair in varied if pair[0].name not in doubles]
    for pair in (*_correlated(rest, sample), *_one_to_one(rest, sample, rows)):
        found.setdefault((pair.first, pair.second), pair)
    return tuple(found.values())[:MAX_RELATED]


def warnings(described: Sequence[Column], rows: int, duplicates: int, related: Sequence[Related]) -> tuple[str, ...]:
    """Say in plain words what its owner should know about a table."""
    equal = [f"{pair.first} = {pair.second}" for pair in related if pair.how == "equal"]
    alike = [f"{pair.first} ~ {pair.second}" for pair in related if pair.how != "equal"]
    found = {
        "no cells at all in": [column.name for column in described if column.unique == 0],
        "always the same, so nothing can be learned from": [column.name for column in described if column.unique == 1],
        "look like identifiers and are left out of training": [
            column.name for column in described if column.kind == "id"
        ],
        "columns that are equal, cell by cell": equal,
        "columns that say nearly the same, which is a leak where one of them is the target": alike,
    }
    repeated = f"{duplicates:,} of {rows:,} rows are equal to an earlier one"
    if duplicates:
        repeated += ": equal rows may come to lie in the training and in the test part"
    said = tuple(f"{what}: {listed(names)}" for what, names in found.items() if names)
    return (*said, repeated) if duplicates else said


def _bits(column: TypedColumn) -> NDArray[np.uint64]:
    """Return 64 bits for each cell, (rows,), equal where cells are."""
    if is_text(column.values.type):
        distinct = column.distinct or Distinct.of(column.values)
        return distinct.codes.astype(np.int64).view(np.uint64)
    values = column.values
    values = values.cast(pa.float64() if pa.types.is_floating(values.type) else pa.int64())
    bits: NDArray[np.uint64] = np.ascontiguousarray(values.fill_null(0).to_numpy()).view(np.uint64)
    if not values.null_count:
        return bits
    return np.where(values.is_null().to_numpy(), _MISSING, bits)


def _equal(varied: Sequence[tuple[TypedColumn, Column]]) -> list[Related]:
    """Pair every column with the first one that it equals; only those whose measures agree are compared."""
    groups: dict[Hashable, list[TypedColumn]] = {}
    found = []
    for column, measured in varied:
        key = (measured.stored, measured.missing, measured.unique, measured.min, measured.max, measured.mean)
        group = groups.setdefault((key, measured.top, measured.examples), [])
        twin = next((other for other in group if other.values.equals(column.values)), None)
        if twin is None:
            group.append(column)
        else:
            found.append(Related(twin.name, column.name, "equal", 1.0))
    return found


def _correlated(varied: Sequence[tuple[TypedColumn, Column]], sample: NDArray[np.int64]) -> list[Related]:
    numeric = [column for column, measured in varied if measured.stored == "number"][:MAX_COMPARED]
    if len(numeric) < 2:
        return []
    values = np.stack([_sampled_numbers(column, sample) for column in numeric])
    values -= values.mean(axis=1, keepdims=True)
    scale = np.abs(values).max(axis=1, keepdims=True)
    values /= np.where(scale > 0, scale, 1.0)  # squares of 1e38 are fine, sums of products of 1e-200 are not
    length = np.sqrt((values**2).sum(axis=1))
    products = values @ values.T
    norms = np.outer(length, length)
    strength = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    pairs = np.argwhere(np.triu(np.abs(strength) > CORRELATED, 1))
    found = [
        Related(numeric[i].name, numeric[j].name, "correlated", round(float(np.clip(strength[i, j], -1, 1)), 6))
        for i, j in pairs[: 10 * MAX_RELATED]
    ]
    return sorted(found, key=lambda pair: -abs(pair.strength))


def _one_to_one(varied: Sequence[tuple[TypedColumn, Column]], sample: NDArray[np.int64], rows: int) -> list[Related]:
    """Pair columns whose classes, numbered in order of appearance, are the same row by row."""
    most = min(MAX_CLASSES, rows // MIN_ROWS_PER_CLASS)
    classes = [column for column, measured in varied if 2 <= (measured.unique or 0) <= most]
    groups: dict[bytes, str] = {}
    found = []
    for column in classes[:MAX_COMPARED]:
        numbered = _in_order_of_appearance(_bits(column)[sample])
        if numbered.max() == 0:
            continue
        first = groups.setdefault(numbered.tobytes(), column.name)
        if first != column.name:
            found.append(Related(first, column.name, "one_to_one", 1.0))
    return found


def _sampled_numbers(column: TypedColumn, sample: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return numbers of the sample, gaps filled with their mean."""
    values: NDArray[np.float64] = column.values.take(pa.array(sample)).cast(pa.float64(), safe=False).to_numpy().copy()
    gaps = np.isnan(values)
    values[gaps] = values[~gaps].mean() if not gaps.all() else 0.0
    return values


def _in_order_of_appearance(bits: NDArray[Any]) -> NDArray[np.int64]:
    _, first, codes = np.unique(bits, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[codes]
