"""The roots of API processes: settings in, uvicorn out; one for itself, or one of several behind an acceptor."""

import asyncio
import gc
import logging
import socket
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from service.acceptor import CLOSED, READY, set_up_logging, take, warn_of_everybody
from service.api.app import create_app
from service.api.dependencies import Services
from service.api.hot_path import HotProtocol
from service.api.short_ways import protocol
from service.settings import Settings, read_settings
from service.storage.database import Database
from service.task_queue import Doorbell

logger = logging.getLogger(__name__)

GRACEFUL_SHUTDOWN_SECONDS = 14
"""What is still under way then, such as a body that does not come, is answered with 503."""
DATABASE_PATIENCE_SECONDS = 1.5
"""A client is to hear within 2 s that the database does not answer."""
KEEP_ALIVE_SECONDS = 30
SWITCH_SECONDS = 0.001
"""The longest that a thread which works for a large request keeps others from running; Python's own 5 ms add up."""


def serve(settings: Settings, host: str, port: int) -> int:
    """Serve in this process until SIGTERM or SIGINT; requests under way are finished first. Return the exit status."""
    set_up_logging()
    warn_of_everybody(host)
    services = _services(settings)
    _Server(_config(services, host=host, port=port), services).run()
    return 0


def serve_part(settings: Settings, channel: socket.socket) -> None:
    """Serve the connections that an acceptor hands over through a channel, until SIGTERM or its end."""
    set_up_logging()
    services = _services(settings)
    channel.setblocking(False)
    _Part(_config(services), services, channel).run(sockets=[])


def _services(settings: Settings) -> Services:
    sys.setswitchinterval(SWITCH_SECONDS)
    return Services(
        database=Database(settings.database_url, DATABASE_PATIENCE_SECONDS),
        doorbell=Doorbell(settings.broker_url),
        limits=settings.limits,
        table_limits=settings.table_limits,
        datasets_dir=settings.datasets_dir,
        max_json_bytes=settings.max_json_bytes,
        max_predict_bytes=settings.max_predict_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        model_memory_bytes=settings.model_memory_bytes,
        default_model=settings.default_model,
    )


def _config(services: Services, **address: Any) -> uvicorn.Config:
    app = create_app(services)
    return uvicorn.Config(
        app,
        **address,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws="none",
        http=protocol(services, app.state.statistics),
    )


class _Server(uvicorn.Server):
    """Uvicorn that lets held answers go when it is asked to end."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Come up."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is loaded now stays; looking through it again and again would hold up requests

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self._services.stopping.set()
        super().handle_exit(sig, frame)


class _Part(_Server):
    """Uvicorn that listens nowhere, and is handed connections."""

    def __init__(self, config: uvicorn.Config, services: Services, channel: socket.socket) -> None:
        super().__init__(config, services)
        self._channel = channel
        self._connecting: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Come up, and say so."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self._channel, self._take)
        self._say(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and finish what is under way."""
        asyncio.get_running_loop().remove_reader(self._channel)
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RD)  # the acceptor hands what comes now to another process
            self._take()  # and what it has just handed over is not left to wait for this one's end
        if self._connecting:
            await asyncio.wait(self._connecting)
        await super().shutdown(sockets)

    def _take(self) -> None:
        taken = take(self._channel)
        loop = asyncio.get_running_loop()
        if taken is None:  # the acceptor has gone
            loop.remove_reader(self._channel)
            self._services.stopping.set()
            self.should_exit = True
            return
        for connection in taken:
            task = loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket | None) -> None:
        if connection is None:
            logger.warning("a connection could not be taken: there are no file descriptors left")
            self._say(CLOSED)
            return
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client had gone already
            connection.close()
            self._say(CLOSED)

    def _protocol(self) -> HotProtocol:
        kind = self.config.http_protocol_class
        assert issubclass(kind, HotProtocol)
        made = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        made.on_close = lambda: self._say(CLOSED)
        return made

    def _say(self, word: bytes) -> None:
        try:
            self._channel.send(word)
        except OSError:  # the acceptor has gone, or does not listen; it counts anew when this process is started again
            logger.debug("the acceptor was not told")


if __name__ == "__main__":
    serve_part(read_settings(), socket.socket(fileno=int(sys.argv[1])))
