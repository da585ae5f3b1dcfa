"""The names that requests may be sent to, as their Host header has them."""

import ipaddress
import re
from collections.abc import Iterable

MOST_REMEMBERED = 256
PORT = re.compile(r":[0-9]{0,5}")


class Hosts:
    """The names that requests may be sent to."""

    def __init__(self, names: Iterable[str] = (), *, loopback_only: bool = False) -> None:
        """Take names, ``*.example.org`` among them; loopback addresses and names are always taken.

        Where there are no names, any will do unless it is to be ``loopback_only``.
        """
        self._exact = {name.lower() for name in names if not name.startswith("*.")}
        self._ends = tuple(name[1:].lower() for name in names if name.startswith("*."))
        self._takes_any = not loopback_only and not self._exact and not self._ends
        self._judged: dict[bytes, bool] = {}

    def take(self, host: bytes) -> bool:
        """Whether a request with this Host header is answered."""
        if self._takes_any:
            return True
        judged = self._judged.get(host)
        if judged is None:
            judged = self._judge(host.decode("latin-1").lower())
            if len(self._judged) < MOST_REMEMBERED:
                self._judged[host] = judged
        return judged

    def _judge(self, host: str) -> bool:
        name, rest = _halves(host)
        if rest and not PORT.fullmatch(rest):
            return False
        name = name.removesuffix(".")
        return name in self._exact or name.endswith(self._ends) or _is_loopback(name)


def _halves(host: str) -> tuple[str, str]:
    """Return the name, or the address without its brackets, and what follows it."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return (name, rest) if bracket else ("", "")
    name, colon, rest = host.partition(":")
    return name, colon + rest


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
