"""Fit encoders on training rows.

A training does so on all its rows, ``POST /probe`` on some. The API installs no scikit-learn; the tests hold what is
fitted here against its estimators.
"""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain import dates
from service.domain.datasets import Column
from service.domain.encoders import (
    BooleanEncoder,
    CategoricalEncoder,
    DateEncoder,
    Encoder,
    NumericEncoder,
    Quantile,
    Robust,
    date_parts,
)
from service.domain.features import encoded_as
from service.domain.models import NEVER_CHANGED
from service.domain.spec import NumericPreparation, PreparationSpec

MIN_ROWS_PER_CATEGORY = 5
"""A rarer category shares a column with others: so few rows teach it nothing, and the shared one answers the unseen."""
MIN_SHARE_PER_CATEGORY = 0.01
"""In small tables, where this is fewer rows, it counts instead."""
QUANTILES = 256
NOISE = 1e-12
"""A spread smaller than this against the mean is rounding."""
CHUNK_ROWS = 65_536
FEW_COLUMNS = 16


def fit(
    column: Column, values: NDArray[Any], preparation: PreparationSpec, missing_words: Sequence[str] = ()
) -> Encoder:
    """Fit the encoder of a column's kind.

    ``values`` are the cells (rows,) of the training rows, NaN or None where missing. Whether gaps are expected follows
    from the whole column, so that a gap in the other parts has a place too. ``missing_words`` stand for a gap in every
    column of the table.
    """
    gaps = bool(column.missing)
    words = tuple(word for word in dict.fromkeys((*missing_words, *column.missing_tokens)) if word)
    match encoded_as(column):
        case "categorical":
            return _categorical(column, values, preparation.max_categories, words)
        case "boolean":
            return BooleanEncoder(column.name, gaps, _mean(values.astype(np.float64)) if gaps else 0.0, words)
        case "date":
            return _date(column, values, gaps, words)
        case _:
            numbers = values.astype(np.float64)
            transform = _transform(preparation.numeric, numbers[~np.isnan(numbers)])
            if transform is not None:
                numbers = transform.apply(numbers)
            return NumericEncoder(column.name, gaps, _mean(numbers) if gaps else 0.0, transform, words)


def distinct(values: NDArray[Any], on_wait: Callable[[], None] = lambda: None) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the values that cells (rows,) have, sorted, and for each cell which of them it has.

    NumPy sorts Python objects without letting any other thread run: where there are 50 million of them, nobody could
    renew the lease for half a minute. They are taken piece by piece, and ``on_wait`` is called between the pieces.
    """
    if values.dtype.kind != "O":
        found, codes = np.unique(values, return_inverse=True)
        return found.tolist(), codes
    numbers: dict[Any, int] = {}
    codes = np.empty(len(values), np.int64)
    for start in range(0, len(values), CHUNK_ROWS):
        piece = slice(start, start + CHUNK_ROWS)
        codes[piece] = [numbers.setdefault(value, len(numbers)) for value in values[piece].tolist()]
        on_wait()
    ordered = sorted(numbers)
    places = np.empty(len(numbers), np.int64)
    places[[numbers[value] for value in ordered]] = np.arange(len(numbers))
    return ordered, places[codes]


def moments(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation down the rows; a constant column gets a scale that makes 0 of every value."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused, by name, once it is standardized
        mean = values.mean(axis=0, dtype=np.float64)
        return mean, _usable_scale(mean, values.std(axis=0, dtype=np.float64))


def encoded_moments(encoder: Encoder, values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``moments`` of what an encoder makes of cells (rows,), piece by piece, for it may make many columns."""
    pieces = [slice(start, start + CHUNK_ROWS) for start in range(0, len(values), CHUNK_ROWS)]
    if len(pieces) == 1 or len(encoder.columns) <= FEW_COLUMNS:
        return moments(encoder.encode(values))
    mean = sum(encoder.encode(values[piece]).sum(axis=0) for piece in pieces) / len(values)
    squares = sum(((encoder.encode(values[piece]) - mean) ** 2).sum(axis=0) for piece in pieces)
    return np.asarray(mean), _usable_scale(np.asarray(mean), np.sqrt(squares / len(values)))


def _usable_scale(mean: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace scales that are rounding: the network never saw such a column change, so no change may reach it."""
    return np.where(scale <= NOISE * np.maximum(np.abs(mean), 1e-300), NEVER_CHANGED, scale)


def _categorical(
    column: Column, values: NDArray[Any], max_categories: int, words: tuple[str, ...]
) -> CategoricalEncoder:
    missing = np.array([cell is None or cell != cell for cell in values.tolist()], bool)  # a NaN differs from itself
    given = values[~missing]
    if column.is_integer and given.dtype.kind == "f":
        given = given.astype(np.int64)  # gaps had made them floats
    if not len(given):
        return CategoricalEncoder(
            column.name, (), other=True, gaps=bool(column.missing), holds=column.stored, missing_tokens=words
        )
    fewest = max(1, min(MIN_ROWS_PER_CATEGORY, int(len(values) * MIN_SHARE_PER_CATEGORY)))
    categories, codes = distinct(given)
    is_rare = _rare(np.bincount(codes), fewest, max_categories)
    return CategoricalEncoder(
        column.name,
        tuple(category for category, rare in zip(categories, is_rare, strict=True) if not rare),
        other=bool(is_rare.any()),
        gaps=bool(column.missing),
        rare=tuple(category for category, rare in zip(categories, is_rare, strict=True) if rare),
        holds=column.stored,
        missing_tokens=words,
    )


def _rare(counts: NDArray[np.int64], fewest: int, most: int) -> NDArray[np.bool_]:
    """Say which categories share a column: those of few rows, and so many more that at most ``most`` have their own."""
    rare = counts < fewest
    if len(counts) - rare.sum() > most:
        rare[np.argsort(counts, kind="stable")[: len(counts) - most]] = True
    return rare


def _date(column: Column, values: NDArray[Any], gaps: bool, tokens: tuple[str, ...]) -> DateEncoder:
    written = column.date_format or dates.ISO
    parsed, _ = dates.parse(values, written)
    given = parsed[~np.isnat(parsed)]
    has_time = bool((given != given.astype("datetime64[D]")).any())
    means = date_parts(given, has_time=has_time).mean(axis=0) if gaps and len(given) else np.array([])
    return DateEncoder(column.name, written, has_time, gaps, tuple(means.tolist()), tokens)


def _transform(how: NumericPreparation, given: NDArray[np.float64]) -> Robust | Quantile | None:
    if how == "standard" or not len(given) or given.min() == given.max():
        return None
    if how == "robust":
        low, center, high = np.quantile(given, (0.25, 0.5, 0.75)).tolist()
        # Where more than half of the cells are equal the quartiles say nothing, and the range does (as in RealMLP).
        return Robust(center, (high - low) or float(given.max() - given.min()) / 2)
    count = min(QUANTILES, len(given))
    # In percent and back, for the last digit of what they make depends on it.
    quantiles = np.percentile(given, np.linspace(0, 1, count) * 100)
    at, first, repeats = np.unique(quantiles, return_index=True, return_counts=True)
    # A value that fills several quantiles stands for the middle of them; the ends stay where a normal sample has them.
    places = (first + (repeats - 1) / 2 + 0.5) / count
    return Quantile(tuple(at.tolist()), tuple(map(NormalDist().inv_cdf, places.tolist())))


def _mean(numbers: NDArray[np.float64]) -> float:
    return float(np.nanmean(numbers)) if not np.isnan(numbers).all() else 0.0
