"""From cells of text to typed columns: numbers, booleans, or text.

What a column is depends on all of its cells and on nothing else. Most columns of numbers are told by trying to read
them; what that does not settle is decided on the different cells, of which there are few or which are needed anyway.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.domain.datasets import MISSING_TOKENS, NUMERIC_MISSING_TOKENS, ColumnKind
from service.domain.wording import shown
from service.tables import date_cells, number_cells
from service.tables.distinct import Distinct, Mask
from service.tables.refusals import refused, refused_kind

MAX_STRAY_SHARE = 0.05
"""So large a part of a column may be something else, and its owner is told that it nearly is one of numbers."""

LOOKED_AT_FIRST = 1_000
MAX_WAYS_TO_WRITE_BOOLEANS = 64
"""Cases and blanks around them included."""


@dataclass(frozen=True, slots=True)
class Words:
    """What stands for a missing cell, beside the empty one."""

    everywhere: tuple[str, ...] = ()
    among_numbers: tuple[str, ...] = ()
    """Where all other cells of the column are numbers."""


WORDS_OF_TEXT_FILES = Words(MISSING_TOKENS, NUMERIC_MISSING_TOKENS)


@dataclass(frozen=True, slots=True)
class WithComma:
    """What a column would be if the comma were the decimal mark of its file."""

    values: pa.ChunkedArray
    missing_tokens: dict[str, int]
    is_certain: bool
    """Whether some comma can be nothing else: ``1,5``, not ``1,500``."""


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """A column whose cells have been understood."""

    name: str
    values: pa.ChunkedArray
    """int64, float, bool, or text, as strings or a dictionary of them; null where missing."""
    distinct: Distinct | None = None
    """The different cells of a column of text, where they are known."""
    missing_tokens: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    has_decimal_point: bool = False
    with_comma: WithComma | None = None


@dataclass(frozen=True, slots=True)
class TypedTable:
    """A table whose cells have been understood, and what its file says of itself."""

    columns: list[TypedColumn]
    source: dict[str, Any]
    warnings: tuple[str, ...] = ()
    date_formats: tuple[str, ...] = date_cells.ISO_ONLY
    """How dates may be written in it."""


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def typed(name: str, text: pa.ChunkedArray, words: Words, *, commas: bool = False) -> TypedColumn:
    """Read the cells of a text file, strings without null, as what all of them are.

    ``commas`` says that the comma may be the decimal mark: then the column says what it would be with it.

    Raises:
        InvalidTable: a number is beyond float32.
    """
    text_of_numbers, tokens = text, dict[str, int]()
    numbers = None if _any_reads_as_number(words.everywhere) else number_cells.parse(text)
    if numbers is None:
        if _begins_as_text(text, words.everywhere):
            return _typed_by_distinct(name, text, words, commas=commas)
        text_of_numbers, tokens = _present(text, words.everywhere)
        numbers = number_cells.parse(text_of_numbers)
    if numbers is None:
        return _typed_by_distinct(name, text, words, commas=commas)
    number_cells.check_range(name, numbers)
    column = TypedColumn(name, numbers, missing_tokens=tokens)
    if not commas or not pa.types.is_floating(numbers.type):
        return column
    if number_cells.has_decimal_point(text_of_numbers):
        return replace(column, has_decimal_point=True)
    grouped = number_cells.parse_comma(text_of_numbers)
    return column if grouped is None else replace(column, with_comma=WithComma(grouped, tokens, is_certain=False))


def understood(name: str, values: pa.ChunkedArray, words: Words, kind: ColumnKind | None) -> TypedColumn:
    """Take a column of a file whose cells have types: int64, float, bool or text, null or NaN where missing.

    Raises:
        InvalidTable: a number is beyond float32, or text that is to be numbers is none.
    """
    if is_text(values.type):
        distinct = Distinct.of(values)
        _check_no_nul(name, distinct)
        return forced_numbers(name, distinct, words) if kind == "numeric" else text_column(name, distinct, words)
    if pa.types.is_floating(values.type):
        number_cells.check_range(name, values)
        values = pc.if_else(
            pc.is_nan(values), pa.scalar(None, values.type), pc.add(values, pa.scalar(0.0, values.type))
        )
    if pa.types.is_boolean(values.type):
        return TypedColumn(name, values)
    values, tokens = _without_numbers(values, words.everywhere)
    return TypedColumn(name, values, missing_tokens=tokens)


def forced_numbers(name: str, distinct: Distinct, words: Words, *, commas: bool = False) -> TypedColumn:
    """Read the cells of a column as numbers because its owner says that they are; ``007`` is 7 then.

    Raises:
        InvalidTable: one is no number, or beyond float32; names the first.
    """
    trimmed = pc.utf8_trim_whitespace(distinct.cells)
    missing = _is_word(trimmed, (*words.everywhere, *words.among_numbers))
    are_numbers = number_cells.are_numbers(trimmed)
    comma_numbers = number_cells.are_comma_numbers(trimmed) if commas else are_numbers
    with_comma = bool((comma_numbers & ~are_numbers).any())
    if (wrong := ~missing & ~(comma_numbers if with_comma else are_numbers)).any():
        row, cell = distinct.first_row(wrong)
        detail = f"cannot be numeric: row {row:,} holds {shown(cell)}; {_missing_advice(cell)}"
        raise refused_kind(name, detail)
    if missing.all():
        raise refused_kind(name, "cannot be numeric: it has no cells at all")
    parse = number_cells.parse_comma if with_comma else number_cells.parse
    numbers = parse(_nulled(trimmed, missing), codes_too=True)
    assert numbers is not None
    column = TypedColumn(name, distinct.take(numbers), missing_tokens=_tokens(trimmed, missing, distinct))
    number_cells.check_range(name, column.values)
    return column


def text_column(name: str, distinct: Distinct, words: Words) -> TypedColumn:
    """Take cells as text as they went in; those that stand for missing ones become null."""
    trimmed = pc.utf8_trim_whitespace(distinct.cells)
    missing = _is_word(trimmed, words.everywhere)
    given = distinct.without(missing)
    warnings = _blanks_warning(trimmed.filter(pa.array(~missing)))
    return TypedColumn(name, given.to_arrow(), given, _tokens(trimmed, missing, distinct), warnings)


def _typed_by_distinct(name: str, text: pa.ChunkedArray, words: Words, *, commas: bool) -> TypedColumn:
    distinct = Distinct.of(text)
    trimmed = pc.utf8_trim_whitespace(distinct.cells)
    missing = _is_word(trimmed, words.everywhere)
    if not missing.all() and _are_booleans(trimmed, missing):
        values = _nulled(pc.equal(pc.utf8_lower(trimmed), "true"), missing)
        return TypedColumn(name, distinct.take(values), missing_tokens=_tokens(trimmed, missing, distinct))
    unknown = missing | _is_word(trimmed, words.among_numbers)
    tokens = _tokens(trimmed, unknown, distinct)
    if (~unknown).any() and (number_cells.are_numbers(trimmed) | unknown).all():
        numbers = number_cells.parse(_nulled(trimmed, unknown))
        if numbers is not None:
            column = TypedColumn(name, distinct.take(numbers), missing_tokens=tokens)
            number_cells.check_range(name, column.values)
            return column
    column = text_column(name, distinct, words)
    if commas and (~unknown).any() and (number_cells.are_comma_numbers(trimmed) | unknown).all():
        numbers = number_cells.parse_comma(_nulled(trimmed, unknown))
        if numbers is not None:
            is_certain = number_cells.has_decimal_comma(trimmed.filter(pa.array(~unknown)))
            return replace(column, with_comma=WithComma(distinct.take(numbers), tokens, is_certain))
    return replace(column, warnings=column.warnings + _stray_warning(name, trimmed, missing, distinct, commas=commas))


def _present(text: pa.ChunkedArray, words: tuple[str, ...]) -> tuple[pa.ChunkedArray, dict[str, int]]:
    """Return trimmed cells, null where one is missing, and how often which word stood for it."""
    trimmed = pc.utf8_trim_whitespace(text)
    missing = pc.is_in(trimmed, value_set=pa.array(["", *words]))
    if not pc.any(missing).as_py():
        return trimmed, {}
    counts = trimmed.filter(missing).value_counts()
    return pc.if_else(missing, pa.scalar(None, pa.string()), trimmed), {
        count["values"].as_py(): count["counts"].as_py() for count in counts
    }


def _begins_as_text(text: pa.ChunkedArray, words: tuple[str, ...]) -> bool:
    """Whether the first cells are no numbers: it is not worth the time then to try all without the missing ones."""
    first, _ = _present(text.slice(0, LOOKED_AT_FIRST), words)
    return first.null_count < len(first) and number_cells.parse(first) is None


def _is_word(trimmed: pa.Array, words: tuple[str, ...]) -> Mask:
    mask: Mask = pc.is_in(trimmed, value_set=pa.array(["", *words])).to_numpy(zero_copy_only=False)
    return mask


@cache
def _any_reads_as_number(words: tuple[str, ...]) -> bool:
    """Whether a word that stands for a missing cell reads as a number, such as -999 or inf; nan is found otherwise."""
    for word in words:
        try:
            if not math.isnan(float(word)):
                return True
        except ValueError:
            continue
    return False


def _check_no_nul(name: str, distinct: Distinct) -> None:
    """Refuse text that a database does not hold."""
    with_nul = pc.match_substring(distinct.cells, "\0").to_numpy(zero_copy_only=False)
    if with_nul.any():
        row, _ = distinct.first_row(with_nul)
        raise refused(f"holds a NUL character in column {shown(name)}, row {row:,}; leave it out")


def _without_numbers(values: pa.ChunkedArray, words: tuple[str, ...]) -> tuple[pa.ChunkedArray, dict[str, int]]:
    """Take numbers out that stand for missing cells, such as -999; return how often which word stood for one."""
    tokens = {}
    are_numbers = number_cells.are_numbers(pa.array(words, pa.string()))
    for word in (word for word, is_number in zip(words, are_numbers, strict=True) if is_number):
        missing = pc.fill_null(pc.equal(values.cast(pa.float64(), safe=False), float(word)), fill_value=False)
        if count := pc.sum(missing).as_py():
            tokens[word] = count
            values = pc.if_else(missing, pa.scalar(None, values.type), values)
    return values, tokens


def _are_booleans(trimmed: pa.Array, missing: Mask) -> bool:
    if np.count_nonzero(~missing) > MAX_WAYS_TO_WRITE_BOOLEANS:
        return False
    is_boolean = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(["true", "false"]))
    return bool((is_boolean.to_numpy(zero_copy_only=False) | missing).all())


def _nulled(cells: pa.Array, missing: Mask) -> pa.ChunkedArray:
    return pa.chunked_array([pc.if_else(pa.array(missing), pa.scalar(None, cells.type), cells)])


def _tokens(trimmed: pa.Array, missing: Mask, distinct: Distinct) -> dict[str, int]:
    """Count the words that stood for a missing cell."""
    found: dict[str, int] = {}
    for place in np.flatnonzero(missing):
        word = trimmed[int(place)].as_py()
        found[word] = found.get(word, 0) + int(distinct.counts[place])
    return found


def _stray_warning(name: str, trimmed: pa.Array, missing: Mask, distinct: Distinct, *, commas: bool) -> tuple[str, ...]:
    """Tell the owner of a column of text that nearly is one of numbers."""
    numbers = number_cells.are_numbers(trimmed)
    if commas:
        numbers |= number_cells.are_comma_numbers(trimmed)
    stray = ~missing & ~numbers
    given, strays = distinct.counts[~missing].sum(), distinct.counts[stray].sum()
    if given == 0 or strays > given * MAX_STRAY_SHARE:
        return ()
    if strays == 0:
        advice = f"to read them as numbers, upload it again with ?kinds={name[:64]}:numeric"
        return (f"holds digits as codes have them, with leading zeros or more than 18; {advice}",)
    row, cell = distinct.first_row(stray)
    what = f"{strays:,} of {given:,} cells are no numbers, the first {shown(cell)} in row {row:,}"
    check = f"?kinds={name[:64]}:numeric then checks that none is left"
    return (f"{what}, so the column is taken as text; {_missing_advice(cell)}; {check}",)


def _missing_advice(cell: str) -> str:
    word = shown(cell.strip())[1:-1]
    return f"mend it, or if it stands for a missing cell, upload the file again with ?missing={word}"


def _blanks_warning(trimmed: pa.Array) -> tuple[str, ...]:
    """Tell the owner that categories differ in nothing but blanks."""
    alike = len(trimmed) - len(trimmed.unique())
    if not alike:
        return ()
    return (f"{alike:,} of {len(trimmed):,} different cells differ from another only in blanks around them",)
