"""What every answer tells a browser not to do with it; what a route says itself stands."""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
"""With ``no-referrer`` a browser would send ``Origin: null`` with the forms of the pages, over plain HTTP."""
SVG_POLICY = b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""A picture runs nothing, also where somebody opens it alone."""
DOCS_POLICY = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""FastAPI's page of the reference starts with a script in the page."""
DOCS = ("/docs", "/static-offline-docs")
NOT_KEPT = (b"cache-control", b"no-store")
KEPT_BY_ONE = (b"cache-control", b"private, no-cache")
"""For what has an ETag: a browser may keep it for its user, and asks each time whether it has changed."""


def as_lines(*, needs_key: bool) -> bytes:
    """Return the headers of an answer that has none of them, as they are sent."""
    headers = (*ALWAYS, NOT_KEPT) if needs_key else ALWAYS
    return b"".join(b"%b: %b\r\n" % header for header in headers)


class SecurityHeaders:
    """Adds to every answer what it lacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _completed(list(message["headers"]), scope["path"], state)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _completed(headers: list[tuple[bytes, bytes]], path: str, state: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    has = dict(headers)
    headers += [header for header in ALWAYS if header[0] not in has]
    if b"content-security-policy" not in has:
        if has.get(b"content-type", b"").startswith(b"image/svg"):
            headers.append((b"content-security-policy", SVG_POLICY))
        elif path.startswith(DOCS):
            headers.append((b"content-security-policy", DOCS_POLICY))
    if not state.get("scopes"):  # nobody has shown a key
        return headers
    kept = has.get(b"cache-control")
    if kept is None:
        headers.append(KEPT_BY_ONE if b"etag" in has else NOT_KEPT)
    elif b"no-store" not in kept and b"private" not in kept:
        return [(name, b"private, " + value if name == b"cache-control" else value) for name, value in headers]
    return headers
