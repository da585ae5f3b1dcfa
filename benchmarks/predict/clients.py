"""Clients that look at every answer: some connections that stay open, each sending the same request over and over."""

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

TIMEOUT_SECONDS = 30
HEADERS = {"Content-Type": "application/json"}

Look = Callable[[bytes], str | None]
"""Takes an answer; says what is wrong with it."""


@dataclass
class Seen:
    """What the clients saw so far."""

    answers: dict[int, int] = field(default_factory=dict)
    """How many each connection got, by the client's port."""
    faults: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """All answers."""
        return sum(self.answers.values())


class Clients:
    """Some clients in threads; they send from entering to leaving."""

    def __init__(self, port: int, path: str, body: bytes, connections: int, look: Look | None = None) -> None:
        self.seen = Seen()
        self._port, self._path, self._body, self._look = port, path, body, look
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(connections)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.connect()
            me = connection.sock.getsockname()[1]
            self.seen.answers[me] = 0
            while not self._ended.is_set():
                connection.request("POST", self._path, self._body, HEADERS)
                answer = connection.getresponse()
                self._count(me, answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self.seen.faults.append(f"a connection broke: {error!r}")
        finally:
            connection.close()

    def _count(self, client: int, status: int, body: bytes) -> None:
        self.seen.answers[client] += 1
        fault = None
        if status != http.client.OK:
            fault = f"{status}: {body[:200]!r}"
        elif self._look is not None:
            fault = self._look(body)
        if fault is not None:
            self.seen.faults.append(fault)
