"""One API process with models for all of these tests, which only ask it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from service.domain.owners import DEFAULT_OWNER
from service.storage.database import Database
from tests.api_process import ApiProcess, api_process
from tests.protocols import models


@pytest.fixture(scope="session")
def models_file(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "selfnorm.db"
    shutil.copy(stocked_sqlite, path)
    database = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
    models.register_models(database)
    database.close()
    return path


@pytest.fixture(scope="session")
def api(models_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("api")
    with api_process(models_file, folder, SELFNORM_DEFAULT_MODEL="people") as process:
        yield process
        assert "Traceback" not in process.log()


@pytest.fixture(scope="session")
def client(api: ApiProcess) -> httpx.Client:
    return api.client


def predicted(client: httpx.Client, model: str, rows: Any, **fields: Any) -> dict[str, Any]:
    """What the native route answers."""
    answer = client.post("/predict", json={"model": model, "instances": rows, **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body
