"""What is counted of predictions, for /metrics."""

import threading

from prometheus_client import Counter, Gauge

from service.use_cases.serving import Served, Serving

LABELS = ("model", "version")

ROWS = Counter("selfnorm_prediction_rows", "Rows that were answered", LABELS)
FAR_ROWS = Counter("selfnorm_input_far_rows", "Rows with a value far outside of the training rows", LABELS)
UNSEEN = Counter("selfnorm_input_unseen_categories", "Cells whose category training did not see", LABELS)
DRIFT = Gauge(
    "selfnorm_input_drift",
    "1 where the last 1,000 rows as a whole are unlike the training rows, else 0",
    LABELS,
    multiprocess_mode="livemax",
)
LOADED = Gauge("selfnorm_models_loaded", "Versions whose networks are in memory", multiprocess_mode="livesum")


class PredictionCounts:
    """Adds up what the input guards count; they count for themselves, for a prediction takes microseconds."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._told: dict[Served, tuple[int, int, int]] = {}
        self._updating = threading.Lock()

    def update(self) -> None:
        """Add what was counted since the last time; safe to call from many threads."""
        with self._updating:
            loaded = self._serving.loaded()
            LOADED.set(len(loaded))
            for served in loaded:
                self._add(served)
            for gone in self._told.keys() - set(loaded):
                self._add(gone)
                DRIFT.labels(*_labels(gone)).set(0)
                del self._told[gone]

    def _add(self, served: Served) -> None:
        counts, labels = served.guard.counts(), _labels(served)
        now = (counts["rows"], counts["far_rows"], sum(counts["unseen"].values()))
        before = self._told.get(served, (0, 0, 0))
        for counter, new, old in zip((ROWS, FAR_ROWS, UNSEEN), now, before, strict=True):
            counter.labels(*labels).inc(new - old)
        DRIFT.labels(*labels).set(bool(served.guard.warnings))
        self._told[served] = now


def _labels(served: Served) -> tuple[str, str]:
    return served.version.name, str(served.version.version)
