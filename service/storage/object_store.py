"""An object store for blobs, S3 or a folder; it knows keys and bytes, and nothing of what they are for."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

PIECE_BYTES = 8 << 20
"""More is read and written in pieces of this size, each of which has its own time."""
PIECES_AT_ONCE = 3
"""So many pieces of an object are sent side by side, and are in memory."""
KEEP_SECONDS = 3600.0
"""So long an object stays that nothing needs; whoever has just read where it is can still read it."""
LEAST_KEEP_SECONDS = 600.0
CONNECT_SECONDS = 3
REQUEST_SECONDS = 15
"""Less than PostgreSQL lets a session be idle, for blobs are read in sessions."""
NO_BUCKET = "NoSuchBucket"
"""What S3 calls it; it answers like an object that is not there, and is none that was lost."""


class ObjectStoreDown(Exception):
    """The object store, which keeps the database's large bytes, does not answer, or refuses."""


class NoObjectStore(ObjectStoreDown):
    """Bytes are in an object store, and no setting says in which."""


class NoSuchObject(Exception):
    """The store answers, and has no object of this key and size."""


@dataclass(eq=False)
class ObjectStore:
    """A store at a URL: ``s3://bucket/prefix?region=...&endpoint=...`` or ``file:///folder``. Opens nothing yet.

    While it does not answer, one thread asks it and every other one is refused at once.
    """

    url: str
    keep_seconds: float = KEEP_SECONDS
    request_seconds: float = REQUEST_SECONDS
    _opening: threading.Lock = field(default_factory=threading.Lock)
    _trying: threading.Lock = field(default_factory=threading.Lock)
    _client: "Client | None" = None
    _is_down: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder that it is; None for S3."""
        parsed = urlsplit(self.url)
        return Path(unquote(parsed.path)) if parsed.scheme == "file" else None

    def put(self, key: str, pieces: Iterable[bytes], size_bytes: int) -> None:
        """Store an object, which is there whole when this returns, or not at all where it raises.

        What ``pieces`` raises comes out as it is.

        Raises:
            ObjectStoreDown: the store does not answer, or refuses.
        """
        import obstore  # only where there is a store

        with self._asking():
            if size_bytes <= PIECE_BYTES:
                obstore.put(self._opened(), key, b"".join(pieces), use_multipart=False)
            else:
                obstore.put(self._opened(), key, iter(pieces), chunk_size=PIECE_BYTES, max_concurrency=PIECES_AT_ONCE)

    def read(self, key: str, size_bytes: int) -> Iterator[bytes]:
        """Read an object a piece at a time.

        Raises:
            NoSuchObject: there is none of this key and size.
            ObjectStoreDown: the store does not answer, or refuses.
        """
        import obstore  # only where there is a store

        with self._asking():
            found = obstore.get(self._opened(), key)
            if found.meta["size"] != size_bytes:
                raise NoSuchObject(key)
            whole = bytes(found.bytes()) if size_bytes <= PIECE_BYTES else None
        if whole is not None:
            yield whole
            return
        del found
        for start in range(0, size_bytes, PIECE_BYTES):
            with self._asking():
                end = min(start + PIECE_BYTES, size_bytes)
                piece = bytes(obstore.get_range(self._opened(), key, start=start, end=end))
            yield piece

    def has(self, key: str) -> bool:
        """Whether there is an object of a key, which is not an empty one.

        Raises:
            ObjectStoreDown: the store does not answer, or refuses.
        """
        import obstore  # only where there is a store

        try:
            with self._asking():
                # Its head would do, but an answer without a body cannot tell a missing bucket from a missing object.
                obstore.get_range(self._opened(), key, start=0, end=1)
        except NoSuchObject:
            return False
        return True

    def remove(self, keys: list[str]) -> None:
        """Remove objects; one that is not there is no error.

        Raises:
            ObjectStoreDown: the store does not answer, or refuses.
        """
        import obstore  # only where there is a store

        for batch in [keys] if self.url.startswith("s3:") else [[key] for key in keys]:
            try:
                with self._asking():
                    obstore.delete(self._opened(), batch)
            except NoSuchObject:
                continue

    def _opened(self) -> "Client":
        with self._opening:
            if self._client is None:
                self._client = _open(self.url, self.request_seconds)
            return self._client

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Tell what goes wrong with the store, and keep threads from waiting for one that does not answer."""
        from obstore.exceptions import BaseError  # only where there is a store

        is_trying = self._is_down and self._trying.acquire(blocking=False)
        if self._is_down and not is_trying:
            raise ObjectStoreDown("the object store did not answer when it was asked last")
        try:
            yield
        except FileNotFoundError as error:
            if NO_BUCKET in str(error):
                raise ObjectStoreDown(f"the object store has no such bucket: {_first_line(error)}") from None
            self._is_down = False
            raise NoSuchObject(_first_line(error)) from None
        except (BaseError, ValueError) as error:
            self._is_down = True
            raise ObjectStoreDown(f"the object store does not answer, or refuses: {_first_line(error)}") from None
        else:
            self._is_down = False
        finally:
            if is_trying:
                self._trying.release()


def check_url(url: str) -> None:
    """Let a URL pass that leads to a store, as far as can be told without asking it.

    Raises:
        ValueError: it is of another form; the text says what is allowed.
    """
    parsed = urlsplit(url)
    if "@" in parsed.netloc:
        raise ValueError("credentials do not belong here; give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    unknown = {name for name, _ in parse_qsl(parsed.query, keep_blank_values=True)} - {"region", "endpoint"}
    is_bucket = parsed.scheme == "s3" and parsed.netloc and not unknown
    is_folder = parsed.scheme == "file" and not parsed.netloc and len(parsed.path) > 1 and not parsed.query
    if (not is_bucket and not is_folder) or parsed.fragment:
        raise ValueError("must be s3://bucket/prefix?region=...&endpoint=... or file:///folder")


def _open(url: str, request_seconds: float) -> "Client":
    from obstore.store import LocalStore, S3Store  # only where there is a store

    parsed = urlsplit(url)
    if parsed.scheme == "file":
        return LocalStore(unquote(parsed.path), mkdir=True)
    named: dict[str, Any] = dict(parse_qsl(parsed.query))
    endpoint = named.get("endpoint", "")
    return S3Store(
        parsed.netloc,
        prefix=unquote(parsed.path).strip("/") or None,
        # The store compares what came with this hash before it keeps it.
        checksum_algorithm="sha256",
        client_options={
            "allow_http": endpoint.startswith("http:"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=request_seconds),
        },
        retry_config={
            "max_retries": 2,
            "retry_timeout": timedelta(seconds=request_seconds),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
        **named,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
