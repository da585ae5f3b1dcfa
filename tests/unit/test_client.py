import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

import service.client
from service.api.views.jobs import JobView
from service.client import AsyncClient, Client, InvalidSettings, SelfnormError, progress
from service.client.comparisons import ComparisonFields
from service.client.jobs import JobFields
from service.client.predictions import PredictionFields
from service.client.transport import Connection
from service.domain.comparison_spec import ComparisonSpec
from service.domain.predictions import PredictionSpec
from service.domain.spec import JobSpec

HEAVY = {"fastapi", "sqlalchemy", "celery", "tensorflow", "pyarrow", "pandas", "polars", "sklearn", "numpy", "rich"}
HEAVY |= {"onnxruntime", "alembic", "pydantic"}
LOADED = """
import sys
import {modules}
print(*({heavy!r} & sys.modules.keys()))
"""
PARTS = ("datasets", "jobs", "models", "predictions", "comparisons")


def loaded_by(modules: str) -> set[str]:
    program = LOADED.format(modules=modules, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_of_the_client_loads_nothing_heavy() -> None:
    assert loaded_by("service.client") == set()


def test_its_parts_load_nothing_of_the_service_but_its_views() -> None:
    modules = ", ".join(f"service.client.{part}" for part in (*PARTS, "asynchronous", "events", "predict", "training"))
    assert loaded_by(modules) <= {"numpy", "pydantic"}


def test_names_that_are_imported_late_are_listed_and_others_are_unknown() -> None:
    assert {"AsyncClient", "SNNClassifier", "SNNRegressor"} <= set(dir(service.client))
    with pytest.raises(AttributeError, match="Klient"):
        service.client.Klient  # noqa: B018


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    with Client() as client:
        asked: list[tuple[Any, Any]] = [(client, AsyncClient())]
        asked += [(getattr(client, part), getattr(asked[0][1], part)) for part in PARTS]
    for blocking, awaited in asked:
        ours, theirs = public(type(blocking)), public(type(awaited))
        assert ours.keys() == theirs.keys()
        for name, method in ours.items():
            if not callable(method) or name in ("close",):
                continue
            here, there = inspect.signature(method), inspect.signature(theirs[name])
            assert here.parameters.keys() == there.parameters.keys(), name
            assert method.__doc__ == theirs[name].__doc__, name
            assert method.__doc__, name


def test_methods_show_what_they_really_return() -> None:
    with Client() as client:
        assert inspect.signature(client.jobs.get).return_annotation is JobView
        assert inspect.signature(client.jobs.list).return_annotation == Iterator[JobView]
        assert list(inspect.signature(client.jobs.get).parameters) == ["job"]
    assert inspect.signature(AsyncClient().jobs.list).return_annotation == AsyncIterator[JobView]
    assert inspect.signature(Client.train).return_annotation == "JobView"


@pytest.mark.parametrize(
    ("fields", "spec"),
    [(JobFields, JobSpec), (PredictionFields, PredictionSpec), (ComparisonFields, ComparisonSpec)],
)
def test_keywords_are_the_fields_of_the_spec(fields: Any, spec: Any) -> None:
    assert get_type_hints(fields).keys() == spec.model_fields.keys()


def test_address_and_key_come_from_the_arguments_else_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SELFNORM_URL", raising=False)
    monkeypatch.delenv("SELFNORM_API_KEY", raising=False)
    default = Connection(None, None, 1, 0)
    assert default.url == "http://127.0.0.1:8000"
    assert "Authorization" not in default.headers
    monkeypatch.setenv("SELFNORM_URL", "https://nets.example/")
    monkeypatch.setenv("SELFNORM_API_KEY", "word")
    there = Connection(None, None, 1, 0)
    assert (there.url, there.headers["Authorization"]) == ("https://nets.example", "Bearer word")
    given = Connection("http://here", "other", 1, 0)
    assert (given.url, given.headers["Authorization"]) == ("http://here", "Bearer other")


def test_key_is_not_shown() -> None:
    with Client("http://here", "secret") as client:
        assert repr(client) == "Client('http://here')"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("key", ["secret\nX-Other: 1", "secret word", "sécret", "secret\x7f"])
def test_key_that_is_none_is_refused_at_once_and_not_repeated(kind: Any, key: str) -> None:
    with pytest.raises(InvalidSettings, match="SELFNORM_API_KEY") as raised:
        kind("http://here", key)
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, SelfnormError)
    assert "secret" not in str(raised.value)
    assert "sécret" not in str(raised.value)


def test_white_space_round_address_and_key_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFNORM_API_KEY", "word\n")
    found = Connection(" http://here/\n", None, 1, 0)
    assert (found.url, found.headers["Authorization"]) == ("http://here", "Bearer word")


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://127.0.0.1:abc", "http://", "ftp://there", "http://there:99999"]
)
def test_address_that_is_none_is_refused_at_once_with_one_that_is(url: str) -> None:
    with pytest.raises(InvalidSettings, match="pass one such as") as raised:
        Client(url)
    assert repr(url) in str(raised.value)


def test_authorities_are_read_where_something_is_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert Connection("https://there", None, 1, 0).tls is True
    plain = Connection("http://here", None, 1, 0).tls
    assert not isinstance(plain, bool)
    assert plain.get_ca_certs() == []
    assert plain.check_hostname


def test_progress_is_a_bar_or_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    job = SimpleNamespace(
        id="0123456789ab",
        state="running",
        progress=SimpleNamespace(fraction=0.5, epoch=5, epochs=10),
        metrics=SimpleNamespace(latest={"val_loss": 0.25}),
    )
    with progress.reporting(True, "job") as report:
        assert report is not None
        report(job)
    shown = capsys.readouterr().out
    assert "job 01234567 running" in shown
    assert "50%" in shown
    assert "epoch 5/10" in shown
    seen: list[Any] = []
    with progress.reporting(seen.append, "job") as report:
        assert report is not None
        report(job)
    assert seen == [job]
    for nothing in (False, None):
        with progress.reporting(nothing, "job") as report:
            assert report is None
