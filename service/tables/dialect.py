"""Find out how a CSV file is written: its separator, its quotes, the names in its first line, and where that ends.

The rule is consistency: the separator under which the first line names several columns and the records after it have
as many fields. The standard library's sniffer counts characters and finds no separator in a file of one column, or in
one with a ragged line; clevercsv takes ``1;2,3;4`` under ``a,b,c`` for semicolons and a column of sentences for commas,
for it does not know that the first line is a header.
"""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from service.domain.wording import shown
from service.tables import utf8
from service.tables.refusals import refused

SEPARATORS = (",", ";", "\t", "|")
NO_SEPARATOR = "\x1f"
"""What a file of one column is split by: a character that no text holds."""
QUOTES = ('"', "'")
MAX_HEADER_BYTES = 16 << 20
MAX_NAME_LENGTH = 1_000
SAMPLE_BYTES = 1 << 16
SAMPLE_RECORDS = 200
WHAT = "CSV with a header line, in UTF-8"

_LINE_END = re.compile(rb"\r\n|\n|\r")
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
_JSON = re.compile(rb'\s*(\[\s*[\[{"]|\{\s*")')


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written."""

    names: tuple[str, ...]
    separator: str | None
    """None where there is one column."""
    quote: str
    bom: bool
    data_start: int
    """The byte at which the records begin."""

    @property
    def delimiter(self) -> str:
        """What parsers are to split by."""
        return self.separator or NO_SEPARATOR

    def to_dict(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {"separator": self.separator, "quote": self.quote, "encoding": "utf-8", "bom": self.bom}


def detect(source: BinaryIO, max_columns: int) -> Dialect:
    """Read the first line, look at the records that follow it, and check the names.

    Raises:
        InvalidTable: the file is no UTF-8 text, or its first line does not name columns as it should.
    """
    start = utf8.check_text(source, WHAT)
    bom = start.startswith(utf8.BOM)
    if _JSON.match(start.removeprefix(utf8.BOM)):
        raise refused(
            "seems to be JSON; send it as application/json, or as application/x-ndjson if a line is an object"
        )
    line, data_start = _first_line(source, start)
    header = _decoded(line.removeprefix(utf8.BOM), len(utf8.BOM) if bom else 0)
    if not header.strip():
        raise refused("has an empty first line; the first line must name the columns")
    separator, quote = _sniff(header, _sample(source, data_start))
    names = tuple(name.strip() for name in _names(header, separator or NO_SEPARATOR, quote))
    if len(names) > 1 and not names[0]:
        raise refused("has no name for column 1; if pandas wrote its index there, to_csv(index=False) leaves it out")
    check_names(names, max_columns)
    if all(_NUMBER.fullmatch(name) for name in names):
        raise refused("has no header line: its first line holds only numbers; add a line with the column names")
    return Dialect(names, separator, quote, bom, data_start)


def check_names(names: tuple[str, ...], max_columns: int) -> None:
    """Look through the names of columns.

    Raises:
        InvalidTable: they are too many, repeat, or one is empty, too long or holds control characters.
    """
    if len(names) > max_columns:
        raise refused(f"has {len(names):,} columns; at most {max_columns:,} are allowed")
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        if not name:
            raise refused(f"has no name for column {position}; every column needs one")
        if name in seen:
            raise refused(f"names two columns {shown(name)}; names must differ")
        if len(name) > MAX_NAME_LENGTH or any(ord(character) < 32 for character in name):
            raise refused(
                f"names column {position} {shown(name)}; names are at most {MAX_NAME_LENGTH} printable characters"
            )
        seen.add(name)


@contextmanager
def long_fields(max_bytes: int) -> Iterator[None]:
    """Let the csv module read longer fields than it does by itself."""
    previous = csv.field_size_limit(max_bytes)
    try:
        yield
    finally:
        csv.field_size_limit(previous)


def _first_line(source: BinaryIO, start: bytes) -> tuple[bytes, int]:
    """Return the first line without its end, and the byte at which the next begins."""
    end = _LINE_END.search(start)
    if end is None:
        source.seek(0)
        start = source.read(MAX_HEADER_BYTES)
        end = _LINE_END.search(start)
    if end is None and len(start) == MAX_HEADER_BYTES:
        raise refused(f"has a first line of more than {MAX_HEADER_BYTES:,} bytes; it must name the columns")
    return (start, len(start)) if end is None else (start[: end.start()], end.end())


def _decoded(line: bytes, offset: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise refused(f"is not UTF-8 at byte {offset + error.start:,}; save it as UTF-8") from None


def _sample(source: BinaryIO, data_start: int) -> str:
    """Return the lines after the first, as far as they are looked at; a line that was cut is left out."""
    source.seek(data_start)
    sample = source.read(SAMPLE_BYTES)
    if len(sample) == SAMPLE_BYTES and (cut := max(sample.rfind(b"\n"), sample.rfind(b"\r"))) > 0:
        sample = sample[: cut + 1]
    return sample.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A separator and a quote, and what they make of the first lines."""

    separator: str
    quote: str
    names: int
    widths: list[int]
    """How many fields each of the first records has."""

    @property
    def fit(self) -> tuple[float, int]:
        """The share of records that have as many fields as there are names; of equals, the more names the better."""
        return self.widths.count(self.names) / max(len(self.widths), 1), self.names


def _sniff(header: str, sample: str) -> tuple[str | None, str]:
    """Return the separator, None for one column, and the quote."""
    double, single = (_best(header, sample, quote) for quote in QUOTES)
    best = single if single.fit >= double.fit and _is_quoted_singly(header, sample, single.separator) else double
    if best.names > 1:
        if header.startswith("#") and best.widths and best.fit[0] == 0:
            raise refused(f"begins with a line that looks like a comment, {shown(header)}; it must name the columns")
        return best.separator, best.quote
    # Records that all have two fields under one name lack a name; commas here and there are those of sentences.
    others = (_candidate(header, sample, separator, best.quote) for separator in SEPARATORS)
    uneven = (other for other in others if len(set(other.widths)) == 1 and other.widths[0] > 1)
    return next((other.separator for other in uneven), None), best.quote


def _best(header: str, sample: str, quote: str) -> _Candidate:
    candidates = [_candidate(header, sample, separator, quote) for separator in SEPARATORS]
    several = [candidate for candidate in candidates if candidate.names > 1]
    return max(several or candidates[:1], key=lambda candidate: candidate.fit)


def _candidate(header: str, sample: str, separator: str, quote: str) -> _Candidate:
    return _Candidate(separator, quote, sum(_widths(header, separator, quote)), _widths(sample, separator, quote))


def _is_quoted_singly(header: str, sample: str, separator: str) -> bool:
    """Whether a field is all in single quotes, none begins with a double one, and none goes on after its quotes."""
    text, mark = f"{header}\n{sample}", re.escape(separator)
    if re.search(rf'(?:^|{mark})"', text, re.MULTILINE):
        return False
    if not re.search(rf"(?:^|{mark})'(?:[^'\r\n]|'')*'(?=$|[\r{mark}])", text, re.MULTILINE):
        return False
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quotechar="'", strict=True)
    try:
        with long_fields(MAX_HEADER_BYTES):
            return all(True for _ in islice(reader, SAMPLE_RECORDS))
    except csv.Error as error:
        return "unexpected end" in str(error)  # the sample is cut somewhere


def _names(header: str, separator: str, quote: str) -> list[str]:
    try:
        with long_fields(MAX_HEADER_BYTES):
            return next(csv.reader([header], delimiter=separator, quotechar=quote, strict=True))
    except csv.Error as error:
        reason = "it opens a quote and does not close it" if "unexpected end" in str(error) else str(error)
        raise refused(f"has a first line that cannot be read as names: {reason}") from None


def _widths(text: str, separator: str, quote: str) -> list[int]:
    """Return how many fields each of the first records has."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quotechar=quote)
    with long_fields(MAX_HEADER_BYTES):
        return [len(record) for record in islice(reader, SAMPLE_RECORDS) if record]
