"""What can be uploaded: files, bytes, frames and rows, each as the body of one request."""

import io
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, get_args

from service.client import frames
from service.client.requests import encoded
from service.domain.table_formats import SUFFIXES, TableFormat

Source = str | os.PathLike[str] | bytes | BinaryIO | Sequence[dict[str, Any]] | Any
"""The last stands for the frames of packages that need not be installed: pandas, polars, pyarrow and NumPy."""

MEDIA_TYPES: dict[TableFormat, str] = {
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
}
PARQUET_MAGIC = b"PAR1"
SPOOL_BYTES = 8 * 2**20
"""A stream that cannot be read twice is kept in memory up to here, and beyond it on the disk."""


@dataclass
class Table:
    """A table on its way to the service; the files that were opened for it are closed with it."""

    body: bytes | BinaryIO
    media_type: str
    name: str | None = None
    is_ours: bool = False

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.is_ours and not isinstance(self.body, bytes):
            self.body.close()


def table_of(source: Source, form: TableFormat | None = None) -> Table:
    """Return what is to be sent for a source.

    Raises:
        TypeError: it is nothing that holds a table.
        ValueError: its format cannot be told, or it has no rows.
        OSError: the file cannot be opened.
    """
    if form is not None and form not in MEDIA_TYPES:
        raise ValueError(f"format must be one of {', '.join(get_args(TableFormat))}; got {form!r}")
    match source:
        case str() | os.PathLike():
            path = Path(source)
            media_type = MEDIA_TYPES[form or _by_suffix(path)]
            return Table(path.open("rb"), media_type, path.stem, is_ours=True)
        case bytes() | bytearray() | memoryview():
            content = bytes(source)
            return Table(content, MEDIA_TYPES[form or _by_beginning(content)])
        case io.TextIOBase():
            raise TypeError('the file is open as text; open it in binary mode, as in open(path, "rb")')
    if hasattr(source, "read"):
        return _of_file(source, form)
    if frames.is_frame(source):
        return Table(frames.as_parquet(source), MEDIA_TYPES["parquet"], is_ours=True)
    if isinstance(source, Sequence):
        return Table(_as_lines(source), MEDIA_TYPES["ndjson"])
    raise TypeError(
        f"cannot upload {type(source).__name__}; pass a path, bytes, a file that is open in binary mode, a pandas or "
        "polars DataFrame, a pyarrow Table, a NumPy array or a list of row dicts"
    )


def is_file(source: str) -> bool:
    """Whether text names a table on this machine, by its ending or because there is one, and no data set."""
    return Path(source).suffix.lower() in SUFFIXES or Path(source).is_file()


def _of_file(file: Any, form: TableFormat | None) -> Table:
    name = file.name if isinstance(getattr(file, "name", None), str) else ""
    kind = MEDIA_TYPES[form or SUFFIXES.get(Path(name).suffix.lower(), "csv")]
    if file.seekable() and file.tell() == 0:
        return Table(file, kind, Path(name).stem or None)
    # Where it breaks off it is sent again from the beginning, which a stream has only once.
    spooled = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115  # it is closed with the table
    shutil.copyfileobj(file, spooled)
    return Table(spooled, kind, Path(name).stem or None, is_ours=True)  # type: ignore[arg-type]  # has all of BinaryIO


def _as_lines(rows: Sequence[Any]) -> bytes:
    if not rows:
        raise ValueError("there are no rows; pass at least one")
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise TypeError(f"row {place} is of type {type(row).__name__}; rows to upload are dicts by column name")
    return b"".join(encoded(row) + b"\n" for row in rows)


def _by_suffix(path: Path) -> TableFormat:
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise ValueError(
            f"the name {path.name!r} does not tell its format; known endings are {', '.join(SUFFIXES)}. "
            f"Say it with format=, one of {', '.join(get_args(TableFormat))}"
        ) from None


def _by_beginning(content: bytes) -> TableFormat:
    return "parquet" if content.startswith(PARQUET_MAGIC) else "csv"
