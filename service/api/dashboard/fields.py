"""The form that asks a model: a field for each column that it takes, with what training knew of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from service.api.dashboard.pages import cell, number
from service.domain import dates
from service.domain.datasets import MAX_CELL_LENGTH, Column, Dataset
from service.domain.encoders import CategoricalEncoder, DateEncoder, Encoder, NumericEncoder
from service.domain.models import NEVER_CHANGED, ModelVersion
from service.use_cases.model_card import example_row

MOST_OPTIONS = 200
"""Of more known categories the first are offered, and any of them can be typed."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form; ``value`` is what it begins with, None for a gap."""

    name: str
    control: Literal["number", "choice", "text", "date", "datetime"]
    holds: Literal["text", "number", "boolean"]
    may_be_empty: bool
    hint: str
    value: Any
    options: tuple[tuple[str, str], ...] = ()
    """What can be chosen: each as JSON, and as people read it."""
    written: str | None = None
    """How the table writes its dates."""


def fields_of(version: ModelVersion, dataset: Dataset | None) -> list[Field]:
    """Return a field for every column that a version takes; ``dataset`` is its table, if that still exists."""
    encoders = version.inputs.encoders
    known = {} if dataset is None else {column.name: column for column in dataset.columns}
    starts = accumulate((encoder.width for encoder in encoders[:-1]), initial=0)
    middle = example_row(version)
    return [
        _field(encoder, known.get(encoder.name), middle, version.inputs.mean[start], version.inputs.scale[start])
        for encoder, start in zip(encoders, starts, strict=True)
    ]


def row_of(fields: list[Field]) -> dict[str, Any]:
    """Return the row that the form begins with."""
    return {field.name: field.value for field in fields}


def _field(encoder: Encoder, column: Column | None, middle: Mapping[str, Any], mean: float, scale: float) -> Field:
    value = _example(column)
    value = middle[encoder.name] if value is None else value
    match encoder:
        case CategoricalEncoder():
            return _choice(encoder, value)
        case DateEncoder():
            return _date(encoder, column, value)
        case NumericEncoder():
            hint = _range(encoder, column, mean, scale)
            return Field(encoder.name, "number", "number", encoder.gaps, _with_gaps(hint, encoder), value)
    options = (("true", "true"), ("false", "false"))
    # What is stored as 0 and 1 may be boolean as well.
    return Field(encoder.name, "choice", "boolean", encoder.gaps, _with_gaps("", encoder), bool(value), options)


def _choice(encoder: CategoricalEncoder, value: Any) -> Field:
    known = (*encoder.categories, *encoder.rare)
    options = tuple((json.dumps(one, ensure_ascii=False), cell(one)) for one in known[:MOST_OPTIONS])
    if value not in known:
        value = known[0] if known else None
    is_short = len(known) <= MOST_OPTIONS
    hint = "" if is_short else f"one of {len(known):,} that training saw"
    control: Literal["choice", "text"] = "choice" if is_short else "text"
    return Field(encoder.name, control, encoder.holds, encoder.gaps, _with_gaps(hint, encoder), value, options)


def _date(encoder: DateEncoder, column: Column | None, value: Any) -> Field:
    moment = dates.parse_one(str(value), encoder.written)
    text = None if moment is None else moment.isoformat(timespec="seconds")
    if text is not None and not encoder.has_time:
        text = text[:10]
    hint = f"{column.min} to {column.max}" if column is not None and column.min is not None else ""
    control: Literal["date", "datetime"] = "datetime" if encoder.has_time else "date"
    hint = _with_gaps(hint, encoder)
    return Field(encoder.name, control, "text", encoder.gaps, hint, text, written=encoder.written)


def _example(column: Column | None) -> Any:
    """Return the first cell of a column that is no gap; None where it is not known in full."""
    first = column.examples[0] if column is not None and column.examples else None
    return None if isinstance(first, str) and len(first) >= MAX_CELL_LENGTH else first


def _range(encoder: NumericEncoder, column: Column | None, mean: float, scale: float) -> str:
    """Say where the numbers of a column lay: all of the table's, and on average those of the training rows."""
    said = []
    if column is not None and column.min is not None:
        said.append(f"{cell(column.min)} to {cell(column.max)}")
    if encoder.transform is None:
        never_changed = scale >= NEVER_CHANGED
        said.append(f"always {number(mean)}" if never_changed else f"mean {number(mean, 3)} ± {number(scale, 3)}")
    return "; ".join(said)


def _with_gaps(hint: str, encoder: Encoder) -> str:
    return "; ".join(filter(None, (hint, "may stay empty" if encoder.gaps else "")))
