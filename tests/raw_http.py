"""HTTP by the byte: what a client sends is cut and joined as a test wants it, answers are read one by one."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 60
"""So long a connection waits for its next bytes; who promises to end slow ones does it in less."""


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lasting(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """What is the same every time."""
        passing = ("date", "x-request-id")
        return self.status, [header for header in self.headers if header[0] not in passing], self.body


class RawConnection:
    """One connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def send(self, *requests: bytes) -> None:
        """Send bytes in one piece."""
        self.socket.sendall(b"".join(requests))

    def read(self) -> RawAnswer:
        """Read the next answer; ConnectionError where none comes any more."""
        status = self._line()
        while status.startswith(b"HTTP/1.1 100"):
            assert self._line() == b""
            status = self._line()
        headers = []
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(": ")
            headers.append((name, value))
        known = dict(headers)
        if known.get("transfer-encoding") == "chunked":
            body = b"".join(self._chunks())
        else:
            body = self._file.read(int(known["content-length"]))
        return RawAnswer(int(status.split()[1]), headers, body)

    def ask(self, *requests: bytes) -> RawAnswer:
        """Send in one piece, and read one answer."""
        self.send(*requests)
        return self.read()

    def rest(self) -> bytes:
        """Read until the server ends the connection."""
        return self._file.read()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def _line(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError(f"the connection ended in the middle of an answer: {line!r}")
        return line[:-2]

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line(), 16):
            yield self._file.read(size)
            assert self._line() == b""
        assert self._line() == b""


@contextmanager
def connected(port: int) -> Iterator[RawConnection]:
    opened = RawConnection(port)
    try:
        yield opened
    finally:
        opened.close()


def prediction(body: Any, *headers: str, version: str = "1.1", path: str = "/predict") -> bytes:
    """A request for a prediction; a body that is no bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", *headers]
    if not any(header.lower().startswith("content-type") for header in headers):
        lines.append("Content-Type: application/json")
    if not any(header.lower().startswith("transfer-encoding") for header in headers):
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content
