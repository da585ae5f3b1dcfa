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
