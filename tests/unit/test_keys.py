"""Keys as values: what they look like, what is kept of them, and what cannot be one."""

import hashlib
import re

import pytest

from service.domain.key_errors import BadKeyRequest
from service.domain.keys import KEY_PATTERN, MAX_NAME_LENGTH, Scope, new_key, sha256
from service.domain.owners import MAX_OWNER_LENGTH


def test_key_is_an_id_and_32_random_bytes_of_which_only_a_hash_is_kept() -> None:
    key = new_key("ann", "local", ["read"])
    found = KEY_PATTERN.fullmatch(key.text)
    assert found is not None
    key_id, secret = found.groups()
    assert key.text == f"sn_{key_id}_{secret}"
    assert key_id == key.id
    assert len(secret) == 43  # 32 bytes in base64url
    assert key.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest() == sha256(secret)
    assert secret not in repr(key).replace(key.text, "")


def test_no_two_keys_are_alike() -> None:
    keys = [new_key("a", "local", ["read"]) for _ in range(100)]
    assert len({key.id for key in keys}) == len({key.text.rpartition("_")[2] for key in keys}) == 100


@pytest.mark.parametrize("text", ["", "sn_", "sn__", "word", "sn_123456789abc_", "sn_123456789ABC_" + "a" * 43, "é"])
def test_what_is_no_key_is_not_read_as_one(text: str) -> None:
    assert KEY_PATTERN.fullmatch(text) is None


def test_nothing_may_stand_around_a_key() -> None:
    text = new_key("a", "local", ["read"]).text
    assert KEY_PATTERN.fullmatch(text)
    for other in (f" {text}", f"{text}\n", f"{text}x", text[:-1], text.upper()):
        assert KEY_PATTERN.fullmatch(other) is None


def test_scopes_stand_in_their_usual_order_and_once() -> None:
    assert new_key("a", "o", ["predict", "read", "predict"]).scopes == (Scope.READ, Scope.PREDICT)


@pytest.mark.parametrize("owner", ["", "a b", "a/b", "ä", "a\n", "a" * (MAX_OWNER_LENGTH + 1)])
def test_owner_that_cannot_be_one_is_refused_with_what_is_allowed(owner: str) -> None:
    with pytest.raises(BadKeyRequest, match=f"1 to {MAX_OWNER_LENGTH} letters, digits and the characters . _ -; got "):
        new_key("a", owner, ["read"])


@pytest.mark.parametrize("owner", ["a", "Team.B_2-x", "a" * MAX_OWNER_LENGTH])
def test_owner_that_can_be_one_is_taken(owner: str) -> None:
    assert new_key("a", owner, ["read"]).owner == owner


@pytest.mark.parametrize("name", ["", " a", "a\n", "\x1b[31m", "a" * (MAX_NAME_LENGTH + 1)])
def test_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(BadKeyRequest, match="1 to 100 printable characters"):
        new_key(name, "local", ["read"])


@pytest.mark.parametrize(("scopes", "got"), [([], "got none"), (["read", "write"], "got 'write'")])
def test_scopes_that_are_none_are_refused_with_those_that_there_are(scopes: list[str], got: str) -> None:
    with pytest.raises(BadKeyRequest, match=re.escape(f"read, submit, predict, admin; {got}")):
        new_key("a", "local", scopes)
