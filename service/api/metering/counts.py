"""What is counted of predictions and of the models in memory, for /metrics."""

import threading
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram

from service.api.metering.traffic import OTHER, Told, add_durations, answered_at_once, since
from service.domain.durations import BOUNDS
from service.use_cases.serving import Served, Serving

LABELS = ("owner", "model", "version")
MOST_NAMED = 100
"""So many versions are told apart by each process; what others are asked is told of all of them together."""

ROWS = Counter("selfnorm_prediction_rows", "Rows that were answered", LABELS)
SECONDS = Histogram(
    "selfnorm_prediction_duration_seconds",
    "How long requests for predictions took that were answered",
    LABELS,
    buckets=BOUNDS,
)
FAR_ROWS = Counter("selfnorm_input_far_rows", "Rows with a value far outside of the training rows", LABELS)
UNSEEN = Counter("selfnorm_input_unseen_categories", "Cells whose category training did not see", LABELS)
DRIFT = Gauge(
    "selfnorm_input_drift",
    "1 where the last 1,000 rows as a whole are unlike the training rows, else 0",
    LABELS,
    multiprocess_mode="livemax",
)
LOADED = Gauge("selfnorm_models_loaded", "Versions whose networks are in memory", multiprocess_mode="livesum")
LOADED_BYTES = Gauge("selfnorm_models_loaded_bytes", "What these networks take, about", multiprocess_mode="livesum")
HITS = Counter("selfnorm_model_cache_hits", "Times that a model was asked for and was in memory")
MISSES = Counter("selfnorm_model_cache_misses", "Times that a model was asked for and had to be looked up")
LOADS = Counter("selfnorm_model_loads", "Networks that were read into memory")


@dataclass
class _Told:
    """What has been told of a version."""

    guarded: tuple[int, int, int] = (0, 0, 0)
    is_drifting: bool | None = None
    durations: dict[str, Told] = field(default_factory=dict)


class PredictionCounts:
    """Adds up what versions count; they count for themselves, for a prediction takes microseconds."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._told: dict[Served, _Told] = {}
        self._named: set[tuple[str, str, str]] = set()
        self._cache = (0, 0, 0)
        self._updating = threading.Lock()

    def update(self) -> None:
        """Add what was counted since the last time; safe to call from many threads."""
        with self._updating:
            self._tell_cache()
            loaded = self._serving.loaded()
            for served in sorted(loaded, key=lambda served: -served.guard.rows):  # the most used are named first
                self._add(served)
            for gone in self._told.keys() - set(loaded):
                self._add(gone)
                labels = self._labels(gone)
                if OTHER not in labels:
                    DRIFT.labels(*labels).set(0)
                del self._told[gone]

    def _tell_cache(self) -> None:
        loaded, now = self._serving.loaded(), self._serving.lookups()
        LOADED.set(len(loaded))
        LOADED_BYTES.set(sum(served.network.memory_bytes for served in loaded))
        for counter, new, old in zip((HITS, MISSES, LOADS), now, self._cache, strict=True):
            counter.inc(new - old)
        self._cache = now

    def _add(self, served: Served) -> None:
        told = self._told.setdefault(served, _Told())
        labels = self._labels(served)
        counts = served.guard.counts()
        now = (counts["rows"], counts["far_rows"], sum(counts["unseen"].values()))
        if now != told.guarded or told.is_drifting is None:  # what was never asked is told, too
            for counter, new, old in zip((ROWS, FAR_ROWS, UNSEEN), now, told.guarded, strict=True):
                counter.labels(*labels).inc(new - old)
            told.guarded = now
        is_drifting = bool(served.guard.warnings)
        if OTHER not in labels and is_drifting != told.is_drifting:
            DRIFT.labels(*labels).set(is_drifting)
            told.is_drifting = is_drifting
        self._add_durations(served, told, labels)

    def _add_durations(self, served: Served, told: _Told, labels: tuple[str, str, str]) -> None:
        for route, durations in list(served.durations.items()):
            now = list(durations.counts), durations.seconds
            counts, seconds = since(now, told.durations.get(route))
            if any(counts):
                add_durations(SECONDS.labels(*labels), counts, seconds)
                if route:
                    answered_at_once(route, counts, seconds)
            told.durations[route] = now

    def _labels(self, served: Served) -> tuple[str, str, str]:
        labels = served.owner, served.version.name, str(served.version.version)
        if labels not in self._named and len(self._named) < MOST_NAMED:
            self._named.add(labels)
        return labels if labels in self._named else (OTHER, OTHER, OTHER)
