"""The models that this process serves: loaded when first asked for, bounded in memory, following the registry."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from service.domain.counts import add
from service.domain.durations import Durations
from service.domain.errors import NotFound
from service.domain.model_errors import UnknownModel
from service.domain.models import ModelVersion
from service.inference.guard import InputGuard
from service.inference.rows import RowReader
from service.inference.sessions import ServedNetwork
from service.storage import aliases, blobs, inputs, models
from service.storage.database import Connection, Database
from service.storage.faults import DATABASE_DOWN, DATABASE_FAULTS
from service.storage.object_store import ObjectStoreDown
from service.use_cases.models import resolve_version

logger = logging.getLogger(__name__)

MEMORY_BYTES = 512 * 2**20
FOLLOW_SECONDS = 0.25
"""The pause between two looks at the registry."""
DIGEST_SECONDS = 1.0
"""The pause between two digests of the input guard: one takes milliseconds, in which answers wait for Python's lock."""
STORE_SECONDS = 5.0
"""The pause between two times that the counts of the input guard are stored."""
FOLLOWER = "follower of models"
"""What the log calls the thread."""

Key = tuple[str, str, str | int | None]
"""Whose model, its name, and an alias, a version or None for the default."""
Name = tuple[str, str]
"""Whose model, and its name: two owners' models of the same name are two models."""
Numbered = tuple[str, str, int]
"""Whose model, its name, and a version."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Served:
    """A version that is in memory."""

    owner: str
    version: ModelVersion
    network: ServedNetwork
    reader: RowReader
    guard: InputGuard
    takes_numbers: bool
    """Whether a row is its own encoding: plain numbers, none of them missing."""
    used_at: float = field(default_factory=time.monotonic)
    durations: dict[str, Durations] = field(default_factory=dict)
    """How long its answers took: by the route of those that took the short way, and all others."""

    def durations_of(self, route: str) -> Durations:
        """Return what counts the answers of a route, or of all but the short ways where it is empty."""
        durations = self.durations.get(route)
        if durations is None:
            durations = self.durations[route] = Durations()
        return durations

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
        self._database = database.for_everybody()
        self._memory_bytes = memory_bytes
        self._process = secrets.token_hex(8)
        # Requests read these without a lock; whoever changes them holds it.
        self._named: dict[Key, Served] = {}
        self._loaded: dict[Numbered, Served] = {}
        self._revisions: dict[Name, int] = {}
        self._changing = threading.RLock()
        # Of versions that had to make room, what was counted is still to be stored.
        self._gone: list[tuple[Numbered, InputGuard]] = []
        self._unstored: dict[Numbered, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._storing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._hits = self._misses = self._loads = 0

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

    def known(self, owner: str, name: str, version: int | None = None, alias: str | None = None) -> Served | None:
        """Return an owner's version that is in memory, at once; None where it would have to be looked up."""
        served = self._named.get((owner, name, alias if version is None else version))
        if served is not None:
            self._hits += 1
        return served

    def find(self, owner: str, name: str, version: int | None = None, alias: str | None = None) -> Served:
        """Return an owner's version: by number, by alias, or the default where neither is given; loads it where needed.

        While the database is down, what is in memory still answers; the default is then the last known.

        Raises:
            UnknownModel, UnknownVersion, UnknownAlias: there is no such thing.
            ModelNotReady: the first version is still being trained.
            CorruptBlob: the stored graph is damaged.
        """
        if served := self.known(owner, name, version, alias):
            return served
        key: Key = (owner, name, alias if version is None else version)
        with self._changing:
            if served := self._named.get(key):
                return served
            self._misses += 1
            try:
                with self._database.owned_by(owner).read() as connection:
                    revision = models.revision(connection, name) or 0
                    served = self._load(connection, owner, resolve_version(connection, name, version, alias))
            except DATABASE_DOWN:
                loaded = None if version is None else self._loaded.get((owner, name, version))
                if loaded is None:
                    raise
                return loaded
            self._named[key] = served
            self._revisions[owner, name] = min(revision, self._revisions.get((owner, name), revision))
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
        """Return every version that is in memory, whosever it is."""
        return list(self._loaded.values())

    def lookups(self) -> tuple[int, int, int]:
        """Return how often a version was asked for and was in memory, or was not, and how many were loaded."""
        return self._hits, self._misses, self._loads

    def loaded_of(self, owner: str, name: str | None = None) -> list[Served]:
        """Return the versions of an owner that are in memory: of all models, or of one."""
        return [served for served in self.loaded() if served.owner == owner and name in (None, served.version.name)]

    def follow(self) -> None:
        """Look once whether the registry has changed, and serve what it says now."""
        names = {(owner, name) for owner, name, _ in [*list(self._named), *list(self._loaded)]}
        with self._database.read() as connection:
            revisions = models.revisions(connection, names)
        for owner, name in names:
            if revisions.get((owner, name)) == self._revisions.get((owner, name)):
                continue
            try:
                self._renew(owner, name)
            except DATABASE_FAULTS:
                raise
            except Exception:  # the others are followed all the same
                logger.exception("changes of model %s could not be followed; trying again", name)

    def store_inputs(self, owner: str | None = None) -> None:
        """Store what the input guards have counted since the last time: of everybody's models, or of one owner's."""
        database = self._database if owner is None else self._database.owned_by(owner)
        with self._storing:
            self._collect()
            stored = [key for key in self._unstored if owner in (None, key[0])]
            if not stored:
                return
            with database.write() as connection:
                for whose, name, version in stored:
                    counts, recent = self._unstored[whose, name, version]
                    inputs.record(connection, whose, name, version, self._process, counts, recent)
            for key in stored:
                del self._unstored[key]

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
        with self._database.trouble.outlived(FOLLOWER):
            self._warm()
        digest_at = time.monotonic()
        store_at = digest_at + STORE_SECONDS
        while True:
            is_over = self._stop.wait(FOLLOW_SECONDS)
            # Without this thread nothing would follow the registry any more.
            with self._database.trouble.outlived(FOLLOWER):
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
            if is_over:
                return

    def _warm(self) -> None:
        """Load what aliases stand for, as far as there is room."""
        with self._database.read() as connection:
            standing = aliases.of_everybody(connection)
        for (owner, name), alias in ((model, alias) for model, others in standing.items() for alias in (None, *others)):
            if self._stop.is_set() or self._memory() >= self._memory_bytes:
                return
            try:
                self.find(owner, name, alias=alias)
            except Exception as error:  # noqa: BLE001  # one keeps no other from being loaded; who asks for it hears 503
                _tell_not_loaded(name, error)

    def _renew(self, owner: str, name: str) -> None:
        """Serve what a model's names stand for now; who is asked meanwhile still gets what they stood for."""
        with self._changing:
            keys = [key for key in self._named if key[:2] == (owner, name)]
            with self._database.owned_by(owner).read() as connection:
                revision = models.revision(connection, name)
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
                self._revisions.pop((owner, name), None)
            else:
                self._revisions[owner, name] = revision
            # What only lost its names may still be asked for by its number.
            gone = [key for key in self._loaded if key[:2] == (owner, name) and key[2] not in existing]
            for numbered in gone:
                del self._loaded[numbered]

    def _reload(self, connection: Connection, key: Key) -> Served | None:
        owner, name, word = key
        version, alias = (word, None) if isinstance(word, int) else (None, word)
        try:
            return self._load(connection, owner, models.resolve(connection, name, version, alias))
        except NotFound:
            return None
        except DATABASE_FAULTS:
            raise
        except Exception as error:  # noqa: BLE001  # whoever asks is told; the one before would be another answer
            _tell_not_loaded(name, error)
            return None

    def _load(self, connection: Connection, owner: str, found: ModelVersion) -> Served:
        served = self._loaded.get((owner, found.name, found.version))
        if served is None:
            network = ServedNetwork(models.onnx_file(connection, found.onnx_sha256))
            served = Served(
                owner=owner,
                version=found,
                network=network,
                reader=RowReader(found.inputs),
                guard=_guard(found),
                takes_numbers=all(encoder.is_plain for encoder in found.inputs.encoders),
            )
            self._loaded[owner, found.name, found.version] = served
            self._loads += 1
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
        key = (served.owner, served.version.name, served.version.version)
        self._loaded.pop(key, None)
        self._gone.append((key, served.guard))


def _tell_not_loaded(name: str, error: Exception) -> None:
    """Write why a model could not be loaded; where its store is down, where we stood then tells nobody anything."""
    if isinstance(error, ObjectStoreDown):
        logger.warning("model %s could not be loaded, and is when it is asked for: %s", name, error)
    else:
        logger.error("model %s could not be loaded", name, exc_info=error)


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
