"""Everything that routes work with, and what a request may see of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from anyio import CapacityLimiter
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from service.api.gate.hosts import Hosts
from service.api.gate.key_check import KeyCheck
from service.api.gate.rates import Rates
from service.api.gathering import Gathering
from service.api.imports import ImportQueue
from service.api.metering.counts import PredictionCounts
from service.api.metering.process import ProcessCounts
from service.api.metering.traffic import Traffic
from service.domain.audit import Actor
from service.domain.errors import RequestStillRunning
from service.domain.limits import ConnectionBounds, Limits, TableLimits
from service.domain.owners import DEFAULT_OWNER
from service.domain.quotas import NO_QUOTAS, Quotas, Rate
from service.storage.database import Database
from service.task_queue import Doorbell
from service.use_cases.idempotency import KeyedRequest
from service.use_cases.key_ring import KeyRing
from service.use_cases.observation import Observatory
from service.use_cases.serving import MEMORY_BYTES, Served, Serving
from service.use_cases.webhooks import WebhookRules


class RunningRequests:
    """The keys of the requests that this process serves right now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: set[tuple[str, str]] = set()

    @contextmanager
    def serving(self, request: KeyedRequest | None) -> Iterator[None]:
        """Hold the key of a request until it has been served.

        Other processes do not see it: a second request that comes to one of them waits in the database for the end of
        the first one, and is given its answer.

        Raises:
            RequestStillRunning: a request under this key is being served.
        """
        if request is None:
            yield
            return
        held = (request.owner, request.key)
        with self._lock:
            if held in self._keys:
                raise RequestStillRunning(request.key)
            self._keys.add(held)
        try:
            yield
        finally:
            with self._lock:
                self._keys.remove(held)


@dataclass(frozen=True)
class Services:
    """Everything that routes work with; made by a root, closed by the application."""

    database: Database
    doorbell: Doorbell
    limits: Limits = field(default_factory=Limits)
    table_limits: TableLimits = field(default_factory=TableLimits)
    datasets_dir: Path | None = None
    max_json_bytes: int = 8 * 2**20
    max_predict_bytes: int = 64 * 2**20
    max_upload_bytes: int = 512 * 2**20
    bounds: ConnectionBounds = field(default_factory=ConnectionBounds)
    """What a connection may take."""
    quotas: Quotas = NO_QUOTAS
    """What an owner may have."""
    request_rate: Rate | None = None
    """How often an owner may ask."""
    wrong_key_rate: Rate | None = None
    """How often an address may show a wrong key."""
    rates_url: str | None = None
    """Where API processes tell each other how often owners and addresses have asked."""
    model_memory_bytes: int = MEMORY_BYTES
    default_model: str | None = None
    """Asked by /invocations where a request names none."""
    authentication: bool = False
    """Whether requests need a key."""
    loopback_only: bool = False
    """Whether only requests to a name of this machine are answered, and to the allowed hosts."""
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    """Other sites whose pages may send requests."""
    imports: ImportQueue = field(default_factory=ImportQueue)
    running: RunningRequests = field(default_factory=RunningRequests)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process is asked to end, so that held answers are let go."""
    drawing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    """Plots are drawn one at a time: each keeps Python busy for tenths of a second."""
    logs_access: bool = False
    """Whether every request is told of in the log."""
    comment_seconds: float = 15.0
    """A stream of events sends a comment after so long without one, so that no proxy takes it for dead."""
    webhooks: WebhookRules = field(default_factory=WebhookRules)
    audit_days: int = 0
    """So long the audit log is kept; 0: for ever."""

    @cached_property
    def serving(self) -> Serving:
        """The models that this process serves."""
        return Serving(self.database, self.model_memory_bytes, on_look=self.update_metrics)

    @cached_property
    def keys(self) -> KeyCheck:
        """What tells what a key opens."""
        return KeyCheck(KeyRing(self.database.for_everybody()), self.strangers)

    @cached_property
    def hosts(self) -> Hosts:
        """The names that requests may be sent to."""
        return Hosts(self.allowed_hosts, loopback_only=self.loopback_only)

    @cached_property
    def counts(self) -> PredictionCounts:
        """What /metrics tells of predictions."""
        return PredictionCounts(self.serving)

    @cached_property
    def traffic(self) -> Traffic:
        """What /metrics tells of requests."""
        return Traffic()

    @cached_property
    def process(self) -> ProcessCounts:
        """What /metrics tells of this process."""
        return ProcessCounts(self.database)

    @cached_property
    def observatory(self) -> Observatory:
        """What /metrics tells of everybody's jobs and workers."""
        return Observatory(self.database)

    def update_metrics(self) -> None:
        """Add to the metrics what was counted since the last time."""
        self.counts.update()
        self.traffic.update()
        self.process.update()

    @cached_property
    def rates(self) -> Rates | None:
        """How often owners have asked; None where it is not bounded."""
        return None if self.request_rate is None else Rates(self.request_rate)

    @cached_property
    def strangers(self) -> Rates | None:
        """How often addresses have shown a wrong key."""
        return None if self.wrong_key_rate is None else Rates(self.wrong_key_rate)

    @cached_property
    def probing(self) -> CapacityLimiter:
        """Lets one network be probed at a time, which takes memory and all cores; others wait without a thread."""
        return CapacityLimiter(1)

    @cached_property
    def gathering(self) -> Gathering:
        """What answers rows for every route."""
        return Gathering()


def services_of(request: Request) -> Services:
    """Return what the application works with."""
    services: Services = request.app.state.services
    return services


def owner_of(request: Request) -> str:
    """Return whose things a request may see, as authentication left it; without any they are everybody's who asks."""
    owner: str = request.scope.get("state", {}).get("owner", DEFAULT_OWNER)
    return owner


def actor_of(request: Request) -> Actor:
    """Return who asks, for the audit log."""
    state = request.scope.get("state", {})
    address = request.client.host if request.client else None
    return Actor(state.get("key_id"), state.get("request_id"), address)


def database_of(request: Request) -> Database:
    """Return the database as the owner of a request sees it, and writes into its audit log who asks."""
    return services_of(request).database.owned_by(owner_of(request), actor_of(request))


async def find_served(
    services: Services, owner: str, name: str, version: int | None = None, alias: str | None = None
) -> Served:
    """Return the version that a request means: at once where it is in memory, else looked up in a thread.

    Raises:
        UnknownModel, UnknownVersion, UnknownAlias, ModelNotReady, CorruptBlob: as ``Serving.find`` does.
    """
    if served := services.serving.known(owner, name, version, alias):
        return served
    return await run_in_threadpool(services.serving.find, owner, name, version, alias)
