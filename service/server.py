"""The root of an API process: settings in, uvicorn out."""

import ipaddress
import logging
from types import FrameType

import uvicorn

from service.api.app import create_app
from service.api.dependencies import Services
from service.settings import Settings
from service.storage.database import Database
from service.task_queue import Doorbell

logger = logging.getLogger(__name__)

GRACEFUL_SHUTDOWN_SECONDS = 14
"""What is still under way then, such as a body that does not come, is answered with 503."""
DATABASE_PATIENCE_SECONDS = 1.5
"""A client is to hear within 2 s that the database does not answer."""
KEEP_ALIVE_SECONDS = 30


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if not _is_loopback(host):
        logger.warning("listening on %s without authentication: everybody who reaches it can use it", host)
    services = Services(
        database=Database(settings.database_url, DATABASE_PATIENCE_SECONDS),
        doorbell=Doorbell(settings.broker_url),
        limits=settings.limits,
        table_limits=settings.table_limits,
        datasets_dir=settings.datasets_dir,
        max_json_bytes=settings.max_json_bytes,
        max_upload_bytes=settings.max_upload_bytes,
    )
    config = uvicorn.Config(
        create_app(services),
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws="none",
    )
    _Server(config, services).run()


class _Server(uvicorn.Server):
    """Uvicorn that lets held answers go when it is asked to end."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self._services.stopping.set()
        super().handle_exit(sig, frame)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
