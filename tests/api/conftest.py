"""The application on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.storage.database import Database
from service.task_queue import Doorbell


@pytest.fixture
def services(database: Database, broker_url: str, tmp_path: Path) -> Services:
    return Services(database, Doorbell(broker_url), max_json_bytes=200_000, max_upload_bytes=1_000_000)


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), raise_server_exceptions=False) as opened:
        yield opened
