"""What routes need, handed to them by FastAPI: services, the database of who asks, pages, filters, keyed requests."""

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BeforeValidator, WithJsonSchema

from service.api.services import Services, database_of, owner_of, services_of
from service.api.strict_bodies import LARGE_BODY_BYTES, media_type
from service.domain.bounds import Name
from service.domain.errors import InvalidIdempotencyKey
from service.domain.jobs import JobState
from service.storage.database import Database
from service.storage.jobs import JobFilter
from service.storage.pages import MAX_PAGE_SIZE, PageRequest
from service.use_cases.idempotency import KeyedRequest, Outcome

MAX_KEY_LENGTH = 255


# FastAPI runs what is no coroutine in a thread, which takes longer than these do.
async def _services(request: Request) -> Services:
    return services_of(request)


async def _owner(request: Request) -> str:
    return owner_of(request)


async def _database(request: Request) -> Database:
    return database_of(request)


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
