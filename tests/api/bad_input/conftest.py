"""One service for all modules: nothing here needs an empty one, and what is refused changes nothing."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.fuzz.world import World, world

UPLOAD_BYTES = 20_000_000
JSON_BYTES = 4_000_000


@pytest.fixture(scope="package")
def there() -> Iterator[World]:
    with world(authentication=True, max_upload_bytes=UPLOAD_BYTES, max_json_bytes=JSON_BYTES) as made:
        yield made


@pytest.fixture(scope="package")
def client(there: World) -> Iterator[TestClient]:
    """Asks with a key that opens everything."""
    headers = {"Authorization": f"Bearer {there.key}"}
    with TestClient(there.app, raise_server_exceptions=False, headers=headers) as opened:
        yield opened
