"""The models that this process serves: loaded when first asked for, bounded in memory, following the registry."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from service.domain.counts import add
from service.domain.errors import NotFound
from service.domain.model_errors import UnknownModel
from service.domain.models import ModelVersion
from service.inference.guard import InputGuard
from service.inference.rows import RowReader
from service.inference.sessions import ServedNetwork
from service.storage import aliases, blobs, inputs, models
from service.storage.database import Connection, Database
from service.storage.faults import DATABASE_DOWN, DATABASE_FAULTS
from service.use_cases.models import resolve_version

logger = logging.getLogger(__name__)

MEMORY_BYTES = 512 * 2**20
FOLLOW_SECONDS = 0.25
"""The pause between two looks at the registry."""
DIGEST_SECONDS = 1.0
"""The pause between two digests of the input guard: one takes milliseconds, in which answers wait for Python's lock."""
STORE_SECONDS = 5.0
"""The pause between two times that the counts of the input guard are stored."""

Key = tuple[str, str | int | None]
"""A model's name, and an alias, a version or None for the default."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Served:
    """A version that is in memory."""

    version: ModelVersion
    network: ServedNetwork
    reader: RowReader
    guard: InputGuard
    takes_numbers: bool
    """Whether a row is its own encoding: plain numbers, none of them missing."""
    used_at: float = field(default_factory=time.monotonic)

    @property
    def width(self) -> int:
        """How many raw columns it takes."""
        return len(self.version.inputs.encoders)


class Serving:
    """Finds the version that a request means; safe to use from many threads."""

    def __init__(
        self,
        database: Database,
        memory_bytes: int = MEMORY_BYTES,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        """Load nothing yet; networks that together take more than ``memory_bytes`` are not kept.

        ``on_look`` is called with every look at the registry, a few times a second.
        """
        self._on_look = on_look
        self._database = database
        self._memory_bytes = memory_bytes
        self._process = secrets.token_hex(8)
        # Requests read these without a lock; whoever changes them holds it.
        self._named: dict[Key, Served] = {}
        self._loaded: dict[tuple[str, int], Served] = {}
        self._revisions: dict[str, int] = {}
        self._changing = threading.RLock()
        # Of versions that had to make room, what was counted is still to be stored.
        self._gone: list[tuple[tuple[str, int], InputGuard]] = []
        self._unstored: dict[tuple[str, int], tuple[dict[str, Any], dict[str, Any]]] = {}
        self._storing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Load what aliases stand for, and begin to follow the registry."""
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Store what the input guards have counted, and end the thread."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join(timeout=10)
            self._thread = None

    def known(self, name: str, version: int | None = None, alias: str | None = None) -> Served | None:
        """Return a version that is in memory, at once; None where it would have to be looked up."""
        return self._named.get((name, alias if version is None else version))

    def find(self, name: str, version: int | None = None, alias: str | None = None) -> Served:
        """Return a version: by number, by alias, or the default where neither is given; loads it where needed.

        While the database is down, what is in memory still answers; the default is then the last known.

        Raises:
            UnknownModel, UnknownVersion, UnknownAlias: there is no such thing.
            ModelNotReady: the first version is still being trained.
            CorruptBlob: the stored graph is damaged.
        """
        if served := self.known(name, version, alias):
            return served
        key: Key = (name, alias if version is None else version)
        with self._changing:
            if served := self._named.get(key):
                return served
            try:
                with self._database.read() as connection:
                    revision = models.revisions(connection, [name]).get(name, 0)
                    served = self._load(connection, resolve_version(connection, name, version, alias))
            except DATABASE_DOWN:
                loaded = None if version is None else self._loaded.get((name, version))
                if loaded is None:
                    raise
                return loaded
            self._named[key] = served
            self._revisions[name] = min(revision, self._revisions.get(name, revision))
            self._make_room(served)
            return served

    def weights(self, version: ModelVersion) -> bytes:
        """Read the plain tensors of a version.

        Raises:
            CorruptBlob: they are damaged.
        """
        with self._database.read() as connection:
            return blobs.get(connection, version.weights_sha256)

    def loaded(self) -> list[Served]:
        """Return every version that is in memory."""
        return list(self._loaded.values())

    def follow(self) -> None:
        """Look once whether the registry has changed, and serve what it says now."""
        names = {name for name, _ in [*list(self._named), *list(self._loaded)]}
        with self._database.read() as connection:
            revisions = models.revisions(connection, names)
        for name in names:
            if revisions.get(name) == self._revisions.get(name):
                continue
            try:
                self._renew(name)
            except DATABASE_FAULTS:
                raise
            except Exception:  # the others are followed all the same
                logger.exception("changes of model %s could not be followed; trying again", name)

    def store_inputs(self) -> None:
        """Store what the input guards have counted since the last time."""
        with self._storing:
            self._collect()
            if not self._unstored:
                return
            with self._database.write() as connection:
                for (name, version), (counts, recent) in self._unstored.items():
                    inputs.record(connection, name, version, self._process, counts, recent)
            self._unstored.clear()

    def _collect(self) -> None:
        """Put what is new to what is to be stored; it stays there until it has been."""
        gone = self._gone[:]
        del self._gone[: len(gone)]
        for key, guard in (*gone, *((key, served.guard) for key, served in list(self._loaded.items()))):
            if guard.is_changed:
                guard.digest()
                before, _ = self._unstored.get(key, ({}, {}))
                self._unstored[key] = (add(before, guard.news()), guard.recent.to_dict())

    def _run(self) -> None:
        try:
            self._warm()
        except DATABASE_FAULTS as error:
            logger.warning("models could not be loaded before they are asked for: %s", error)
        digest_at = time.monotonic()
        store_at = digest_at + STORE_SECONDS
        while True:
            is_over = self._stop.wait(FOLLOW_SECONDS)
            try:
                now = time.monotonic()
                if is_over or now >= digest_at:
                    digest_at = now + DIGEST_SECONDS
                    for served in self.loaded():
                        served.guard.digest()
                self._on_look()
                if is_over or now >= store_at:
                    store_at = now + STORE_SECONDS
                    self.store_inputs()
                self.follow()
            except DATABASE_FAULTS as error:
                logger.debug("the registry does not answer: %s", error)  # the watch has said so once
            except Exception:  # without this thread nothing would follow the registry any more
                logger.exception("the registry could not be followed; trying again")
            if is_over:
                return

    def _warm(self) -> None:
        """Load what aliases stand for, as far as there is room."""
        with self._database.read() as connection:
            standing = aliases.by_model(connection, {name for name, _ in models.aliased(connection)})
        for name, alias in ((name, alias) for name, others in standing.items() for alias in (None, *others)):
            if self._stop.is_set() or self._memory() >= self._memory_bytes:
                return
            try:
                self.find(name, alias=alias)
            except Exception:  # a damaged one keeps no other from being loaded, and is answered 503 when asked for
                logger.exception("model %s could not be loaded", name)

    def _renew(self, name: str) -> None:
        """Serve what a model's names stand for now; who is asked meanwhile still gets what they stood for."""
        with self._changing:
            keys = [key for key in self._named if key[0] == name]
            with self._database.read() as connection:
                revision = models.revisions(connection, [name]).get(name)
                found = {key: self._reload(connection, key) for key in keys}
                existing = _existing(connection, name)
            for key, served in found.items():
                if served is None:
                    del self._named[key]
                else:
                    self._named[key] = served
            if served := max(filter(None, found.values()), key=lambda served: served.used_at, default=None):
                self._make_room(served)
            if revision is None:
                self._revisions.pop(name, None)
            else:
                self._revisions[name] = revision
            # What only lost its names may still be asked for by its number.
            for key in [key for key in self._loaded if key[0] == name and key[1] not in existing]:
                del self._loaded[key]

    def _reload(self, connection: Connection, key: Key) -> Served | None:
        name, word = key
        version, alias = (word, None) if isinstance(word, int) else (None, word)
        try:
            return self._load(connection, models.resolve(connection, name, version, alias))
        except NotFound:
            return None
        except DATABASE_FAULTS:
            raise
        except Exception:  # whoever asks is told; the version before would be another answer than the registry's
            logger.exception("model %s could not be loaded", name)
            return None

    def _load(self, connection: Connection, found: ModelVersion) -> Served:
        served = self._loaded.get((found.name, found.version))
        if served is None:
            network = ServedNetwork(models.onnx_file(connection, found.onnx_sha256))
            served = Served(
                version=found,
                network=network,
                reader=RowReader(found.inputs),
                guard=_guard(found),
                takes_numbers=all(encoder.is_plain for encoder in found.inputs.encoders),
            )
            self._loaded[found.name, found.version] = served
        return served

    def _memory(self) -> int:
        return sum(served.network.memory_bytes for served in self.loaded())

    def _make_room(self, newest: Served) -> None:
        for served in self._oldest_first():
            if self._memory() <= self._memory_bytes:
                return
            if served is not newest:
                self._let_go(served)

    def _oldest_first(self) -> Iterator[Served]:
        return iter(sorted(self.loaded(), key=lambda served: served.used_at))

    def _let_go(self, served: Served) -> None:
        for name in [name for name, other in self._named.items() if other is served]:
            del self._named[name]
        key = (served.version.name, served.version.version)
        self._loaded.pop(key, None)
        self._gone.append((key, served.guard))


def _guard(version: ModelVersion) -> InputGuard:
    network = version.spec.get("network", {})
    return InputGuard(
        version.inputs,
        is_standardized=network.get("standardize", True) is not False,
        is_self_normalizing=is_self_normalizing(version),
    )


def is_self_normalizing(version: ModelVersion) -> bool:
    """Whether a version's network is one."""
    return bool(version.spec.get("network", {}).get("kind") == "snn")


def _existing(connection: Connection, name: str) -> set[int]:
    try:
        return {summary.version for summary in models.get_model(connection, name).versions}
    except UnknownModel:
        return set()
