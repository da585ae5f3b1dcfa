"""Every way in which a call of the client can go wrong, one class per fact.

SelfnormError
├── InvalidSettings         the address or the key can be none
├── ConnectionFailed        no service answers there, or it stopped answering
├── UnexpectedAnswer        something answers, but not as this service does
├── ApiError                the service refused; carries status, code, detail, errors and request_id
│   ├── InvalidRequest          400, 422: change what is asked; errors name every violation with its pointer
│   ├── NotAuthorized           401, 403
│   ├── NotFound                404
│   ├── Conflict                409: the state of the thing forbids it
│   ├── TooLarge                413
│   ├── RateLimited             429
│   └── Unavailable             502, 503, 504: a part of the service is down
└── JobEnded                what was waited for ended otherwise than hoped; carries the job
    ├── JobFailed
    ├── JobCancelled
    └── JobTimeout              it goes on, only the waiting has ended
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from service.api.views.comparisons import ComparisonView
    from service.api.views.jobs import JobView
    from service.api.views.predictions import PredictionJobView

    Waited = JobView | PredictionJobView | ComparisonView


class SelfnormError(Exception):
    """Base of every error that the client raises on purpose."""


class InvalidSettings(SelfnormError, ValueError):
    """What a client was given as address or key can be none; a key is not repeated."""


class ConnectionFailed(SelfnormError):
    """No service answers at that address."""

    def __init__(self, url: str, reason: str, *, is_hopeless: bool = False) -> None:
        self.url = url
        self.reason = reason
        self.is_hopeless = is_hopeless
        """It failed on this machine, before anything was sent, and would fail again."""
        super().__init__(
            f"no answer from a service at {url}: {reason}. Start one with `selfnorm up`, or say where one runs with "
            "url=... or SELFNORM_URL"
        )


class UnexpectedAnswer(SelfnormError):
    """What answers at that address does not answer as this service does."""

    def __init__(self, url: str, status: int, problem: str) -> None:
        self.url = url
        self.status = status
        super().__init__(
            f"{url} answered with status {status} and {problem}. Is it a Selfnorm service, and of a version that this "
            "client knows? client.version() says which it is"
        )


class Violation(NamedTuple):
    """One thing that is wrong with a request: where, such as ``#/network/units``, and what."""

    pointer: str
    detail: str


class ApiError(SelfnormError):
    """The service refused what was asked."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Violation] = (),
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        """A stable word for programs."""
        self.detail = detail
        self.errors = list(errors)
        """Every violation of an invalid request."""
        self.request_id = request_id
        """What the service's log calls the request."""
        self.retry_after_seconds = retry_after_seconds
        """When to ask again, where the service said so."""
        super().__init__(status, code, detail)

    def __str__(self) -> str:
        """Say everything that is known, one violation a line."""
        violations = [f"\n  {item.pointer}: {item.detail}" for item in self.errors]
        said = f"{len(violations)} thing(s) to change" if violations else self.detail
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{said} ({self.status} {self.code}{request}){''.join(violations)}"


class InvalidRequest(ApiError, ValueError):
    """What was asked cannot be done as it was said."""


class NotAuthorized(ApiError):
    """The API key is missing, unknown, or not allowed to do this."""


class NotFound(ApiError):
    """Nothing of that kind under that name."""


class Conflict(ApiError):
    """The state of the thing forbids what was asked."""


class TooLarge(ApiError):
    """More was sent than the service takes at once."""


class RateLimited(ApiError):
    """Too much was asked in too short a time."""


class Unavailable(ApiError):
    """A part of the service is down for the moment."""


STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: NotAuthorized,
    403: NotAuthorized,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: InvalidRequest,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
"""Which class says what a status means; any other is an ``ApiError``."""


class JobEnded(SelfnormError):
    """What was waited for has ended otherwise than hoped, or the waiting has."""

    def __init__(self, job: "Waited", message: str) -> None:
        self.job = job
        """The job, prediction or comparison as it was last seen."""
        super().__init__(message)


class JobFailed(JobEnded):
    """What was waited for has failed."""


class JobCancelled(JobEnded):
    """What was waited for has been cancelled."""


class JobTimeout(JobEnded):
    """It has not ended in the time that was given; it goes on."""
