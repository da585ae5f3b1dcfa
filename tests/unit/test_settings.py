"""What the environment says, and what is answered to one that cannot be taken."""

import pytest

from service.settings import read_settings


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
    "url",
    [
        "redis://:s3cret/xy@host:6379/0",
        "redis://:12/s3cret@host/0",
        "redis://[s3cret",
        "redis://u:p@host:s3cret/0",
        "redis://u:p@s3cret@host/0",
    ],
)
def test_broker_url_that_cannot_be_read_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SELFNORM_BROKER_URL", url)
    with pytest.raises(SystemExit, match=r"SELFNORM_BROKER_URL: cannot be read as a URL.*%XX") as found:
        read_settings()
    assert "s3cret" not in str(found.value)


@pytest.mark.parametrize("url", ["postgresql+psycopg://u:half@s3cret@host/d", "postgresql://u:a@b:s3cret@host:5432/d"])
def test_database_url_whose_password_ends_early_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SELFNORM_DATABASE_URL", url)
    with pytest.raises(SystemExit, match=r"SELFNORM_DATABASE_URL: cannot be read as a URL") as found:
        read_settings()
    assert "s3cret" not in str(found.value)


@pytest.mark.parametrize("url", ["sqlite:////a@b/c@d.db", "postgresql+psycopg://u:s3/c r#et@host/d?x=@@"])
def test_database_url_that_can_be_read_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SELFNORM_DATABASE_URL", url)
    assert read_settings().database_url == url


@pytest.mark.parametrize(
    "url",
    [
        "rediss://u:s3%2Fcret@host:6379/0?ssl_cert_reqs=CERT_REQUIRED",
        "sentinel://:p@h1:26379;sentinel://:p@h2:26379",
        "redis+socket:///run/a@b.sock",
    ],
)
def test_broker_url_that_can_be_read_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SELFNORM_BROKER_URL", url)
    assert read_settings().broker_url == url
