"""Who did what: the actions that the audit log knows, who acts, and an entry of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change."""

    key_id: str | None = None
    """The key that came with the request; None without authentication, and on the command line."""
    request_id: str | None = None
    address: str | None = None
    """From which the request came; what a reverse proxy says of it counts only where the service trusts that."""


class Action(StrEnum):
    """What somebody can do to a thing: its kind, a dot, and what became of it."""

    DATASET_UPLOADED = "dataset.uploaded"
    DATASET_CHANGED = "dataset.changed"
    DATASET_DELETED = "dataset.deleted"
    JOB_SUBMITTED = "job.submitted"
    JOB_CANCELLED = "job.cancelled"
    """Asked to be; it may run a moment longer."""
    JOB_PAUSED = "job.paused"
    JOB_RESUMED = "job.resumed"
    JOB_RETRIED = "job.retried"
    JOB_DELETED = "job.deleted"
    COMPARISON_SUBMITTED = "comparison.submitted"
    COMPARISON_CANCELLED = "comparison.cancelled"
    COMPARISON_DELETED = "comparison.deleted"
    PREDICTION_SUBMITTED = "prediction.submitted"
    PREDICTION_CANCELLED = "prediction.cancelled"
    PREDICTION_DELETED = "prediction.deleted"
    VERSION_DELETED = "version.deleted"
    ALIAS_SET = "alias.set"
    ALIAS_ROLLED_BACK = "alias.rolled_back"
    ALIAS_REMOVED = "alias.removed"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_TESTED = "webhook.tested"
    WEBHOOK_SECRET_ROTATED = "webhook.secret_rotated"  # noqa: S105  # the name of an action
    WEBHOOK_RETRIED = "webhook.retried"
    WEBHOOK_DISABLED = "webhook.disabled"
    """By the service, for it took nothing for days, or said that it has gone."""
    WEBHOOK_DELETED = "webhook.deleted"
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that somebody did."""

    number: int
    at: datetime
    owner: str
    action: Action
    target: str
    """The id or the name of the thing."""
    actor: Actor
    details: dict[str, Any]
