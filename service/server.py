"""The roots of API processes: settings in, uvicorn out; one for itself, or one of several behind an acceptor."""

import asyncio
import gc
import logging
import os
import resource
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from types import FrameType
from typing import Any

import uvicorn

from service import logs, tracing
from service.acceptor import CLOSED, READY, take
from service.api.app import create_app
from service.api.gate.connections import watch
from service.api.hot_path import HotProtocol
from service.api.services import Services
from service.api.short_ways import protocol
from service.domain.limits import ConnectionBounds
from service.domain.quotas import Rate
from service.listening import HANDSHAKE_SECONDS, accept_all, leave, let_in, listen
from service.outbound import Outbound
from service.processes import CannotStart
from service.settings import Settings, read_settings
from service.storage.database import Database
from service.task_queue import Doorbell
from service.unknown_variables import unknown
from service.use_cases.webhooks import WebhookRules

logger = logging.getLogger(__name__)

GRACEFUL_SHUTDOWN_SECONDS = 14
"""What is still under way then, such as a body that does not come, is answered with 503."""
DATABASE_PATIENCE_SECONDS = 1.5
"""A client is to hear within 2 s that the database does not answer."""
MOST_FILES = 65_536
SPARE_FILES = 200
"""Files that a process needs beside its connections: of the database, of uploads, of what is read and written."""
SWITCH_SECONDS = 0.001
"""The longest that a thread which works for a large request keeps others from running; Python's own 5 ms add up."""


def serve(settings: Settings, host: str, port: int) -> int:
    """Serve in this process until SIGTERM or SIGINT; requests under way are finished first. Return the exit status.

    Raises:
        SystemExit: it cannot be served there; the text says why.
    """
    _set_up(settings)
    for line in unknown(os.environ):
        logger.warning("%s", line)
    try:
        needs_key = let_in(settings.authentication, host)
        listening = listen(host, port)
    except CannotStart as error:
        raise SystemExit(f"selfnorm: {error}") from None
    services = _services(settings, needs_key=needs_key)
    _Server(_config(services), services).run(sockets=listening)
    return 0


def serve_part(settings: Settings, channel: socket.socket) -> None:
    """Serve the connections that an acceptor hands over through a channel, until SIGTERM or its end."""
    _set_up(settings)
    services = _services(settings, needs_key=settings.authentication != "off")  # the acceptor has decided
    channel.setblocking(False)
    _Part(_config(services), services, channel).run(sockets=[])


def _set_up(settings: Settings) -> None:
    logs.set_up("api", settings.log_format, settings.log_level)
    tracing.set_up("api", version("selfnorm"))


def _services(settings: Settings, *, needs_key: bool) -> Services:
    sys.setswitchinterval(SWITCH_SECONDS)
    return Services(
        database=Database(settings.database_url, DATABASE_PATIENCE_SECONDS, settings.store, settings.statement_seconds),
        doorbell=Doorbell(settings.broker_url),
        limits=settings.limits,
        table_limits=settings.table_limits,
        datasets_dir=settings.datasets_dir,
        max_json_bytes=settings.max_json_bytes,
        max_predict_bytes=settings.max_predict_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        bounds=_bounds(settings),
        quotas=settings.quotas,
        request_rate=None if settings.request_rate is None else Rate.of(settings.request_rate),
        wrong_key_rate=None if settings.wrong_key_rate is None else Rate.of(settings.wrong_key_rate),
        rates_url=settings.rates_url or settings.broker_url,
        authentication=needs_key,
        loopback_only=not needs_key,
        allowed_hosts=settings.allowed_hosts,
        cors_origins=settings.cors_origins,
        model_memory_bytes=settings.model_memory_bytes,
        default_model=settings.default_model,
        logs_access=settings.access_log,
        webhooks=WebhookRules(Outbound(settings.webhook_allow_private), settings.max_webhooks),
        audit_days=settings.audit_days,
    )


def _bounds(settings: Settings) -> ConnectionBounds:
    bounds = settings.connection_bounds
    return replace(bounds, max_connections=max(1, min(bounds.max_connections, _open_files() - SPARE_FILES)))


def _open_files() -> int:
    """Let this process open as many files as it may be allowed; return how many that is."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    if wanted > allowed != resource.RLIM_INFINITY:
        with suppress(ValueError, OSError):  # a system may allow less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_FILES if allowed == resource.RLIM_INFINITY else allowed


def _config(services: Services) -> uvicorn.Config:
    app = create_app(services)
    return uvicorn.Config(
        app,
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_keep_alive=services.bounds.keep_alive_seconds,
        ws="none",
        http=protocol(services, app.state.statistics),
    )


class _Server(uvicorn.Server):
    """Uvicorn that lets held answers go when it is asked to end, and cuts no connection off that waits to be taken."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services
        self._watching: asyncio.Task[None] | None = None
        self._connecting: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Come up."""
        await super().startup(sockets)
        self._watching = asyncio.create_task(watch(self.server_state.connections))
        gc.collect()
        gc.freeze()  # what is loaded now stays; looking through it again and again would hold up requests

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and finish what is under way."""
        self._services.stopping.set()
        for listening in sockets or []:
            leave(listening)
        if sockets:
            await asyncio.sleep(HANDSHAKE_SECONDS)
        for connection in [taken for listening in sockets or [] for taken in accept_all(listening)]:
            self._begin(connection)
        for server in self.servers:
            server.close()
        if self._connecting:
            await asyncio.wait(self._connecting)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self._services.stopping.set()
        super().handle_exit(sig, frame)

    def _begin(self, connection: socket.socket) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client had gone already
            connection.close()
            self._has_closed()

    def _protocol(self) -> HotProtocol:
        kind = self.config.http_protocol_class
        assert issubclass(kind, HotProtocol)
        made = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        made.on_close = self._has_closed
        return made

    def _has_closed(self) -> None:
        """Take the end of a connection that did not come through uvicorn."""


class _Part(_Server):
    """Uvicorn that listens nowhere, and is handed connections."""

    def __init__(self, config: uvicorn.Config, services: Services, channel: socket.socket) -> None:
        super().__init__(config, services)
        self._channel = channel

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
        await super().shutdown(sockets)

    def _take(self) -> None:
        taken = take(self._channel)
        if taken is None:  # the acceptor has gone
            asyncio.get_running_loop().remove_reader(self._channel)
            self._services.stopping.set()
            self.should_exit = True
            return
        for connection in taken:
            if connection is None:
                logger.warning("a connection could not be taken: there are no file descriptors left")
                self._has_closed()
            else:
                self._begin(connection)

    def _has_closed(self) -> None:
        self._say(CLOSED)

    def _say(self, word: bytes) -> None:
        try:
            self._channel.send(word)
        except OSError:  # the acceptor has gone, or does not listen; it counts anew when this process is started again
            logger.debug("the acceptor was not told")


if __name__ == "__main__":
    serve_part(read_settings(), socket.socket(fileno=int(sys.argv[1])))
