"""Turns requests away that come too often: of an owner all together, of an address those with a wrong key."""

from collections.abc import Callable

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import as_problem
from service.api.gate.rates import Rates
from service.api.rephrasing import rephrase
from service.domain.owners import DEFAULT_OWNER
from service.domain.quotas import TooManyRequests

UNCOUNTED = frozenset({"/metrics"})
"""What looks after the service asks for it all the time, and must not go blind when the others ask too often."""
COUNTED = "is_counted"
"""Stands in the state of a request that has been counted before it came here."""


class RequestRates:
    """Counts requests by owner, behind what finds out whose they are; what needs no key is not counted."""

    def __init__(self, app: ASGIApp, rates: Rates, is_public: Callable[[str], bool]) -> None:
        self._app = app
        self._rates = rates
        self._is_public = is_public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["path"] in UNCOUNTED or self._is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        owner = state.get("owner", DEFAULT_OWNER)
        send = self._telling(owner, send)
        if not state.get(COUNTED) and (seconds := self._rates.take(owner)):
            answer = as_problem(Request(scope), TooManyRequests(self._rates.rate, seconds))
            await rephrase(scope["path"], answer)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _telling(self, owner: str, send: Send) -> Send:
        """Say in every answer what is allowed, and what is left of it."""
        rate = self._rates.rate

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                left = f'"requests";r={self._rates.left(owner)};t={self._rates.resets_in()}'
                policy = f'"requests";q={rate.amount};w={rate.seconds}'
                told = [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]
                message["headers"] = [*message["headers"], *told]
            await send(message)

        return telling
