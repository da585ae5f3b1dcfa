"""What the environment says, and what is answered to one that cannot be taken."""

import pytest

from service.settings import Settings, read_settings
from service.unknown_variables import unknown


def test_value_that_cannot_be_taken_is_named_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFNORM_THREADS", "0")
    monkeypatch.setenv("SELFNORM_IMPORT_SECONDS", "soon")
    with pytest.raises(SystemExit) as found:
        read_settings()
    threads, seconds = str(found.value).splitlines()
    assert threads == "selfnorm: SELFNORM_THREADS: Input should be greater than or equal to 1; got '0'"
    assert seconds.startswith("selfnorm: SELFNORM_IMPORT_SECONDS: ")
    assert seconds.endswith("; got 'soon'")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("BROKER_URL", "redis://:s3cret/xy@host:6379/0"),
        ("BROKER_URL", "redis://:12/s3cret@host/0"),
        ("BROKER_URL", "redis://[s3cret"),
        ("BROKER_URL", "redis://u:p@host:s3cret/0"),
        ("BROKER_URL", "redis://u:p@s3cret@host/0"),
        ("DATABASE_URL", "postgresql+psycopg://u:half@s3cret@host/d"),
        ("DATABASE_URL", "postgresql://u:a@b:s3cret@host:5432/d"),
    ],
)
def test_url_that_cannot_be_read_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv(f"SELFNORM_{name}", url)
    with pytest.raises(SystemExit, match=rf"SELFNORM_{name}: cannot be read as a URL.*%XX") as found:
        read_settings()
    assert "s3cret" not in str(found.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("BROKER_URL", "rediss://u:s3%2Fcret@host:6379/0?ssl_cert_reqs=CERT_REQUIRED"),
        ("BROKER_URL", "sentinel://:p@h1:26379;sentinel://:p@h2:26379"),
        ("BROKER_URL", "redis+socket:///run/a@b.sock"),
        ("DATABASE_URL", "sqlite:////a@b/c@d.db"),
        ("DATABASE_URL", "postgresql+psycopg://u:s3/c r#et@host/d?x=@@"),
    ],
)
def test_url_that_can_be_read_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv(f"SELFNORM_{name}", url)
    assert getattr(read_settings(), name.lower()) == url


def test_hosts_and_origins_are_divided_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFNORM_ALLOWED_HOSTS", "a.example, *.b.example,")
    monkeypatch.setenv("SELFNORM_CORS_ORIGINS", "https://a.example,http://localhost:3000")
    settings = read_settings()
    assert settings.allowed_hosts == ("a.example", "*.b.example")
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALLOWED_HOSTS", "a.example:80"), ("ALLOWED_HOSTS", "*"), ("CORS_ORIGINS", "*"), ("CORS_ORIGINS", "https://a/b")],
)
def test_host_or_origin_that_no_header_can_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SELFNORM_{name}", value)
    with pytest.raises(SystemExit, match=f"SELFNORM_{name}: takes .* not "):
        read_settings()


@pytest.mark.parametrize("text", ["5", "0/minute", "5/fortnight", "5/minute\n"])
def test_rate_that_cannot_be_read_is_said_in_words(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SELFNORM_REQUEST_RATE", text)
    with pytest.raises(SystemExit) as found:
        read_settings()
    allowed = "must be a number and one of second, minute, hour, day, such as 600/minute"
    assert str(found.value) == f"selfnorm: SELFNORM_REQUEST_RATE: {allowed}; got {text!r}"


@pytest.mark.parametrize("url", ["foo", "memcached://:s3cret@host", "redis://a:1;redis://b:1"])
def test_rates_are_shared_through_one_redis_only(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SELFNORM_RATES_URL", url)
    with pytest.raises(SystemExit) as found:
        read_settings()
    allowed = "must be the URL of one Redis and begin with redis:// or rediss:// or redis+socket://"
    assert str(found.value) == f"selfnorm: SELFNORM_RATES_URL: {allowed}"


def test_variable_that_nobody_reads_is_told_with_the_one_that_may_be_meant() -> None:
    found = unknown(["SELFNORM_REQUEST_RATEE", "selfnorm_thread", "SELFNORM_XYZZY", "PATH"])
    assert list(found) == [
        "SELFNORM_REQUEST_RATEE is no setting and has no effect; is SELFNORM_REQUEST_RATE meant?",
        "SELFNORM_XYZZY is no setting and has no effect; docs/settings.md lists them",
        "selfnorm_thread is no setting and has no effect; is SELFNORM_THREADS meant?",
    ]


def test_variables_that_somebody_reads_are_told_of_nowhere() -> None:
    settings = [f"SELFNORM_{name.upper()}" for name in Settings.model_fields]
    others = ["SELFNORM_URL", "SELFNORM_API_KEY", "SELFNORM_PORT", "SELFNORM_WORKER_NAME", "selfnorm_threads"]
    of_kubernetes = ["SELFNORM_API_SERVICE_HOST", "SELFNORM_API_SERVICE_PORT_HTTP", "SELFNORM_API_PORT_8000_TCP_ADDR"]
    assert list(unknown([*settings, *others, *of_kubernetes, "SELFNORM_API_PORT"])) == []
