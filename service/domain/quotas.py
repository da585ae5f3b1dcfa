"""What an owner may have at once; more is refused until some of it is gone."""

import re
from dataclasses import dataclass
from typing import ClassVar

from service.domain.errors import SelfnormError

JOBS_RETRY_SECONDS = 30
STORAGE_RETRY_SECONDS = 3600
"""Nothing is deleted by itself, so nobody should try again soon."""


@dataclass(frozen=True)
class Quotas:
    """How much an owner may have of what all owners share; None is as much as there is room for."""

    max_queued_jobs: int | None = None
    max_datasets: int | None = None
    max_stored_bytes: int | None = None


NO_QUOTAS = Quotas()
PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE = re.compile(rf"[1-9][0-9]{{0,8}}/({'|'.join(PERIODS)})")
SHARED_THROUGH = ("redis://", "rediss://", "redis+socket://")


def can_share(url: str) -> bool:
    """Whether counts can be shared through what a broker's URL stands for; several servers are none."""
    return url.startswith(SHARED_THROUGH) and ";" not in url


@dataclass(frozen=True)
class Rate:
    """So many requests in every period."""

    amount: int
    seconds: int

    @classmethod
    def of(cls, text: str) -> "Rate":
        """Read one as it is written in settings, ``600/minute``.

        Raises:
            ValueError: it is not written so.
        """
        if not _RATE.fullmatch(text):
            raise ValueError(f"must be a number and one of {', '.join(PERIODS)}, such as 600/minute")
        amount, _, period = text.partition("/")
        return cls(int(amount), PERIODS[period])

    def __str__(self) -> str:
        period = next(name for name, seconds in PERIODS.items() if seconds == self.seconds)
        return f"{self.amount:,} a {period}"


class QuotaExceeded(SelfnormError):
    """An owner has all of something that it may have."""

    code = "quota_exceeded"
    quota: ClassVar[str] = "quota"
    """A word for those who count refusals."""
    retry_after_seconds: int = JOBS_RETRY_SECONDS


class TooManyQueuedJobs(QuotaExceeded):
    """As many jobs of the owner wait as may; some have to run, or be cancelled, first."""

    code = "too_many_queued_jobs"
    quota = "queued_jobs"

    def __init__(self, wanted: int, allowed: int) -> None:
        super().__init__(
            f"{wanted:,} jobs would wait, queued or paused; at most {allowed:,} of an owner may. "
            "Wait until some have run, cancel some, or submit fewer at once"
        )


class TooManyDatasets(QuotaExceeded):
    """The owner has as many data sets as it may; one has to be deleted first."""

    code = "too_many_datasets"
    quota = "datasets"
    retry_after_seconds = STORAGE_RETRY_SECONDS

    def __init__(self, wanted: int, allowed: int) -> None:
        super().__init__(
            f"this would be data set {wanted:,}; an owner may have {allowed:,}. Delete one that is not needed"
        )


class TooManyStoredBytes(QuotaExceeded):
    """The owner stores as much as it may; something has to be deleted first."""

    code = "too_many_stored_bytes"
    quota = "stored_bytes"
    retry_after_seconds = STORAGE_RETRY_SECONDS

    def __init__(self, wanted: int, allowed: int) -> None:
        super().__init__(
            f"data sets, models and results would take {wanted:,} bytes; {allowed:,} are allowed. "
            "Delete data sets, model versions or predictions that are not needed"
        )


class TooManyRequests(QuotaExceeded):
    """An owner has asked as often as it may; the time after which it may again is said."""

    code = "too_many_requests"
    quota = "requests"

    def __init__(self, rate: Rate, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(
            f"all requests of this period are used, {rate} are allowed; ask again in {retry_after_seconds} s"
        )


class TooManyDeliveries(QuotaExceeded):
    """Much waits to be sent to a webhook; some has to be taken, or given up, first."""

    code = "too_many_deliveries"
    quota = "deliveries"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most:,} deliveries or more wait for this webhook; its deliveries tell why, such as a receiver that does "
            "not answer. Ask again when fewer wait"
        )


class TooManyWrongKeys(TooManyRequests):
    """So many wrong keys came from this address that unknown ones are not looked up for a while."""

    code = "too_many_wrong_keys"
    quota = "wrong_keys"
