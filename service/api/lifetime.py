"""What lives as long as an API process, beside its requests: threads that look after things, tasks, connections."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from service.api.gate.rates import keep_sharing
from service.api.gate.shared_counts import SharedCounts
from service.api.metering.process import TAKEN_BACK
from service.api.services import Services
from service.domain.quotas import can_share
from service.sweeper import Sweeper
from service.webhook_sender import WebhookSender

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 4.0
"""With what the server gives to requests under way, it makes less than 20 s."""


def lifespan_of(services: Services) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return what starts the parts of a process before its first request, and ends them after its last."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeper = Sweeper(services.database, on_taken=TAKEN_BACK.inc, audit_days=services.audit_days)
        sender = WebhookSender(services.database, services.webhooks.outbound)
        services.database.watch.start()
        sweeper.start()
        sender.start()
        services.serving.start()
        if services.authentication:
            services.keys.ring.start()
        sharing = _share_rates(services)
        yield
        for task in sharing:
            task.cancel()
        services.gathering.close()
        await _close(
            services.serving.stop,
            services.keys.ring.stop,
            sweeper.stop,
            sender.stop,
            services.doorbell.close,
            services.database.close,
        )

    return lifespan


def _share_rates(services: Services) -> list[asyncio.Task[None]]:
    """Begin to tell other processes how often owners and addresses have asked, where that is bounded."""
    url = services.rates_url
    strangers = services.strangers if services.authentication else None
    counted = {what: rates for what, rates in (("requests", services.rates), ("wrong keys", strangers)) if rates}
    if url is None or not counted:
        return []
    if not can_share(url):
        logger.warning(
            "%s are counted by each API process alone: the broker is no single Redis; SELFNORM_RATES_URL can name one",
            " and ".join(counted),
        )
        return []
    return [asyncio.create_task(keep_sharing(rates, SharedCounts(url, what).add)) for what, rates in counted.items()]


async def _close(*ends: Callable[[], object]) -> None:
    """End the parts of the process, in a thread that is left behind where one of them hangs."""
    thread = threading.Thread(target=lambda: [end() for end in ends], name="close", daemon=True)
    thread.start()
    deadline = time.monotonic() + CLOSE_SECONDS
    while thread.is_alive():
        if time.monotonic() > deadline:
            logger.warning("not everything could be closed in %g s; a broker or a database hangs", CLOSE_SECONDS)
            return
        await asyncio.sleep(0.02)
