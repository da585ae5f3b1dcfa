"""Counts that all API processes share, in Redis, by the library ``limits``."""

from collections.abc import Mapping
from functools import cached_property
from itertools import islice

from limits.storage import RedisStorage

TIMEOUT_SECONDS = 1.0
MOST_AT_ONCE = 1_000
"""So many names are told at once; the others have their turn the next time."""
SOCKET = "redis+socket://"


class SharedCounts:
    """Adds to counts in Redis; connects when it is first used."""

    def __init__(self, url: str, what: str) -> None:
        self._url = url.replace(SOCKET, "unix://").replace("virtual_host=", "db=")
        self._what = what

    def add(self, period: int, seconds: int, new: Mapping[str, int]) -> dict[str, int]:
        """Add to the counts of a period, and return what they are then."""
        return {
            name: self._storage.incr(f"{self._what}/{period}/{name}", 2 * seconds, amount)
            for name, amount in islice(new.items(), MOST_AT_ONCE)
        }

    @cached_property
    def _storage(self) -> RedisStorage:
        return RedisStorage(self._url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
