"""What a request shows of who sends it: a key in its Authorization header, or in the pages' cookie; from where."""

import ipaddress
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

Headers = Iterable[tuple[bytes, bytes]]

COOKIE = b"selfnorm"
SECURE_COOKIE = b"__Host-selfnorm"
"""Over https: a browser takes it from nobody but this host, over https."""
SIGNED_IN: ContextVar[str | None] = ContextVar("SIGNED_IN", default=None)
"""The owner whose key the cookie of the request that is being answered holds: its pages offer to sign out."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def token_of(value: bytes) -> bytes | None:
    """Return what stands behind ``Bearer`` in an Authorization header; None where it is of another kind."""
    kind, _, token = value.partition(b" ")
    return token.strip(b" ") if kind.lower() == b"bearer" else None


def all_of(headers: Headers, name: bytes) -> list[bytes]:
    """Return every value of a header."""
    return [value for found, value in headers if found == name]


def cookie_name(scheme: str) -> bytes:
    """Return the name of the cookie that holds a key."""
    return SECURE_COOKIE if scheme == "https" else COOKIE


def cookie_of(headers: Headers, scheme: str) -> bytes | None:
    """Return the key that the pages' cookie holds."""
    start = cookie_name(scheme) + b"="
    for value in all_of(headers, b"cookie"):
        for pair in value.split(b";"):
            if pair.strip(b" ").startswith(start):
                return pair.strip(b" ")[len(start) :]
    return None


def site_of(headers: Headers) -> bytes | None:
    """Return from where a browser says that a request comes: ``same-origin``, ``same-site``, ``cross-site``, ``none``.

    Old browsers say nothing, and none does over plain HTTP to another machine; whether an Origin is there tells then.
    """
    values = all_of(headers, b"sec-fetch-site")
    if values:
        return values[0].lower()
    origins, hosts = all_of(headers, b"origin"), all_of(headers, b"host")
    if not origins:
        return None
    is_here = len(origins) == len(hosts) == 1 and _place(origins[0]) == hosts[0].lower()
    return b"same-origin" if is_here else b"cross-site"


def address_of(scope: Mapping[str, Any]) -> str:
    """Return from where a request comes; of IPv6, where everybody has many addresses, the network."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return "unknown"
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _place(origin: bytes) -> bytes:
    try:
        return urlsplit(origin.lower()).netloc
    except ValueError:
        return b""
