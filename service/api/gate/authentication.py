"""Who asks: a key is looked for before anything else, and every address that is not declared public needs one.

The key comes in ``Authorization: Bearer`` or, from the pages, in a cookie, which counts only where this service's own
page has sent the request.
"""

from collections.abc import Callable

from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import as_problem, on_database_error
from service.api.gate.credentials import SAFE_METHODS, SIGNED_IN, all_of, cookie_of, site_of, token_of
from service.api.gate.key_check import KeyCheck
from service.api.gate.scopes import NOBODY
from service.api.metering.refusals import KeyFault, authentication_failed
from service.api.rephrasing import rephrase
from service.domain.key_errors import Forbidden, InvalidKey, NoKey, OtherSite, Unauthorized
from service.domain.quotas import TooManyRequests
from service.storage.faults import DATABASE_DOWN, STATEMENT_REFUSED
from service.use_cases.key_ring import Access

Page = Callable[[Scope], Response | None]
"""Returns what a browser is shown that asks for a page without a key; None where it is no page."""


class Authentication:
    """Lets requests in that show a key, and says whose it is."""

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyCheck,
        is_public: Callable[[str], bool],
        page: Page,
    ) -> None:
        self._app = app
        self._keys = keys
        self._is_public = is_public
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        if self._is_public(scope["path"]):
            state["scopes"] = NOBODY
            await self._app(scope, receive, send)
            return
        try:
            access = await self._access(scope)
        except (Unauthorized, Forbidden, TooManyRequests) as error:
            answer = self._page(scope) or as_problem(Request(scope), error)
            await rephrase(scope["path"], answer)(scope, receive, send)
            return
        except (*DATABASE_DOWN, STATEMENT_REFUSED) as error:
            answer = await on_database_error(Request(scope), error)
            await rephrase(scope["path"], answer)(scope, receive, send)
            return
        state["owner"], state["key_id"], state["scopes"] = access.owner, access.key_id, access.scopes
        # What is read may be held for long, or be a stream.
        await self._app(scope, receive, _while_open(access, scope, receive, send) if scope["method"] == "GET" else send)

    async def _access(self, scope: Scope) -> Access:
        """Return what the key of a request opens.

        Raises:
            NoKey, InvalidKey: it shows none, or none that opens anything.
            TooManyWrongKeys: its key is not known, and too many wrong ones came from there.
            OtherSite: its key stands in a cookie, and another site may have sent it.
        """
        shown = all_of(scope["headers"], b"authorization")
        token = token_of(shown[0]) if len(shown) == 1 else None
        if not shown:
            token = cookie_of(scope["headers"], scope["scheme"])
            if token is None:
                authentication_failed(KeyFault.MISSING)
                raise NoKey
            _check_site(scope)
        access = await self._keys.admit(token, scope)
        if not shown:
            SIGNED_IN.set(access.owner)
        return access


def _while_open(access: Access, scope: Scope, receive: Receive, send: Send) -> Send:
    """Send an answer as long as its key opens something; what has not begun by then is refused, what has is ended."""
    has_begun = is_over = False

    async def sending(message: Message) -> None:
        nonlocal has_begun, is_over
        if is_over:
            return
        if not access.is_over:
            has_begun = True
            await send(message)
            return
        is_over = True
        if has_begun:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await rephrase(scope["path"], as_problem(Request(scope), InvalidKey()))(scope, receive, send)

    return sending


def _check_site(scope: Scope) -> None:
    """Let a cookie count only where a page of this service has sent the request.

    Raises:
        OtherSite: another one has, or may have.
    """
    site = site_of(scope["headers"])
    if site == b"same-origin" or (scope["method"] in SAFE_METHODS and site in (None, b"none")):
        return
    origin = next(iter(all_of(scope["headers"], b"origin")), b"")
    raise OtherSite(origin.decode("latin-1"))
