"""Sockets that listen, on every address that a name stands for."""

import ctypes
import errno
import ipaddress
import logging
import socket
import struct
import sys
from contextlib import suppress

from service.processes import CannotStart

logger = logging.getLogger(__name__)

BACKLOG = 2048
NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What is said of IPv6 where a name stands for such an address, and the machine has none."""
HANDSHAKE_SECONDS = 0.2
"""So long a connection that is being made takes to be there, where the client is not on the other side of the world."""
_SO_ATTACH_FILTER = 26
_DROP_NEW = (
    (0x30, 0, 0, 13),  # load the flags of a TCP segment
    (0x45, 0, 1, 0x02),  # SYN, which begins a connection?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # or take it whole
)
"""A program for Linux's packet filter: code, steps if so, steps if not, operand."""


def needs_keys(authentication: str, host: str) -> bool:
    """Whether requests need a key, where the setting says ``authentication`` and the service listens on a host.

    Raises:
        CannotStart: it would let everybody in who reaches it.
    """
    if authentication != "off":
        return authentication == "on" or not is_loopback(host)
    if not is_loopback(host):
        raise CannotStart(
            f"SELFNORM_AUTHENTICATION=off and --host {host}: whoever reaches this address could use the service; "
            "listen on 127.0.0.1, or leave authentication on and make a key: selfnorm keys create NAME"
        )
    return False


def let_in(authentication: str, host: str) -> bool:
    """Say who is let in; return whether requests need a key.

    Raises:
        CannotStart: everybody would be who reaches the host.
    """
    is_on = needs_keys(authentication, host)
    if is_on:
        logger.info("authentication is on: requests need a key")
    else:
        logger.info("authentication is off: whoever uses this machine can use the service")
    return is_on


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a service that listens on a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listen(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address that a name stands for; they block nobody.

    Raises:
        CannotStart: the address cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
        listening = _bind_all(list(addresses))
    except OSError as error:
        raise CannotStart(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
    for one in listening:
        logger.info("listening on %s, port %d", *one.getsockname()[:2])
    return listening


def leave(listening: socket.socket) -> None:
    """Let no more connections begin; those that have begun can all be accepted ``HANDSHAKE_SECONDS`` later.

    The system cuts off what nobody has accepted when the socket is closed, which a client could not tell from a request
    that failed; who comes after this tries again, and is refused.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_NEW))
    said = struct.pack("HP", len(_DROP_NEW), ctypes.addressof(program))
    with suppress(OSError):  # a sandbox may not have this; then very few are cut off
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, said)


def accept_all(listening: socket.socket) -> list[socket.socket]:
    """Return every connection that waits to be accepted."""
    found = []
    with suppress(OSError):  # there are no more
        while True:
            found.append(listening.accept()[0])
    return found


def _bind_all(addresses: list[tuple[int, tuple[object, ...]]]) -> list[socket.socket]:
    listening: list[socket.socket] = []
    for number, (family, address) in enumerate(addresses):
        try:
            listening.append(_bind(family, address))
        except OSError as error:
            is_last = number == len(addresses) - 1
            if error.errno not in NO_SUCH_ADDRESS or (is_last and not listening):
                raise
    return listening


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening
