"""Counts who was turned away and why, for /metrics; what refuses calls these as it does."""

from enum import StrEnum

from prometheus_client import Counter

from service.domain import quotas


class KeyFault(StrEnum):
    """Why a request was not let in, or not to what it asked for."""

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SCOPE = "scope"
    """Its key is good, and not for this."""


class SlowPart(StrEnum):
    """What a client was too slow with."""

    HEADERS = "headers"
    BODY = "body"
    READING = "reading"
    """It did not take its answer."""


AUTHENTICATION_FAILURES = Counter(
    "selfnorm_authentication_failures", "Requests that came without a key that opens what they asked for", ("reason",)
)
RATE_LIMITED = Counter("selfnorm_rate_limited", "Requests that were answered 429, by the limit they met", ("limit",))
QUOTA_REFUSALS = Counter(
    "selfnorm_quota_refusals", "Requests that would have gone over an owner's quota, by the quota", ("quota",)
)
SLOW_CLIENTS = Counter("selfnorm_slow_clients", "Connections that were closed for what came too slowly", ("part",))
CORRUPT_BLOBS = Counter("selfnorm_corrupt_blobs", "Times that a stored file was asked for and did not have its hash")

# From the start, so that the first one is an increase.
for _fault in KeyFault:
    AUTHENTICATION_FAILURES.labels(_fault.value)
for _part in SlowPart:
    SLOW_CLIENTS.labels(_part.value)
for _kind in vars(quotas).values():
    if isinstance(_kind, type) and issubclass(_kind, quotas.QuotaExceeded) and _kind is not quotas.QuotaExceeded:
        (RATE_LIMITED if issubclass(_kind, quotas.TooManyRequests) else QUOTA_REFUSALS).labels(_kind.quota)


def authentication_failed(fault: KeyFault) -> None:
    """Count a request whose key is missing or does not open what it asked for."""
    AUTHENTICATION_FAILURES.labels(fault.value).inc()


def rate_limited(limit: str) -> None:
    """Count a request that came too soon; ``limit`` is a word of the program's own, such as requests or predictions."""
    RATE_LIMITED.labels(limit).inc()


def quota_refused(quota: str) -> None:
    """Count a request that would have gone over a quota; ``quota`` is its name, such as queued_jobs or storage."""
    QUOTA_REFUSALS.labels(quota).inc()


def slow_client_closed(part: SlowPart) -> None:
    """Count a connection that was closed because its client was too slow."""
    SLOW_CLIENTS.labels(part.value).inc()


def corrupt_blob_met() -> None:
    """Count a stored file that did not have its hash when it was asked for."""
    CORRUPT_BLOBS.inc()
