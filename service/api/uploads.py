"""How a file comes in over HTTP: as a body or as a part of a form, onto the disk and never whole into memory."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PureWindowsPath
from typing import BinaryIO

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from service.api.dependencies import keyed_request
from service.api.strict_bodies import media_type
from service.domain.errors import MalformedRequest
from service.domain.table_formats import SUFFIXES, TableFormat
from service.use_cases.idempotency import KeyedRequest

PIECE_BYTES = 1 << 20
"""So much of a body is collected before a thread writes it."""
FORM = "multipart/form-data"
PART = "file"
MAX_FIELDS = 10
"""Parts that do not belong into the form and are still named in the answer; with more it is refused unread."""
MEDIA_TYPES: dict[str, TableFormat] = {
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/parquet": "parquet",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "application/json": "json",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived; ``name`` is its own, without folder and suffix, where it came with one."""

    file: BinaryIO
    format: TableFormat
    name: str | None = None


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Upload]:
    """Take a file in; it lies on the disk without a name, so that it is gone when it is closed, whatever happens.

    Raises:
        HTTPException: it is not of a type that this service takes, or it is compressed.
        MalformedRequest: the form cannot be read, or has other parts than the file.
    """
    kind = media_type(request.headers.get("content-type"))
    _check_encoding(request)
    if kind == FORM:
        form = await _form(request)
        try:
            yield _part(form)
        finally:
            await form.close()
    elif kind in MEDIA_TYPES:
        with tempfile.TemporaryFile() as file:
            await _spool(request, file)
            yield Upload(file, MEDIA_TYPES[kind])
    else:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, _unsupported(kind))


async def keyed_upload(request: Request, key: str | None, arrived: Upload) -> KeyedRequest | None:
    """Hash an upload that has a key; a form by its file alone, for its boundary is another one each time."""
    if key is None:
        return None
    pieces = iter(lambda: arrived.file.read(PIECE_BYTES), b"")
    keyed = await run_in_threadpool(keyed_request, request, key, pieces, arrived.format, arrived.name)
    await run_in_threadpool(arrived.file.seek, 0)
    return keyed


async def _spool(request: Request, file: BinaryIO) -> None:
    """Copy a body to a file; threads write it, so that nobody waits behind a slow disk."""
    pieces: list[bytes] = []
    collected = 0
    async for piece in request.stream():
        pieces.append(piece)
        collected += len(piece)
        if collected >= PIECE_BYTES:
            await run_in_threadpool(file.writelines, pieces)
            pieces, collected = [], 0
    await run_in_threadpool(file.writelines, pieces)
    await run_in_threadpool(file.seek, 0)


async def _form(request: Request) -> FormData:
    try:
        return await request.form(max_files=1, max_fields=MAX_FIELDS)
    except UnicodeError:
        raise MalformedRequest("the form has text that its charset cannot read; send it as UTF-8") from None


def _part(form: FormData) -> Upload:
    """Return the one part of a form; the parser has put it on the disk, or in memory where it is small."""
    if others := [name for name in form if name != PART]:
        raise MalformedRequest(
            f"the form has a part {others[0][:64]!r}; it takes the part {PART!r} only, "
            "and name, kinds and missing belong into the address, as in /datasets?name=wine"
        )
    part = form.get(PART)
    if not isinstance(part, UploadFile):
        raise MalformedRequest(f"the form has no part named {PART!r} that is a file; with curl: -F file=@table.csv")
    part.file.fileno()  # writes it to the disk where it was still in memory
    path = PureWindowsPath(part.filename or "")  # knows both kinds of slashes
    by_suffix = SUFFIXES.get(path.suffix.lower(), "csv")
    return Upload(part.file, MEDIA_TYPES.get(media_type(part.content_type), by_suffix), path.stem or None)


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        detail = f"the file must come as it is; got Content-Encoding: {encoding[:64]}. Send it uncompressed"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, {"Accept-Encoding": "identity"})


def _unsupported(kind: str) -> str:
    return (
        f"a table must come as {', '.join(MEDIA_TYPES)}, or as the part {PART!r} of {FORM}; got "
        f"{kind[:64] or 'no Content-Type'}. With curl: -F file=@table.csv, "
        "or --data-binary @table.csv -H 'Content-Type: text/csv'"
    )
