"""Lines of JSON: one row each, an array in the model's order or an object by column name, read as strictly as JSON."""

from collections.abc import Iterator
from typing import Any

from service.api.formats import limits
from service.domain import strict_json
from service.domain.errors import MalformedRequest
from service.domain.strict_json import NotStrictJson
from service.domain.wording import shown
from service.inference.number_bodies import read_many_rows
from service.inference.rows import CheckedRows, check_count
from service.inference.strict_rows import read_fields
from service.use_cases.serving import Served

WANTED = "lines that hold one row each, an array of values or an object by column name"
BOM = b"\xef\xbb\xbf"
BLANKS = b" \t\r"
OPENING, CLOSING = b"[{", b"]}"
LINES_AT_ONCE = 512


def read(body: bytes | bytearray, served: Served) -> CheckedRows:
    """Read a row a line; lines without anything are left out.

    Raises:
        MalformedRequest: the body is empty, or a line is not strict JSON in UTF-8; names the line.
        InvalidRows: the model cannot take the rows.
    """
    text = bytes(body).removeprefix(BOM)
    lines = [stripped for line in text.split(b"\n") if (stripped := line.strip(BLANKS))]
    if not lines:
        raise limits.empty(WANTED)
    check_count(len(lines))
    if all(line[0] in OPENING and line[-1] in CLOSING for line in lines):
        if (
            served.takes_numbers
            and (numbers := read_many_rows(_joined(lines), "rows"))
            and len(numbers[1]) == len(lines)
        ):
            return served.reader.check_matrix(numbers[1])
        if (rows := _fast_rows(lines)) is not None:
            return served.reader.check(rows)
    return served.reader.check(list(_strict_rows(text)))


def _fast_rows(lines: list[bytes]) -> list[Any] | None:
    """Read lines about which nothing is odd, some at a time, for meanwhile no other thread can run; None for others."""
    rows: list[Any] = []
    for start in range(0, len(lines), LINES_AT_ONCE):
        some = lines[start : start + LINES_AT_ONCE]
        fields = read_fields(_joined(some))
        if fields is None or len(fields["rows"]) != len(some):
            return None
        rows += fields["rows"]
    return rows


def _joined(lines: list[bytes]) -> bytes:
    """Return lines as the rows of one object.

    Every line begins and ends as a row does, and no text of JSON goes over the line ends that stay between them. So
    where there are as many flat rows as lines, each line is a row; one that nests is none that a model takes.
    """
    return b'{"rows":[' + b"\n,".join(lines) + b"]}"


def _strict_rows(body: bytes) -> Iterator[Any]:
    for number, line in enumerate(body.split(b"\n"), start=1):
        if line.strip(BLANKS):
            try:
                yield _only_value(line.decode())
            except UnicodeDecodeError as error:
                raise _unreadable(number, f"is not UTF-8 at its byte {error.start}") from None
            except NotStrictJson as error:
                # As JSON, a line is a text of its own.
                raise _unreadable(number, str(error).replace(" at line 1 column ", " at its character ")) from None


def _only_value(line: str) -> Any:
    value, end = strict_json.first_value(line)
    if rest := line[end:].strip(" \t\r"):
        raise NotStrictJson(f"goes on after its row with {shown(rest[:64])}")
    strict_json.check(value)
    return value


def _unreadable(line: int, problem: str) -> MalformedRequest:
    return MalformedRequest(f"line {line:,} of the body {problem}; send {WANTED}")
