"""What a file is by its first bytes, whatever its name says."""

import codecs
import re

ZIP = "a zip archive (so are .xlsx, .ods and .npz files)"

_SIGNATURES = (
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"\x04\x22\x4d\x18", "lz4 data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    *((bytes([0x80, protocol]), "a Python pickle (joblib writes them too)") for protocol in (2, 3, 4, 5)),
    (b"\x93NUMPY", "a numpy array (.npy)"),
    (b"PAR1", "Parquet"),
    (b"PARE", "encrypted Parquet"),
    (b"ARROW1", "an Arrow or Feather file"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0", "an old Office file (.xls, .doc)"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    *((bytes([0x78, level]), "zlib data (joblib compresses so)") for level in (0x01, 0x5E, 0x9C, 0xDA)),
)
_TEXT_SIGNATURES = ((b"<!doctype", "an HTML page"), (b"<html", "an HTML page"), (b"<?xml", "an XML document"))
_LOOKED_AT_BYTES = 512
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")


def seems_to_be(start: bytes) -> str | None:
    """Return what a file is that begins with these bytes, or None where it may well be text."""
    start = start[:_LOOKED_AT_BYTES]
    # A column may well be called PAR1, PARENT or ORC: letters alone are no sign.
    known, begin = (_TEXT_SIGNATURES, start.lower()) if _is_text(start) else (_SIGNATURES, start)
    return next((name for signature, name in known if begin.startswith(signature)), None)


def _is_text(start: bytes) -> bool:
    try:
        return not _NO_TEXT.search(codecs.getincrementaldecoder("utf-8")().decode(start))
    except UnicodeDecodeError:
        return False
