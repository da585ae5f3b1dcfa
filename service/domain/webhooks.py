"""Webhooks: what they can be told of, where to, how that is signed and when it is tried again.

Signatures, headers and bodies are those of Standard Webhooks 1.0 (https://www.standardwebhooks.com).
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field

from service.domain.bounds import CountsItems, Frozen, JsonArray
from service.domain.errors import Violation
from service.domain.jobs import EventKind, JobKind
from service.domain.webhook_errors import InvalidWebhook
from service.domain.wording import shown, utc

EventName = Literal[
    "job.started",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "verdict.self_normalization_lost",
    "prediction.succeeded",
    "prediction.failed",
    "prediction.cancelled",
    "comparison.finished",
]
EVENT_NAMES: tuple[str, ...] = get_args(EventName)
COMPARISON_FINISHED = "comparison.finished"
TEST = "webhook.test"
"""Sent when somebody asks for it, to whatever webhook."""
_EVENTS: dict[tuple[JobKind, EventKind], str] = {
    (JobKind.TRAINING, EventKind.STARTED): "job.started",
    (JobKind.TRAINING, EventKind.SUCCEEDED): "job.succeeded",
    (JobKind.TRAINING, EventKind.FAILED): "job.failed",
    (JobKind.TRAINING, EventKind.CANCELLED): "job.cancelled",
    (JobKind.TRAINING, EventKind.SELF_NORMALIZATION_LOST): "verdict.self_normalization_lost",
    (JobKind.PREDICTION, EventKind.SUCCEEDED): "prediction.succeeded",
    (JobKind.PREDICTION, EventKind.FAILED): "prediction.failed",
    (JobKind.PREDICTION, EventKind.CANCELLED): "prediction.cancelled",
}
TOLD_KINDS = frozenset(kind for _, kind in _EVENTS)
"""The events of jobs that webhooks can be told of."""

MAX_WEBHOOKS = 20
"""So many may an owner have, where no setting says otherwise."""
MAX_URL_LENGTH = 2000
MAX_DESCRIPTION_LENGTH = 200
SECRET_PREFIX = "whsec_"  # noqa: S105  # what every secret begins with
SECRET_BYTES = 32
BOTH_SECRETS_SECONDS = 24 * 3600.0
"""After a change of the secret, the old one signs as well for so long, so that receivers can follow."""

RETRY_SECONDS = (5.0, 30.0, 120.0, 600.0, 3600.0, 3 * 3600.0, 6 * 3600.0, 12 * 3600.0, 24 * 3600.0, 24 * 3600.0)
"""How long to wait after each failed try; after the last, three days after the first, it is given up."""
JITTER = 0.2
"""Each wait is longer or shorter by up to this part, so that what failed together does not come again together."""

DeliveryState = Literal["pending", "delivered", "failed"]
Url = Annotated[
    str,
    Field(min_length=1, max_length=MAX_URL_LENGTH, json_schema_extra={"format": "uri", "pattern": "^https?://[^/?#@]"}),
]
Events = Annotated[tuple[EventName, ...], JsonArray, Field(min_length=1, max_length=len(EVENT_NAMES)), CountsItems]
Description = Annotated[str | None, Field(max_length=MAX_DESCRIPTION_LENGTH)]


class WebhookSpec(Frozen):
    """Where to tell of what."""

    url: Url
    """An https address, to which events are POSTed."""
    events: Events
    """What to tell of."""
    description: Description = None
    """What it is for, in your words."""


class WebhookChange(Frozen):
    """What to change of a webhook; what is left out or null stays as it is."""

    url: Url | None = None
    """An https address, to which events are POSTed."""
    events: Events | None = None
    """What to tell of."""
    description: Description = None
    """What it is for, in your words."""
    enabled: bool | None = None
    """False: nothing is sent, and what waited to be sent is given up. True: what happens from now on is sent."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where somebody wants to hear of what; its secret is not a part of it, so that it is shown nowhere."""

    id: str
    number: int
    url: str
    events: tuple[str, ...]
    description: str | None
    enabled: bool
    disabled_because: str | None
    """Why the service stopped telling it; None where it is told, and where its owner wanted it so."""
    failing_since: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing that a webhook is told."""

    number: int
    message_id: str
    event: str
    state: DeliveryState
    attempts: int
    next_at: datetime
    status: int | None
    """The last answer's."""
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A right to send something; what comes of it carries the attempt."""

    number: int
    attempt: int
    webhook_id: str
    url: str
    message_id: str
    event: str
    body: str
    secrets: Sequence[str] = field(repr=False)


def event_of(job_kind: JobKind, kind: EventKind) -> str | None:
    """Return what webhooks are told when this happens to a job; None where they are not."""
    return _EVENTS.get((job_kind, kind))


def check_url(url: str, *, allow_http: bool) -> None:
    """Refuse an address by what it looks like; what its name stands for is looked at elsewhere.

    Raises:
        InvalidWebhook: it is not a plain https address.
    """
    schemes = ("https", "http") if allow_http else ("https",)
    wrong = _what_is_wrong(url, schemes)
    if wrong:
        raise InvalidWebhook([Violation("#/url", f"{wrong}; got {shown(url)}")])


def _what_is_wrong(url: str, schemes: tuple[str, ...]) -> str | None:
    if not url.isascii() or not url.isprintable() or set(url) & set(' "<>\\^`{|}'):
        return "must be plain ASCII without blanks and quotes; write other characters as %XX, and hosts as punycode"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"is no address ({error})"
    if parts.scheme not in schemes:
        return f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if not host or port == 0:
        return "must name a host, as in https://example.com/hooks"
    if "@" in parts.netloc:
        return "must hold neither user nor password; the signature tells who sends"
    if "#" in url:
        return "must have no fragment (#...)"
    return None


def new_secret() -> str:
    """Return a new secret, as Standard Webhooks writes them."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def new_message_id() -> str:
    """Return the id of a new message; receivers know by it what they have had already."""
    return f"msg_{secrets.token_hex(12)}"


def message(event: str, data: Mapping[str, Any], at: datetime) -> str:
    """Return the body that tells of an event."""
    told = {"type": event, "timestamp": utc(at), "data": data}
    return json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def signed_headers(delivery: ClaimedDelivery, now: float) -> dict[str, str]:
    """Return the headers that say which message this is, when it is sent and by whom; ``now`` is in seconds, Unix."""
    timestamp = str(int(now))
    signatures = [_sign(secret, delivery.message_id, timestamp, delivery.body) for secret in delivery.secrets]
    return {
        "webhook-id": delivery.message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def _sign(secret: str, message_id: str, timestamp: str, body: str) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def wait_after(attempts: int, spread: float) -> float | None:
    """Return for how many seconds to wait after so many tries; None where it is to be given up.

    ``spread`` is between -1 and 1, and drawn anew for each.
    """
    if attempts > len(RETRY_SECONDS):
        return None
    return RETRY_SECONDS[attempts - 1] * (1 + JITTER * spread)
