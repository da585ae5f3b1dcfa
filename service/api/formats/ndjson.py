"""Lines of JSON: one row each, an array in the model's order or an object by column name, read as strictly as JSON."""

from collections.abc import Iterator
from typing import Any

from service.api.formats import limits
from service.domain import strict_json
from service.domain.errors import MalformedRequest
from service.domain.strict_json import NotStrictJson
from service.domain.wording import shown
from service.inference.rows import MAX_ROWS, CheckedRows, check_count
from service.use_cases.serving import Served

WANTED = "lines that hold one row each, an array of values or an object by column name"
BOM = b"\xef\xbb\xbf"


def read(body: bytes | bytearray, served: Served) -> CheckedRows:
    """Read a row a line; lines without anything are left out.

    Raises:
        MalformedRequest: the body is empty, or a line is not strict JSON in UTF-8; names the line.
        InvalidRows: the model cannot take the rows.
    """
    if not body.strip():
        raise limits.empty(WANTED)
    rows: list[Any] = []
    for row in _rows(bytes(body).removeprefix(BOM)):
        rows.append(row)
        if len(rows) > MAX_ROWS:
            check_count(len(rows))
    return served.reader.check(rows)


def _rows(body: bytes) -> Iterator[Any]:
    for number, line in enumerate(body.split(b"\n"), start=1):
        if line.strip():
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
