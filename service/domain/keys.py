"""API keys: what they look like, whom and what they open, and until when.

A key is ``sn_<id>_<secret>``. The id may be shown; of the secret only the SHA-256 is kept, which is enough for 32
random bytes: nobody tries them all, so nothing has to make each try slow.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.key_errors import BadKeyRequest
from service.domain.owners import MAX_OWNER_LENGTH
from service.domain.wording import shown

PREFIX = "sn_"
ID_BYTES = 6
SECRET_BYTES = 32
KEY_PATTERN = re.compile(r"sn_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
"""What every key looks like, for whoever reads one, or looks for them in logs."""
MAX_NAME_LENGTH = 100
_OWNER = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_OWNER_LENGTH}}}")


class Scope(StrEnum):
    """What a key opens."""

    READ = "read"
    """Look at everything of its owner: data sets, jobs, comparisons, models, the pages."""
    SUBMIT = "submit"
    """Make, change and delete it."""
    PREDICT = "predict"
    """Ask models for predictions, under every protocol."""
    ADMIN = "admin"
    """All of these, and what tells of the whole service, as /metrics does."""


DEFAULT_SCOPES = (Scope.READ, Scope.SUBMIT, Scope.PREDICT)


class KeyState(StrEnum):
    """Whether a key opens anything."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored."""

    id: str
    owner: str
    name: str
    scopes: tuple[Scope, ...]
    state: KeyState
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is to be stored; ``text`` is the only place where its secret stands."""

    id: str
    owner: str
    name: str
    scopes: tuple[Scope, ...]
    text: str
    secret_sha256: str


def new_key(name: str, owner: str, scopes: Iterable[str]) -> NewKey:
    """Draw a key.

    Raises:
        BadKeyRequest: the name, the owner or a scope cannot be taken.
    """
    key_id, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    text = f"{PREFIX}{key_id}_{secret}"
    return NewKey(key_id, checked_owner(owner), _checked_name(name), _checked_scopes(scopes), text, sha256(secret))


def sha256(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def checked_owner(owner: str) -> str:
    """Return the name of an owner.

    Raises:
        BadKeyRequest: it cannot be one.
    """
    if _OWNER.fullmatch(owner):
        return owner
    raise BadKeyRequest(
        f"an owner's name has 1 to {MAX_OWNER_LENGTH} letters, digits and the characters . _ -; got {shown(owner)}"
    )


def _checked_name(name: str) -> str:
    if 1 <= len(name) <= MAX_NAME_LENGTH and name.isprintable() and name.strip() == name:
        return name
    raise BadKeyRequest(
        f"a key's name has 1 to {MAX_NAME_LENGTH} printable characters, none of them a space at an end; "
        f"got {shown(name)}"
    )


def _checked_scopes(scopes: Iterable[str]) -> tuple[Scope, ...]:
    """Return the scopes in their usual order, each once."""
    asked = set(scopes)
    unknown = asked - set(Scope)
    if unknown or not asked:
        got = ", ".join(map(shown, sorted(unknown))) or "none"
        raise BadKeyRequest(f"a key has one or more of the scopes {', '.join(Scope)}; got {got}")
    return tuple(scope for scope in Scope if scope in asked)
