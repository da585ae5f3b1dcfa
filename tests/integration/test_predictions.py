"""Predictions over stored data sets by a real worker, which is killed, ended and cancelled in the middle."""

import io
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from service.domain.owners import DEFAULT_OWNER
from service.storage.database import Database
from tests.patience import until
from tests.predictions import register
from tests.processes import Service, linux_only, running

pytestmark = linux_only

ROWS = 60_000
"""Of a heavy model, so many take some seconds."""
NUMBERS = {name: np.random.default_rng(place).normal(size=ROWS).round(6) for place, name in enumerate("ab")}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service") / "data") as started:
        with closing(Database(f"sqlite:///{started.data_dir / 'selfnorm.db'}").owned_by(DEFAULT_OWNER)) as database:
            register(database, "heavy", is_heavy=True)
        yield started


@pytest.fixture(scope="module")
def dataset(service: Service) -> str:
    content = io.BytesIO()
    pacsv.write_csv(pa.table(NUMBERS), content)
    return service.upload("numbers", content.getvalue())


def read(service: Service, prediction_id: str) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get(f"/predictions/{prediction_id}").json()
    return found


def in_the_middle(service: Service, dataset: str) -> str:
    """Submit a prediction, and return its id when a worker is in the middle of it."""
    prediction_id = str(service.post("/predictions", model="heavy", dataset=dataset, keep=["a"])["id"])
    until(
        lambda: 0 < read(service, prediction_id)["progress"]["rows_done"] < ROWS,
        told=lambda: read(service, prediction_id),
    )
    return prediction_id


def ended(service: Service, prediction_id: str) -> dict[str, Any]:
    def end() -> dict[str, Any] | None:
        found: dict[str, Any] = service.client.get(f"/predictions/{prediction_id}?wait=20").json()
        return found if found["state"] in ("succeeded", "failed", "cancelled") else None

    found = until(end, told=lambda: service.log("worker"))
    assert found is not None
    return found


def check_result(service: Service, prediction_id: str) -> None:
    answer = service.client.get(f"/predictions/{prediction_id}/result")
    table = pq.read_table(io.BytesIO(answer.content))
    np.testing.assert_array_equal(table.column("a").to_numpy(), NUMBERS["a"])
    np.testing.assert_allclose(table.column("prediction").to_numpy(), NUMBERS["a"] + NUMBERS["b"], rtol=1e-12)


@pytest.mark.parametrize(
    ("part", "number"),
    [("workers.trainer", signal.SIGKILL), ("-m workers ", signal.SIGTERM)],
    ids=["kill -9 of the training process", "SIGTERM to the worker"],
)
def test_prediction_whose_worker_ends_is_made_by_the_next(
    service: Service, dataset: str, part: str, number: signal.Signals
) -> None:
    prediction_id = in_the_middle(service, dataset)
    [process] = service.children(part)
    os.kill(process, number)
    found = ended(service, prediction_id)
    assert (found["state"], found["attempts"]) == ("succeeded", 2), found
    assert (found["result"]["rows"], found["result"]["unanswered"]) == (ROWS, 0)
    check_result(service, prediction_id)


def test_cancel_is_heard_by_the_worker_which_goes_on_with_the_next(service: Service, dataset: str) -> None:
    prediction_id = in_the_middle(service, dataset)
    next_id = service.post("/predictions", model="heavy", dataset=dataset)["id"]
    [before] = service.children("workers.trainer")
    assert service.post(f"/predictions/{prediction_id}/cancel")["state"] == "cancelling"
    found = ended(service, prediction_id)
    assert (found["state"], found["result"]) == ("cancelled", None)
    assert service.client.get(f"/predictions/{prediction_id}/result").status_code == 409
    assert ended(service, next_id)["state"] == "succeeded"
    assert service.children("workers.trainer") == [before]
