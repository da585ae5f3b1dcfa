"""Protection from web sites: a page that somebody looks at could send requests to this service from their browser.

Where no key is asked for, a browser on the same machine is all that a page needs. So a request that changes something
is refused where a browser says that another site has sent it, and any that was sent to a name which is not this
machine's: a site can let its own name stand for 127.0.0.1, and would then be at home here (DNS rebinding). So is, where
no key is asked for, what a page of another site loads, which may take work and memory; and what a proxy has passed on,
behind which stand others than the users of this machine.
"""

from collections.abc import Iterable

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import as_problem
from service.api.gate.credentials import SAFE_METHODS, all_of, site_of
from service.api.gate.hosts import Hosts
from service.api.rephrasing import rephrase
from service.domain.key_errors import Forbidden, OtherSite, ThroughProxy, UnknownHost

OTHERS = (b"cross-site", b"same-site")
"""Another port or subdomain may be anybody's."""
FORWARDED = (b"forwarded", b"x-real-ip", b"via")
"""What proxies add, and programs and browsers of this machine do not; beside all that begins with ``X-Forwarded-``."""
PROBES = ("/healthz", "/readyz")
"""Asked by whoever runs the service, under whatever address; they tell nothing."""


class Sites:
    """Turns away what other web sites send."""

    def __init__(self, app: ASGIApp, hosts: Hosts, origins: Iterable[str] = (), *, needs_key: bool = False) -> None:
        """``origins`` may send what they want: those that the CORS setting names."""
        self._app = app
        self._hosts = hosts
        self._needs_key = needs_key
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        error = self._fault(scope) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
            return
        await rephrase(scope["path"], as_problem(Request(scope), error))(scope, receive, send)

    def _fault(self, scope: Scope) -> Forbidden | None:
        headers = scope["headers"]
        for host in all_of(headers, b"host"):
            if not self._hosts.take(host) and scope["path"] not in PROBES:
                return UnknownHost(host.decode("latin-1"))
        if not self._needs_key and any(map(_is_of_a_proxy, headers)):
            return ThroughProxy()
        if self._may_come_from_anywhere(scope) or site_of(headers) not in OTHERS:
            return None
        origin = next(iter(all_of(headers, b"origin")), b"")
        return None if origin in self._origins else OtherSite(origin.decode("latin-1"))

    def _may_come_from_anywhere(self, scope: Scope) -> bool:
        if all_of(scope["headers"], b"authorization"):
            return True  # a browser asks before it sends a header such as this for another site
        if scope["method"] not in SAFE_METHODS:
            return False
        # A link may lead here from everywhere; a browser that asks what is allowed changes nothing.
        is_link = all_of(scope["headers"], b"sec-fetch-mode") == [b"navigate"]
        return self._needs_key or is_link or scope["method"] == "OPTIONS"


def _is_of_a_proxy(header: tuple[bytes, bytes]) -> bool:
    return header[0] in FORWARDED or header[0].startswith(b"x-forwarded-")
