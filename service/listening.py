"""Sockets that listen, on every address that a name stands for."""

import errno
import logging
import socket

from service.processes import CannotStart

logger = logging.getLogger(__name__)

BACKLOG = 2048
NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What is said of IPv6 where a name stands for such an address, and the machine has none."""


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
