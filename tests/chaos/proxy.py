"""A TCP proxy that loses, holds up and refuses connections: the faults of a network, on one machine."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

HOST = "127.0.0.1"
BLOCK_BYTES = 1 << 16
CALL_TIMEOUT_SECONDS = 10
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: the other side reads no end of the stream but ``Connection reset by peer``."""


class Proxy:
    """Listens on a port of its own as long as its block runs, and forwards to ``target_port`` of this machine."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{target_port}", daemon=True)
        self._flows = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        # It is bound and never listens: while connections are refused nobody else can take the port.
        self._reservation = _bound(0)
        self.port: int = self._reservation.getsockname()[1]

    def __enter__(self) -> "Proxy":
        """Begin to listen and to forward."""
        self._thread.start()
        self.thaw()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut everything and stop."""
        self.refuse()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reservation.close()

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        self._call(self._cut())

    def freeze(self) -> None:
        """Forward nothing more in either direction; connections stay open, new ones are taken and hear nothing."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def thaw(self) -> None:
        """Forward again, beginning with what was held up."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def refuse(self) -> None:
        """Take no new connections; those that are open stay."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Take new connections again."""
        self._call(self._accept())

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_SECONDS)

    async def _cut(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _accept(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._begin, sock=_bound(self.port))

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self._loop.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await self._flows.wait()
            there_reader, there_writer = await asyncio.open_connection(HOST, self._target_port)
            writers.append(there_writer)
            # The first error, or a cancel, ends both directions.
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._forward(reader, there_writer))
                directions.create_task(self._forward(there_reader, writer))
        except* OSError:  # a side has died or cannot be reached: the other is to see that
            pass
        finally:
            for each in writers:
                _reset(each)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(BLOCK_BYTES):
            await self._flows.wait()
            writer.write(block)
            await writer.drain()
        await self._flows.wait()
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()


def _bound(port: int) -> socket.socket:
    """Return a socket on a port that several of this process' sockets can share."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((HOST, port))
    return made


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() != -1:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
