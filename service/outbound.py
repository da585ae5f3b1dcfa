"""Requests to addresses that users name: only to public ones, in bounded time, without redirects and proxies.

A name is resolved once for each request, every address that it stands for is looked at, and the connection is made to
one of those very addresses. Whoever checks first and lets a library resolve again can be given another answer then
(DNS rebinding). Certificates are checked against the name.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpcore2

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
"""From the first packet to the head of the answer, however slowly that drips; looking the name up is not counted."""
MOST_LOOKING = 8
"""So many names are looked up early at once, in threads that a slow resolver may hold for half a minute each."""
MAX_TRIED = 4
"""So many of a name's addresses are tried, one after the other."""

GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
"""Stands for the IPv4 address in its last four bytes, where a network has only IPv6."""
NOT_PUBLIC = (
    IPv4Network("168.63.129.16/32"),  # the platform of Azure, which answers each of its machines there
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv6Network("2001::/23"),  # Teredo and other assignments
    IPv6Network("2002::/16"),  # 6to4, which stands for an IPv4 address
    IPv6Network("3fff::/20"),  # documentation
)
"""What Python, whose lists are shorter or of another kind, may take for global."""

Resolve = Callable[[str, int], list[str]]
"""Returns the addresses that a host's name stands for."""


class NotSent(Exception):
    """A request that was not answered; its text says why, and names no address."""


class UnknownName(NotSent):
    """The name stands for nothing."""

    def __init__(self) -> None:
        super().__init__("the host's name is not known")


class NotPublic(NotSent):
    """The name stands for no address, or for one that is not public: which of the two, strangers need not hear.

    They could try names, and learn which machines there are near this one.
    """

    def __init__(self) -> None:
        super().__init__("the host's name is not known, or stands for an address that is not public; nothing is sent")


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses that a name stands for, as the system says; it takes all spellings of an address.

    Raises:
        UnknownName: it stands for none.
        NotSent: that could not be found out now.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter of labels that are too long
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise NotSent("the host's name could not be looked up") from None
        raise UnknownName from None
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def is_public(address: str) -> bool:
    """Whether an address is one of the internet at large: no machine, container or router that is near this one."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found in NAT64:
            found = IPv4Address(int(found) & 0xFFFFFFFF)
        elif found not in GLOBAL_UNICAST:
            return False
    return found.is_global and not found.is_multicast and not any(found in network for network in NOT_PUBLIC)


@dataclass(frozen=True, slots=True)
class Outbound:
    """How requests leave: where to, found by whom, and which certificates count."""

    allow_private: bool = False
    """Whether every address may be asked, also without TLS: for tests, and for networks of one's own."""
    resolve: Resolve = resolve
    tls: ssl.SSLContext | None = None
    """Which certificates are trusted; None for those that the system does."""
    total_seconds: float = TOTAL_SECONDS
    looking: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(MOST_LOOKING), compare=False)

    def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses that a name stands for.

        Raises:
            NotPublic: there are none, or one of them may not be asked.
            UnknownName: there are none, where all may be asked.
            NotSent: the name could not be looked up.
        """
        try:
            found = self.resolve(host, port)
        except UnknownName:
            if self.allow_private:
                raise
            raise NotPublic from None
        if not self.allow_private and not all(map(is_public, found)):
            raise NotPublic
        return found

    def check(self, host: str, port: int, seconds: float = 2.0) -> None:
        """Look a name up, for so long, if not too many others wait; what is not known by then may be known later.

        Raises:
            NotPublic: it stands for no address, or for one that may not be asked.
        """
        refused: list[NotPublic] = []

        def look() -> None:
            try:
                self.addresses(host, port)
            except NotPublic as error:
                refused.append(error)
            except NotSent:
                return
            finally:
                self.looking.release()

        # This look only tells early what ``post`` finds out anyway.
        if not self.looking.acquire(blocking=False):
            return
        # The system's resolver cannot be told how long to take; a thread that waits for it is left behind.
        looking = threading.Thread(target=look, name="resolve", daemon=True)
        looking.start()
        looking.join(seconds)
        if refused:
            raise refused[0]

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send a body, and return the status of the answer, of which nothing else is read.

        Raises:
            NotSent: there was none.
        """
        backend = _Network(self, time.monotonic() + self.total_seconds)
        context = self.tls or ssl.create_default_context()
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), self.total_seconds)
        try:
            with httpcore2.ConnectionPool(ssl_context=context, network_backend=backend) as pool:
                fields: list[tuple[bytes | str, bytes | str]] = list(headers.items())
                extensions = {"timeout": timeout}
                with pool.stream("POST", url, headers=fields, content=body, extensions=extensions) as answer:
                    return int(answer.status)
        except (httpcore2.TimeoutException, TimeoutError):
            raise NotSent(f"it did not answer within {self.total_seconds:g} s") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise NotSent(_said(error)) from None


class _Network(httpcore2.NetworkBackend):
    """Connects to addresses that were looked at, and to no others; none of its streams outlasts the deadline."""

    def __init__(self, outbound: Outbound, deadline: float) -> None:
        self._outbound = outbound
        self._deadline = deadline
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  # the deadline counts instead, here and below
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of a name that answers."""
        addresses = self._outbound.addresses(host, port)[:MAX_TRIED]
        self._deadline = time.monotonic() + self._outbound.total_seconds
        failure: Exception = NotSent("the host's name stands for no address")
        for address in addresses:
            try:
                seconds = min(CONNECT_SECONDS, _left(self._deadline))
                stream = self._sockets.connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self._deadline)
        raise failure


class _Stream(httpcore2.NetworkStream):
    """A connection whose every wait ends at the deadline: one that drips would outlast any bound on single waits."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Read what has come."""
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Write everything."""
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        """Go on under TLS; the certificate is checked against the name."""
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Say something about the connection."""
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _said(error: Exception) -> str:
    """Say what went wrong with a connection, in words that hold no address."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate cannot be trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection could be made"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpcore2.ConnectError):
        return "no connection could be made"
    return "it broke the connection off, or did not answer in HTTP"
