"""Secrets that are known again wherever they turn up: what services are started with, and what all keys look like.

Whatever a service leaves behind is searched for them when it has ended: its logs, its temporary files, its database.
"""

import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from service.domain.keys import KEY_PATTERN

CANARY = "CanaryThatMustNotSing"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": f"id{CANARY}",
    "AWS_SECRET_ACCESS_KEY": f"aws{CANARY}",
    "PGPASSWORD": f"pg{CANARY}",
    "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20otel{CANARY}",
}
"""What a service may find in its environment; tests that need other values there set them."""
BROKER_URL = f"redis://:broker{CANARY}@127.0.0.1:1/0"
"""Of a broker that never answers."""
KEY = re.compile(KEY_PATTERN.pattern.encode())
WEBHOOK_SECRET = re.compile(rb"whsec_[A-Za-z0-9+/]{20}")
ANCHORS = ((b"sn_", KEY), (b"whsec_", WEBHOOK_SECRET), (CANARY.encode(), re.compile(CANARY.encode())))
DATABASE = re.compile(r"\.db(-wal|-shm|-journal)?$")


def spilled(*places: Path) -> list[str]:
    """Say which files, or files below a folder, hold a secret."""
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return [f"{file} holds {secret}" for file in files if file.is_file() for secret in _secrets_of(file)]


def sung(content: bytes) -> set[str]:
    """Return how the secrets begin that some bytes hold."""
    return {_shown(content, found) for anchor, secret in ANCHORS for found in _found(content, anchor, secret)}


def _secrets_of(file: Path) -> Iterable[str]:
    if not file.stat().st_size:
        return ()
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # Secrets of webhooks are stored, for they sign with them.
        anchors = [one for one in ANCHORS if one[1] is not WEBHOOK_SECRET or not DATABASE.search(file.name)]
        return {_shown(content, found) for anchor, secret in anchors for found in _found(content, anchor, secret)}


def _found(content: bytes | mmap.mmap, anchor: bytes, secret: re.Pattern[bytes]) -> Iterator[int]:
    place = content.find(anchor)
    while place >= 0:
        if secret.match(content, place):
            yield place
        place = content.find(anchor, place + 1)


def _shown(content: bytes | mmap.mmap, place: int) -> str:
    return repr(bytes(content[max(0, place - 60) : place + 30]))
