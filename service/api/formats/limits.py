"""What one request in another format than JSON may hold, so that a small body cannot fill the memory.

With the body itself, its cells as float64 and the network's rows, an API process grows by less than 200 MB.
"""

from service.domain.errors import InvalidRows, MalformedRequest, Violation
from service.inference.rows import check_count

MAX_BODY_BYTES = 64 * 2**20
"""10,000 rows of 784 float64 take 63 MB."""
MAX_CELLS = MAX_BODY_BYTES // 8
"""Rows x columns: so many float64 take as much as the largest body."""
MAX_DECODED_BYTES = 64 * 2**20
"""What the compressed parts of a body may hold."""
MAX_TEXTS = 200_000
"""Different texts in all columns together; each becomes a Python object of 50 bytes and more, and is looked up."""
MAX_TEXT_BYTES = 8 * 2**20
"""What these texts may take together; with one rare character in a text, Python takes four times that."""
PIECE_ROWS = 4096
PIECE_CELLS = 2**16
"""An answer is written in pieces of at most so many rows and numbers."""


def check_shape(rows: int, columns: int) -> None:
    """Refuse more rows or cells than are answered at once.

    Raises:
        InvalidRows: there are none, or too many.
    """
    check_count(rows)
    if rows * columns > MAX_CELLS:
        raise too_much(f"has {rows * columns:,} cells ({rows:,} rows of {columns:,} columns)", f"{MAX_CELLS:,} cells")


def too_much(what: str, allowed: str) -> InvalidRows:
    """Return the error of rows that would take too much memory; ``what`` says what came."""
    return InvalidRows([Violation("#", f"{what}; at most {allowed} are answered at once. Send the rows in parts")])


def empty(wanted: str) -> MalformedRequest:
    """Return the error of a body without a byte; ``wanted`` is what it should hold."""
    return MalformedRequest(f"the body is empty; send {wanted}")
