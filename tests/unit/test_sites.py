"""Which hosts are answered to, and what a browser says of where a request comes from."""

import pytest

from service.api.gate.credentials import cookie_of, site_of, token_of
from service.api.gate.hosts import Hosts
from service.listening import is_loopback, needs_keys
from service.processes import CannotStart

HERE = [
    b"localhost",
    b"LOCALHOST:8000",
    b"a.localhost",
    b"127.0.0.1",
    b"127.1.2.3:1",
    b"[::1]",
    b"[::1]:80",
    b"[::1]:",
    b"localhost.",
]
ELSEWHERE = [
    b"",
    b"evil.example",
    b"localhost.evil.example",
    b"127.0.0.1.evil.example",
    b"0.0.0.0",
    b"[",
    b"\xff",
    b"x:y:z",
    b"[::1]evil.example",
    b"[::1]:80.evil.example",
    b"localhost:80.evil.example",
    b"localhost:evil",
    b"[::1",
]


@pytest.mark.parametrize("host", HERE)
def test_names_of_this_machine_are_always_taken(host: bytes) -> None:
    assert Hosts(loopback_only=True).take(host)
    assert Hosts(["a.example"]).take(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_other_names_are_not_taken_where_only_this_machine_is_meant(host: bytes) -> None:
    hosts = Hosts(loopback_only=True)
    assert not hosts.take(host)
    assert not hosts.take(host)  # remembered


def test_any_name_is_taken_where_none_is_named() -> None:
    assert all(Hosts().take(host) for host in ELSEWHERE)


def test_names_that_are_allowed_are_taken_and_no_others() -> None:
    hosts = Hosts(["Models.example", "*.inner.example"])
    assert hosts.take(b"models.example:8000")
    assert hosts.take(b"a.inner.example")
    assert not hosts.take(b"inner.example")
    assert not hosts.take(b"evilinner.example")
    assert not hosts.take(b"other.example")


def test_no_number_of_names_is_remembered_without_end() -> None:
    hosts = Hosts(loopback_only=True)
    assert not any(hosts.take(b"%d.example" % number) for number in range(10_000))
    assert len(hosts._judged) <= 256
    assert hosts.take(b"localhost")


@pytest.mark.parametrize(
    ("headers", "site"),
    [
        ([], None),
        ([(b"sec-fetch-site", b"Cross-Site")], b"cross-site"),
        ([(b"sec-fetch-site", b"same-origin"), (b"origin", b"http://other")], b"same-origin"),
        ([(b"origin", b"http://here:8000"), (b"host", b"here:8000")], b"same-origin"),
        ([(b"origin", b"https://HERE"), (b"host", b"here")], b"same-origin"),
        ([(b"origin", b"http://here:8000"), (b"host", b"here")], b"cross-site"),
        ([(b"origin", b"null"), (b"host", b"here")], b"cross-site"),
        ([(b"origin", b"http://here")], b"cross-site"),
        ([(b"origin", b"http://["), (b"host", b"here")], b"cross-site"),
        ([(b"origin", b"http://here"), (b"origin", b"http://x"), (b"host", b"here")], b"cross-site"),
    ],
)
def test_where_a_request_comes_from(headers: list[tuple[bytes, bytes]], site: bytes | None) -> None:
    assert site_of(headers) == site


def test_kind_of_credentials_is_bearer_in_any_case() -> None:
    assert token_of(b"Bearer word") == token_of(b"bearer  word ") == b"word"
    assert token_of(b"Basic word") is None
    assert token_of(b"Bearer") == b""


def test_cookie_of_https_is_another_one() -> None:
    headers = [(b"cookie", b"a=1; selfnorm=plain;__Host-selfnorm=safe"), (b"cookie", b"selfnorm=second")]
    assert cookie_of(headers, "http") == b"plain"
    assert cookie_of(headers, "https") == b"safe"
    assert cookie_of([(b"cookie", b"xselfnorm=1")], "http") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_service_for_this_machine_needs_no_keys_unless_they_are_asked_for(host: str) -> None:
    assert is_loopback(host)
    assert [needs_keys(setting, host) for setting in ("auto", "on", "off")] == [False, True, False]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])  # noqa: S104  # not listened on
def test_service_for_others_needs_keys_and_does_not_start_without(host: str) -> None:
    assert needs_keys("auto", host)
    assert needs_keys("on", host)
    with pytest.raises(CannotStart, match="SELFNORM_AUTHENTICATION=off and --host"):
        needs_keys("off", host)
