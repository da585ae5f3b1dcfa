"""Two applications answer the same prediction in turns: what the one has beside the other, and what that costs.

The real protocol and application answer one row of the article's network from bytes that a connection in memory gives
them, so that neither sockets nor a client take a part of the time; what is measured is processor time.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.storage.database import Database

ROUNDS, REQUESTS = 15, 2_000
UPDATE_SECONDS = 0.25
WAIT_SECONDS = 10
MODEL, WIDTH = "plain", 13
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
WAYS = {"the short way": b"", "through the application": b"X-Other: 1\r\n"}


@dataclass(frozen=True)
class Side:
    """An application and the protocol in front of it."""

    config: Any
    kind: type
    headers: bytes = b""
    """What its requests say beside."""
    update: Callable[[], object] | None = None
    """Called now and then, as the service does beside answering."""


class Line(asyncio.Transport):
    """A connection in memory: what is written to it is thrown away, and the end of an answer is noticed."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = 0
        self.last = b""

    def write(self, data: Any) -> None:
        """Take a part of an answer."""
        self.last = bytes(data)
        self.answered += b"HTTP/1.1 200" in self.last

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return addresses."""
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        """Return no."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return nothing."""
        return 0

    def _do_nothing(self) -> None:
        pass

    close = abort = pause_reading = resume_reading = _do_nothing


def side(app: Any, kind: type, **others: Any) -> Side:
    """Return an application as it is measured."""
    from uvicorn import Config

    config = Config(app, access_log=False, log_config=None, lifespan="off", ws="none")
    config.load()
    return Side(config, kind, **others)


def is_kept(bar: float, what: str, bare: Side, full: Side) -> bool:
    """Measure both ways and print; return whether ``full`` takes no more than ``bar`` longer, as a share."""
    kept = [_is_kept(bar, what, way, bare, full) for way in WAYS]
    return all(kept)


def _is_kept(bar: float, what: str, way: str, bare: Side, full: Side) -> bool:
    pairs = asyncio.run(_turns(way, bare, full))
    share = statistics.median(after / before - 1 for before, after in pairs)
    before, after = (statistics.median(column) * 1e6 for column in zip(*pairs, strict=True))
    print(f"{way}: {before:.1f} us without {what}, {after:.1f} us with, {share:+.1%} (bar {bar:.0%})", flush=True)
    return share <= bar


async def _turns(way: str, bare: Side, full: Side) -> list[tuple[float, float]]:
    sides = [(each, _request(WAYS[way] + each.headers)) for each in (bare, full)]
    rounds = [[await _seconds_for(*each) for each in sides] for _ in range(ROUNDS + 1)]
    return [(before, after) for before, after in rounds[1:]]


def _request(headers: bytes) -> bytes:
    from benchmarks.predict.networks import Network

    row = b", ".join(b"%g" % number for number in Network(MODEL, WIDTH).rows(1)[0])
    body = b'{"model": "%b", "instances": [[%b]]}' % (MODEL.encode(), row)
    return HEAD % (headers, len(body)) + body


async def _seconds_for(side: Side, request: bytes) -> float:
    """Return the processor time of a request."""
    from uvicorn.server import ServerState

    protocol, line = side.kind(config=side.config, server_state=ServerState(), app_state={}), Line()
    protocol.connection_made(line)
    update_at, began = time.monotonic() + UPDATE_SECONDS, time.process_time()
    for number in range(REQUESTS):
        protocol.data_received(request)
        until = time.monotonic() + WAIT_SECONDS
        while line.answered <= number:
            assert time.monotonic() < until, line.last
            await asyncio.sleep(0)
        if side.update is not None and time.monotonic() >= update_at:
            side.update()
            update_at = time.monotonic() + UPDATE_SECONDS
    spent = time.process_time() - began
    protocol.connection_lost(None)
    assert line.answered == REQUESTS, line.last
    return spent / REQUESTS


@contextmanager
def stocked() -> Iterator["Database"]:
    """Make a database with the article's network."""
    from benchmarks.predict import networks
    from benchmarks.predict.registry import make_database, register
    from service.storage.database import Database

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = [networks.Network(MODEL, WIDTH)]
        networks.write(models, folder)
        register(make_database(folder), models, folder)
        database = Database(f"sqlite:///{folder}/selfnorm.db")
        try:
            yield database
        finally:
            database.close()
