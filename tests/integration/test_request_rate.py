"""The short way of predictions counts requests as the application does, and each once."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copy

import pytest

from service.domain.owners import DEFAULT_OWNER
from service.storage.database import Database
from tests.api_process import ApiProcess, api_process
from tests.processes import linux_only
from tests.raw_http import connected, prediction
from tests.served import inverse, register

pytestmark = linux_only

ALLOWED = 40


@pytest.fixture
def api(stocked_sqlite: Path, tmp_path: Path) -> Iterator[ApiProcess]:
    copy(stocked_sqlite, tmp_path / "selfnorm.db")
    database = Database(f"sqlite:///{tmp_path / 'selfnorm.db'}").owned_by(DEFAULT_OWNER)
    register(database, inverse("inverse", spec={"network": {"kind": "mlp"}}))
    database.close()
    with api_process(tmp_path / "selfnorm.db", tmp_path, SELFNORM_REQUEST_RATE=f"{ALLOWED}/day") as running:
        yield running


def test_every_request_is_counted_once_whichever_way_it_takes(api: ApiProcess) -> None:
    short = prediction({"model": "inverse", "instances": [[2]]})
    ways = [
        short,
        prediction({"model": "inverse", "instances": [[0]]}),  # has no answer, which the application says
        prediction({"model": "unknown", "instances": [[2]]}),
        short.replace(b"\r\n", b"\r\nX-Other: 1\r\n", 1),
    ]
    with connected(api.port) as connection:
        statuses = [connection.ask(ways[number % len(ways)]).status for number in range(ALLOWED)]
        assert 429 not in statuses
        assert set(statuses) == {200, 404, 422}
        for way in ways:
            answer = connection.ask(way)
            assert answer.status == 429
            assert answer.header("retry-after")
        assert connection.ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200
