"""What /metrics tells of everybody's jobs and workers: read from the database when somebody asks."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.domain.observation import Observation
from service.use_cases.observation import Observatory

VERSION = version("selfnorm")


@dataclass(frozen=True, slots=True)
class Told:
    """A gauge that is told as it is."""

    name: str
    text: str
    labels: tuple[str, ...] = ()

    def family(self, values: Mapping[tuple[str, ...], float | None]) -> GaugeMetricFamily:
        """Return it with its values by label; what is None is left out."""
        family = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for labels, value in values.items():
            if value is not None:
                family.add_metric(labels, value)
        return family

    def one(self, value: float | None) -> GaugeMetricFamily:
        """Return it with its only value."""
        return self.family({(): value})


BUILD = Told("selfnorm_build_info", "1, for the version that answers", ("version",))
UP = Told("selfnorm_database_up", "1 where the database answered when it was asked last, else 0")
JOBS = Told("selfnorm_jobs", "Jobs, by state; those that have ended are counted again within a minute", ("state",))
QUEUE_AGE = Told("selfnorm_queue_age_seconds", "How long the oldest job waits that a worker could claim")
HEARTBEAT_AGE = Told(
    "selfnorm_heartbeat_age_seconds", "How long ago the worker of a running job was last heard; the longest"
)
EXPIRED = Told("selfnorm_expired_leases", "Running jobs whose worker has not renewed its lease in time")
WORKERS = Told("selfnorm_workers", "Workers by state; lost ones ended without a word within a day", ("state",))
SIGN_AGE = Told("selfnorm_worker_sign_age_seconds", "How long ago any worker was last seen; the shortest")
ROWS = Told("selfnorm_training_rows_per_second", "Rows that all running jobs get through in a second")
VERDICTS = Told(
    "selfnorm_self_normalization_jobs",
    "Trainings whose layers were looked at, by the verdict: those that run, and the latest 200 that succeeded",
    ("state", "status"),
)
FAILURES = Told("selfnorm_recent_failures", "The latest 200 jobs that failed, by their code", ("code",))
DELIVERIES = Told(
    "selfnorm_webhook_deliveries",
    "What webhooks are told, by state: all that is pending, up to 10,000, and what came of the latest 1,000",
    ("state",),
)
WEBHOOKS_FAILING = Told(
    "selfnorm_webhooks_failing", "Webhooks that are switched on and did not take what they were sent last"
)
DATABASE_BYTES = Told("selfnorm_database_bytes", "What the database takes")
DISK_FREE = Told("selfnorm_disk_free_bytes", "What is free where the database is; of SQLite only")
GAUGES = tuple(told for told in list(vars().values()) if isinstance(told, Told))


class DatabaseGauges(Collector):
    """Asks the database when it is asked; while that does not answer, only that is told."""

    def __init__(self, observatory: Observatory) -> None:
        self._observatory = observatory

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return every gauge."""
        seen = self._observatory.look()
        yield BUILD.family({(VERSION,): 1})
        yield UP.one(seen is not None)
        if seen is not None:
            yield from _seen(seen)


def _seen(seen: Observation) -> Iterator[GaugeMetricFamily]:
    yield JOBS.family({(state,): count for state, count in seen.jobs.items()})
    yield QUEUE_AGE.one(seen.queue_age_seconds)
    yield HEARTBEAT_AGE.one(seen.heartbeat_age_seconds)
    yield EXPIRED.one(seen.expired_leases)
    yield WORKERS.family({(state,): count for state, count in seen.workers.items()})
    yield SIGN_AGE.one(seen.worker_sign_age_seconds)
    yield ROWS.one(seen.rows_per_second)
    yield VERDICTS.family({(state, status): count for (state, status), count in seen.verdicts.items()})
    yield FAILURES.family({(code,): count for code, count in seen.failures.items()})
    yield DELIVERIES.family({(state,): count for state, count in seen.deliveries.items()})
    yield WEBHOOKS_FAILING.one(seen.webhooks_failing)
    yield DATABASE_BYTES.one(seen.database_bytes)
    yield DISK_FREE.one(seen.disk_free_bytes)
