"""Which scope a route needs: declared at the route, and held against the key of a request before it is read."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, compile_path
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from service.api.errors import as_problem
from service.api.metering.refusals import KeyFault, authentication_failed
from service.domain.key_errors import MissingScope, NoKey
from service.domain.keys import Scope

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

MARK = "needed_scopes"
NOBODY: frozenset[Scope] = frozenset()
"""The scopes of a request that shows no key."""
DESCRIPTIONS = frozenset({"/openapi.json", "/docs", "/docs/oauth2-redirect"})
DESCRIPTION_FILES = "/static-offline-docs/"
UNDECLARED = frozenset({Scope.ADMIN})
"""What a route needs that says nothing; a test fails for it."""


def needs(*scopes: Scope) -> Callable[[Endpoint], Endpoint]:
    """Say that a route needs a key with one of these scopes."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, MARK, frozenset(scopes))
        return endpoint

    return mark


def public(endpoint: Endpoint) -> Endpoint:
    """Say that a route needs no key."""
    return needs()(endpoint)


def needed(endpoint: Callable[..., Any]) -> frozenset[Scope]:
    """Return the scopes one of which a route needs; none for a public one."""
    declared: frozenset[Scope] = getattr(endpoint, MARK, UNDECLARED)
    return declared


def is_declared(endpoint: Callable[..., Any]) -> bool:
    """Whether a route says what it needs."""
    return hasattr(endpoint, MARK)


class ScopedRoute(APIRoute):
    """A route that is asked for only with a key that has a scope which it needs, where authentication is on."""

    async def handle(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Serve a request."""
        held: frozenset[Scope] | None = scope.get("state", {}).get("scopes")  # None: authentication is off
        wanted = needed(self.endpoint)
        if held is None or not wanted or not held.isdisjoint(wanted):
            await super().handle(scope, receive, send)
            return
        authentication_failed(KeyFault.SCOPE if held else KeyFault.MISSING)
        error = MissingScope(_words(wanted), _words(held)) if held else NoKey()
        answer = await self.refuse(Request(scope), error)
        await answer(scope, receive, send)

    async def refuse(self, request: Request, error: MissingScope | NoKey) -> Response:
        """Return the answer to a request whose key does not open this route."""
        return as_problem(request, error)


def contexts(routes: Iterable[BaseRoute]) -> list[RouteContext]:
    """Return every route of an application as it is reached, those of included routers among them."""
    return list(iter_route_contexts(list(routes)))


class PublicPaths:
    """The addresses that need no key."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        """Take those of routes that say so, and of what describes the API."""
        paths = {str(found.path) for found in contexts(routes) if found.endpoint and _is_public(found.endpoint)}
        self._exact = DESCRIPTIONS | {path for path in paths if "{" not in path}
        self._patterns = tuple(compile_path(path)[0] for path in paths - self._exact)

    def __contains__(self, path: object) -> bool:
        if path in self._exact:
            return True
        return isinstance(path, str) and (
            path.startswith(DESCRIPTION_FILES) or any(pattern.match(path) for pattern in self._patterns)
        )


def _is_public(endpoint: Callable[..., Any]) -> bool:
    return is_declared(endpoint) and not needed(endpoint)


def _words(scopes: Iterable[Scope]) -> list[str]:
    held = set(scopes)
    return [scope.value for scope in Scope if scope in held]
