"""What routes need, handed to them by FastAPI: the services behind them, pages, strict bodies, keyed requests."""

import hashlib
import json
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import Depends, Header, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BeforeValidator, WithJsonSchema

from service.api.counts import PredictionCounts
from service.api.errors import malformed
from service.api.gathering import Gathering
from service.api.hosts import Hosts
from service.api.imports import ImportQueue
from service.api.key_check import KeyCheck
from service.api.process import ProcessCounts
from service.api.rates import Rates
from service.api.scopes import ScopedRoute
from service.api.traffic import Traffic
from service.domain import strict_json
from service.domain.audit import Actor
from service.domain.bounds import Name
from service.domain.errors import InvalidIdempotencyKey, MalformedRequest, RequestStillRunning
from service.domain.jobs import JobState
from service.domain.limits import ConnectionBounds, Limits, TableLimits
from service.domain.owners import DEFAULT_OWNER
from service.domain.quotas import NO_QUOTAS, Quotas, Rate
from service.storage.database import Database
from service.storage.jobs import JobFilter
from service.storage.pages import MAX_PAGE_SIZE, PageRequest
from service.task_queue import Doorbell
from service.use_cases.idempotency import KeyedRequest, Outcome
from service.use_cases.key_ring import KeyRing
from service.use_cases.observation import Observatory
from service.use_cases.serving import MEMORY_BYTES, Served, Serving
from service.use_cases.webhooks import WebhookRules

LARGE_BODY_BYTES = 64 * 1024
"""A larger body is read in a thread, so that nobody waits behind it."""
MAX_KEY_LENGTH = 255
MAX_VALUES = 50_000
"""The most values of a JSON body that holds no rows, all lists and objects together: some for each of many columns."""
MAX_FIELDS = 1_000
"""The most fields of a JSON body itself; no route knows a tenth of them."""


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


# FastAPI runs what is no coroutine in a thread, which takes longer than these do.
async def _services(request: Request) -> Services:
    return services_of(request)


async def _owner(request: Request) -> str:
    return owner_of(request)


async def _database(request: Request) -> Database:
    return database_of(request)


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


async def database_answers(request: Request) -> None:
    """Refuse at once what needs the database while it does not answer: no thread is held, no upload taken in.

    Raises:
        DatabaseDown: it does not answer.
    """
    services_of(request).database.watch.check()


def _coerce_size(value: Any) -> Any:
    """Read a page size as generously as the contract says: any finite number, coerced to 1..100."""
    try:
        return int(min(max(float(value), 1), MAX_PAGE_SIZE))
    except (TypeError, ValueError, OverflowError):
        return value


def _page(
    page_size: Annotated[
        int,
        BeforeValidator(_coerce_size),
        WithJsonSchema({"type": "number"}),
        Query(description="How many items; coerced to 1..100"),
    ] = 50,
    page_token: Annotated[str | None, Query(max_length=200, description="next_page_token of the page before")] = None,
) -> PageRequest:
    return PageRequest(page_size, page_token)


def _filter(
    state: JobState | None = None, tag: Name | None = None, model: str | None = None, dataset: str | None = None
) -> JobFilter:
    return JobFilter(state, tag, model, dataset)


KeyParameter = Annotated[
    list[str] | None,
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[ -~]+$"}),
    Header(
        alias="Idempotency-Key",
        description="A word of your own, such as a UUID, that makes the request safe to repeat for 7 days: what was "
        "made under it is not made again, and its answer is given again, with Idempotent-Replayed: true",
    ),
]


async def _key(keys: KeyParameter = None) -> str | None:
    if keys is None:
        return None
    if len(keys) == 1 and 1 <= len(keys[0]) <= MAX_KEY_LENGTH and keys[0].isascii() and keys[0].isprintable():
        return keys[0]
    raise InvalidIdempotencyKey(keys)


KeyDependency = Annotated[str | None, Depends(_key)]
"""The key of a request whose body the route reads itself; it hashes it with ``keyed_request``."""


async def _keyed(request: Request, key: KeyDependency) -> KeyedRequest | None:
    if key is None:
        return None
    body = await request.body()
    if len(body) > LARGE_BODY_BYTES:
        return await run_in_threadpool(keyed_request, request, key, [body])
    return keyed_request(request, key, [body])


ServicesDependency = Annotated[Services, Depends(_services)]
OwnerDependency = Annotated[str, Depends(_owner)]
"""Whose things the request may see."""
DatabaseDependency = Annotated[Database, Depends(_database)]
"""The database as the owner of the request sees it."""
PageDependency = Annotated[PageRequest, Depends(_page)]
FilterDependency = Annotated[JobFilter, Depends(_filter)]
"""Which jobs, or predictions, a list is to hold."""
KeyedDependency = Annotated[KeyedRequest | None, Depends(_keyed)]
"""The request with its key; None where it has none."""


def keyed_request(request: Request, key: str, body: Iterable[bytes], *beside: str | None) -> KeyedRequest:
    """Hash what a request asks for: method, address, type, what stands ``beside`` its body, and the body in pieces."""
    kind = media_type(request.headers.get("content-type"))
    scope = request.scope
    head = (scope["method"], scope["path"], scope["query_string"].decode("latin-1"), kind, *beside)
    digest = hashlib.sha256(json.dumps(head).encode())  # which holds no line end, so that nothing can run into the body
    digest.update(b"\n")
    for piece in body:
        digest.update(piece)
    return KeyedRequest(owner_of(request), key, digest.hexdigest())


def answer_of(outcome: Outcome[Any]) -> Response:
    """Return the answer to a request that makes something, and say so where it was given before."""
    stored = outcome.answer
    mark = {"Idempotent-Replayed": "true"} if outcome.replayed else {}
    return Response(stored.body, stored.status, {**stored.headers, **mark}, media_type="application/json")


class StrictRequest(Request):
    """A request whose JSON is read by the strict reader."""

    max_values: int | None = MAX_VALUES
    """Of a body; None where it may hold rows, which are not looked at one by one."""

    async def json(self) -> Any:
        """Read the body."""
        body = await self.body()
        # Whatever is wrong with a value takes a kilobyte and some microseconds to say.
        if self.max_values is not None and body.count(b",") >= self.max_values:
            raise _too_many("values", body.count(b",") + 1, self.max_values)
        try:
            if len(body) > LARGE_BODY_BYTES:
                value = await run_in_threadpool(strict_json.loads, body)
            else:
                value = strict_json.loads(body)
        except MalformedRequest as error:
            raise malformed(error) from None
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise _too_many("fields", len(value), MAX_FIELDS)
        return value


class StrictRoute(ScopedRoute):
    """A route that takes its JSON body strictly and only as ``application/json``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handle(request: Request) -> Response:
            is_strict = isinstance(request, StrictRequest)  # then its body may have been read
            strict = request if is_strict else StrictRequest(request.scope, request.receive)
            if takes_json:
                _check_content_type(strict)
                if not await strict.body():
                    await strict.json()
            return await handler(strict)

        return handle


def _too_many(what: str, count: int, allowed: int) -> HTTPException:
    detail = f"the body holds {count:,} {what}; at most {allowed:,} are taken here"
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def media_type(header: str | None) -> str:
    """Return a content type without its parameters; empty where there is none."""
    if not header:
        return ""
    message = Message()
    message["content-type"] = header
    return message.get_content_type()


def _check_content_type(request: Request) -> None:
    kind = media_type(request.headers.get("content-type"))
    if kind != "application/json":
        got = kind[:64] or "no Content-Type"
        detail = f"the body must be application/json; got {got}. Send the header Content-Type: application/json"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
