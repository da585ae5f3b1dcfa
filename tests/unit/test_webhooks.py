import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.domain.errors import InvalidInput
from service.domain.webhooks import (
    EVENT_NAMES,
    RETRY_SECONDS,
    TEST,
    ClaimedDelivery,
    check_url,
    message,
    new_secret,
    signed_headers,
    wait_after,
)
from tests.documents import ROOT, blocks

DAY = 24 * 3600


def delivery(secrets: tuple[str, ...], body: str = '{"name":"ä"}', message_id: str = "msg_1") -> ClaimedDelivery:
    return ClaimedDelivery(1, 1, "w", "https://example.com", message_id, "job.failed", body, secrets)


def test_signature_is_that_of_the_specification() -> None:
    """The values are those of the example in Standard Webhooks' own libraries."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", '{"test": 2432232314}'
    headers = signed_headers(delivery((secret,), body, "msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330.7)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_others_verify_what_is_signed_here_with_either_secret() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    headers = signed_headers(delivery((new, old)), datetime.now(UTC).timestamp())
    for secret in (old, new):
        assert Webhook(secret).verify('{"name":"ä"}', headers) == {"name": "ä"}
    for secret, body in ((other, '{"name":"ä"}'), (new, '{"name":"a"}')):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)


def test_example_of_the_manual_verifies() -> None:
    [example] = [block for block in blocks(ROOT / "docs/webhooks.md") if block.language == "python"]
    names: dict[str, Any] = {}
    exec(example.code, names)  # noqa: S102  # the code of our own manual
    secret, now = new_secret(), datetime.now(UTC).timestamp()
    headers, body = signed_headers(delivery((new_secret(), secret)), now), '{"name":"ä"}'.encode()
    names["verify"](secret, headers, body)
    for wrong in ((new_secret(), headers, body), (secret, headers, b"{}")):
        with pytest.raises(ValueError, match="not signed"):
            names["verify"](*wrong)
    with pytest.raises(ValueError, match="too old"):
        names["verify"](secret, signed_headers(delivery((secret,)), now - 600), body)


def test_manual_names_every_event() -> None:
    manual = (ROOT / "docs/webhooks.md").read_text()
    for name in (*EVENT_NAMES, TEST):
        assert f"`{name}`" in manual


def test_secrets_are_not_in_what_is_printed_of_a_delivery() -> None:
    secret = new_secret()
    assert secret not in repr(delivery((secret,)))


def test_body_says_what_when_and_about_which_thing() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678, timezone(timedelta(hours=1)))
    assert json.loads(message("job.failed", {"id": "j"}, at)) == {
        "type": "job.failed",
        "timestamp": "2026-01-02T02:04:05.000678Z",
        "data": {"id": "j"},
    }


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com/", "must begin with https://"),
        ("ftp://example.com/", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        ("gopher://example.com/", "must begin with https://"),
        ("//example.com/", "must begin with https://"),
        ("example.com", "must begin with https://"),
        ("https:///path", "must name a host"),
        ("https://", "must name a host"),
        ("https://example.com:0/", "must name a host"),
        ("https://user@example.com/", "neither user nor password"),
        ("https://user:s3cret@example.com/", "neither user nor password"),
        ("https://@example.com/", "neither user nor password"),
        ("https://example.com/#there", "no fragment"),
        ("https://example.com/#", "no fragment"),
        ("https://example.com:99999/", "is no address"),
        ("https://example.com:x/", "is no address"),
        ("https://[::1/", "is no address"),
        ("https://exa mple.com/", "plain ASCII"),
        ("https://example.com\\@10.0.0.1/", "plain ASCII"),
        ("https://example.com/\r\nHost: other", "plain ASCII"),
        ("https://münchen.example/", "plain ASCII"),
        ("https://①②⑦.⓪.⓪.①/", "plain ASCII"),
        ("https://{host}/", "plain ASCII"),
    ],
)
def test_odd_addresses_are_refused(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        check_url(url, allow_http=False)
    assert refused.value.violations[0].pointer == "#/url"


@pytest.mark.parametrize(
    "url", ["https://example.com", "https://example.com:8443/a/b?c=d&e=%20", "https://xn--mnchen-3ya.example/x@y"]
)
def test_plain_ones_are_taken(url: str) -> None:
    check_url(url, allow_http=False)
    check_url(url.replace("https", "http"), allow_http=True)


def test_waits_grow_to_three_days_in_all_and_spread() -> None:
    waits = [wait_after(attempts, 0.0) for attempts in range(1, len(RETRY_SECONDS) + 1)]
    assert waits == sorted(RETRY_SECONDS)
    assert 2.5 * DAY < sum(RETRY_SECONDS) * 0.9 < 3.5 * DAY
    assert wait_after(len(RETRY_SECONDS) + 1, 0.0) is None
    assert (wait_after(1, -1.0), wait_after(1, 1.0)) == (4.0, 6.0)
