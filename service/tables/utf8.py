"""Whether a file is UTF-8 text, and at which byte it is not."""

import codecs
from typing import BinaryIO

from service.domain.errors import InvalidTable
from service.tables.refusals import refused
from service.tables.signatures import seems_to_be

CHUNK_BYTES = 1 << 20
BOM = codecs.BOM_UTF8

_OTHER_BOMS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def check_text(source: BinaryIO, what: str) -> bytes:
    """Refuse what is no text, and return the first bytes of the file, at most a mebibyte; the file is read through.

    ``what`` names the format that was to be read. Bytes that are no UTF-8 are left to who decodes them: ``not_utf8``
    then says where.

    Raises:
        InvalidTable: it is empty, another kind of file, in another encoding, or holds NUL.
    """
    source.seek(0)
    start = source.read(CHUNK_BYTES)
    if not start.removeprefix(BOM).strip():
        raise refused(f"is empty; send {what}")
    if seems := seems_to_be(start):
        raise refused(f"seems to be {seems}, not {what}")
    if encoding := _other_encoding(start):
        raise refused(f"seems to be {encoding} text; save it as UTF-8")
    _check_no_nul(source, start, what)
    return start


def not_utf8(source: BinaryIO) -> InvalidTable:
    """Return the error that says at which byte a file stops being UTF-8."""
    source.seek(0)
    decoder, read = codecs.getincrementaldecoder("utf-8")(), 0
    while True:
        chunk = source.read(CHUNK_BYTES)
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            at = read - pending + error.start
            byte = error.object[error.start]
            return refused(
                f"is not UTF-8 at byte {at:,} (0x{byte:02x}, perhaps Latin-1 or Windows-1252); save it as UTF-8"
            )
        if not chunk:
            return refused("is not UTF-8; save it as UTF-8")
        read += len(chunk)


def _check_no_nul(source: BinaryIO, start: bytes, what: str) -> None:
    chunk, read = start, 0
    while chunk:
        if (at := chunk.find(0)) >= 0:
            raise refused(f"holds a NUL byte at byte {read + at:,}, so it is no text; send {what}")
        read += len(chunk)
        chunk = source.read(CHUNK_BYTES)


def _other_encoding(start: bytes) -> str | None:
    for mark, encoding in _OTHER_BOMS:
        if start.startswith(mark):
            return encoding
    ascii_part = start[:1024]
    # Latin letters are every second byte in UTF-16 and every fourth in UTF-32, the bytes between them 0.
    if ascii_part.count(0) > len(ascii_part) * 0.6:
        return "UTF-32"
    return "UTF-16" if ascii_part.count(0) > len(ascii_part) * 0.3 else None
