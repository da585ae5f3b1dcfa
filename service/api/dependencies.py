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
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, WithJsonSchema

from service.api.counts import PredictionCounts
from service.api.errors import malformed
from service.api.gathering import Gathering
from service.api.imports import ImportQueue
from service.domain import strict_json
from service.domain.bounds import Name
from service.domain.errors import InvalidIdempotencyKey, MalformedRequest, RequestStillRunning
from service.domain.jobs import JobState
from service.domain.limits import Limits, TableLimits
from service.storage.database import Database
from service.storage.jobs import JobFilter
from service.storage.pages import MAX_PAGE_SIZE, PageRequest
from service.task_queue import Doorbell
from service.use_cases.idempotency import KeyedRequest, Outcome
from service.use_cases.serving import MEMORY_BYTES, Served, Serving

LARGE_BODY_BYTES = 64 * 1024
"""A larger body is read in a thread, so that nobody waits behind it."""
MAX_KEY_LENGTH = 255


class RunningRequests:
    """The keys of the requests that this process serves right now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: set[str] = set()

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
        with self._lock:
            if request.key in self._keys:
                raise RequestStillRunning(request.key)
            self._keys.add(request.key)
        try:
            yield
        finally:
            with self._lock:
                self._keys.remove(request.key)


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
    model_memory_bytes: int = MEMORY_BYTES
    default_model: str | None = None
    """Asked by /invocations where a request names none."""
    imports: ImportQueue = field(default_factory=ImportQueue)
    running: RunningRequests = field(default_factory=RunningRequests)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process is asked to end, so that held answers are let go."""
    drawing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    """Plots are drawn one at a time: each keeps Python busy for tenths of a second."""
    comment_seconds: float = 15.0
    """A stream of events sends a comment after so long without one, so that no proxy takes it for dead."""

    @cached_property
    def serving(self) -> Serving:
        """The models that this process serves."""
        return Serving(self.database, self.model_memory_bytes, on_look=lambda: self.counts.update())

    @cached_property
    def counts(self) -> PredictionCounts:
        """What /metrics tells of predictions."""
        return PredictionCounts(self.serving)

    @cached_property
    def probing(self) -> CapacityLimiter:
        """Lets one network be probed at a time, which takes memory and all cores; others wait without a thread."""
        return CapacityLimiter(1)

    @cached_property
    def gathering(self) -> Gathering:
        """What answers rows for every route."""
        return Gathering()


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def find_served(services: Services, name: str, version: int | None = None, alias: str | None = None) -> Served:
    """Return the version that a request means: at once where it is in memory, else looked up in a thread.

    Raises:
        UnknownModel, UnknownVersion, UnknownAlias, ModelNotReady, CorruptBlob: as ``Serving.find`` does.
    """
    if served := services.serving.known(name, version, alias):
        return served
    return await run_in_threadpool(services.serving.find, name, version, alias)


async def database_answers(request: Request) -> None:
    """Refuse at once what needs the database while it does not answer: no thread is held, no upload taken in.

    Raises:
        DatabaseDown: it does not answer.
    """
    _services(request).database.watch.check()


def _coerce_size(value: Any) -> Any:
    """Read a page size as generously as the contract says: any finite number, coerced to 1..100."""
    try:
        return int(min(max(float(value), 1), MAX_PAGE_SIZE))
    except (TypeError, ValueError, OverflowError):
        return value


def _page(
    page_size: Annotated[
        int, BeforeValidator(_coerce_size), Query(description="How many items; coerced to 1..100")
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
    return KeyedRequest(key, digest.hexdigest())


def answer_of(outcome: Outcome[Any]) -> Response:
    """Return the answer to a request that makes something, and say so where it was given before."""
    stored = outcome.answer
    mark = {"Idempotent-Replayed": "true"} if outcome.replayed else {}
    return Response(stored.body, stored.status, {**stored.headers, **mark}, media_type="application/json")


class StrictRequest(Request):
    """A request whose JSON is read by the strict reader."""

    async def json(self) -> Any:
        """Read the body."""
        body = await self.body()
        try:
            if len(body) > LARGE_BODY_BYTES:
                return await run_in_threadpool(strict_json.loads, body)
            return strict_json.loads(body)
        except MalformedRequest as error:
            raise malformed(error) from None


class StrictRoute(APIRoute):
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
