"""What an Arrow IPC stream claims of itself, found before anything in it is decoded.

A few bytes can claim a trillion rows, or be compressed from gigabytes, so the messages are walked through first. Of
their descriptions, which are FlatBuffers (Message.fbs of the Arrow format), pyarrow shows the type and no more.
"""

import struct
from dataclasses import dataclass

import pyarrow as pa

from service.api.formats import limits
from service.domain.errors import MalformedRequest

MAX_MESSAGES = 10_000
"""Each costs the time of a hundred rows."""
HEADER = 2
"""The field of a Message that holds its RecordBatch or DictionaryBatch."""
LENGTH, BUFFERS, COMPRESSION = 0, 2, 3
"""Fields of a RecordBatch."""
ID, DATA, IS_DELTA = 0, 1, 2
"""Fields of a DictionaryBatch."""
UNCOMPRESSED = -1
"""What stands for the size of a buffer that is as it is, though its message is compressed."""


@dataclass(slots=True)
class Claims:
    """What the messages of a stream claim together."""

    rows: int = 0
    decoded_bytes: int = 0
    """What has to be made anew: buffers that are compressed, and dictionaries that grow."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a FlatBuffer that has been verified; ``at`` is where it lies."""

    data: memoryview
    at: int

    def place(self, number: int) -> int | None:
        """Return where a field lies; None where it has its default."""
        fields = self.at - _unpack("<i", self.data, self.at)
        entry = 4 + 2 * number
        offset = _unpack("<H", self.data, fields + entry) if entry < _unpack("<H", self.data, fields) else 0
        return self.at + offset if offset else None

    def number(self, number: int, form: str) -> int:
        """Return a field that is a number; 0 is the default of all that are asked for here."""
        place = self.place(number)
        return 0 if place is None else _unpack(form, self.data, place)

    def table(self, number: int) -> "_Table":
        """Return a field that is a table.

        Raises:
            MalformedRequest: it has none.
        """
        place = self.place(number)
        if place is None:
            raise MalformedRequest("the body is no Arrow stream: a message lacks its description")
        return _Table(self.data, place + _unpack("<I", self.data, place))


def add_up(stream: pa.NativeFile) -> Claims:
    """Walk through the messages of a stream.

    Raises:
        pa.ArrowException, struct.error: it is no Arrow stream, or is cut off.
        MalformedRequest: it holds other things than rows, or goes on after its end.
        InvalidRows: there are too many rows, batches or bytes to decode.
    """
    claims, dictionaries = Claims(), dict[int, int]()
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(stream)):
        if number > MAX_MESSAGES:
            raise limits.too_much(f"has more than {MAX_MESSAGES:,} batches", f"{MAX_MESSAGES:,}")
        _add(message, claims, dictionaries)
    if rest := stream.size() - stream.tell():
        raise MalformedRequest(f"the body goes on for {rest:,} bytes after the end of its stream; send one stream")
    return claims


def _add(message: pa.Message, claims: Claims, dictionaries: dict[int, int]) -> None:
    if message.type == "schema":
        return
    data = memoryview(message.metadata)
    described = _Table(data, _unpack("<I", data, 0)).table(HEADER)
    if message.type == "record batch":
        length = described.number(LENGTH, "<q")
        if length < 0:
            raise MalformedRequest(f"the body is no Arrow stream: a batch claims {length:,} rows")
        claims.rows += length
        claims.decoded_bytes += _compressed_bytes(described, message.body)
    elif message.type == "dictionary":
        content, size = described.table(DATA), message.body.size
        claims.decoded_bytes += _compressed_bytes(content, message.body)
        key, is_delta = described.number(ID, "<q"), described.number(IS_DELTA, "<?")
        dictionaries[key] = size + (dictionaries.get(key, 0) if is_delta else 0)
        if is_delta:  # what was there is copied, and the new is put behind it
            claims.decoded_bytes += dictionaries[key]
    else:
        raise MalformedRequest(f"the body holds an Arrow {message.type}; send a stream of record batches")
    if claims.decoded_bytes > limits.MAX_DECODED_BYTES:
        most = f"{limits.MAX_DECODED_BYTES:,}"
        raise limits.too_much(f"decodes to more than {most} bytes", f"{most} bytes")


def _compressed_bytes(batch: _Table, body: pa.Buffer) -> int:
    """Return how large the compressed buffers of a batch say that they become; Arrow makes none larger than it says."""
    buffers = batch.place(BUFFERS)
    if batch.place(COMPRESSION) is None or buffers is None:
        return 0
    data, content = batch.data, memoryview(body)
    start = buffers + _unpack("<I", data, buffers)
    total = 0
    for place in range(start + 4, start + 4 + 16 * _unpack("<I", data, start), 16):
        offset, length = struct.unpack_from("<qq", data, place)
        if length:
            if offset < 0:
                raise MalformedRequest("the body is no Arrow stream: a buffer lies before its batch")
            size = _unpack("<q", content, offset)
            total += size if size != UNCOMPRESSED else 0
            if size < UNCOMPRESSED:
                raise MalformedRequest("the body is no Arrow stream: a compressed buffer has a size below 0")
    return total


def _unpack(form: str, data: memoryview, at: int) -> int:
    number: int = struct.unpack_from(form, data, at)[0]
    return number
