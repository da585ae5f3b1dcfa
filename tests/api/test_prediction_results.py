"""What a prediction over a stored data set has made, as HTTP gives it; it is put in by hand."""

import io

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select

from service.domain.models import Outputs
from service.storage import leases
from service.storage.database import Database
from service.storage.tables import blob_parts, blobs
from tests.api.support import problem
from tests.predictions import ask_for_prediction, claim, finish, register, store_numbers

OUTPUTS = Outputs("classification", "y", ("no", "yes"))
PARQUET, CSV = "application/vnd.apache.parquet", "text/csv"


@pytest.fixture(autouse=True)
def model_and_rows(database: Database) -> None:
    register(database, outputs=OUTPUTS)
    store_numbers(database, 5)


def test_result_comes_as_parquet_and_as_csv(client: TestClient, database: Database) -> None:
    found = ask_for_prediction(client, keep=["b"])
    table = finish(database, found["id"])
    path = f"/predictions/{found['id']}/result"
    job = client.get(f"/predictions/{found['id']}").json()
    assert job["progress"] == {
        "rows_done": 5,
        "rows": 5,
        "fraction": 1.0,
        "rows_per_second": None,
        "eta_seconds": 0.0,
    }
    assert job["result"]["columns"] == ["b", "prediction", "probability: no", "probability: yes"]

    parquet = client.get(path)
    assert parquet.headers["content-type"] == PARQUET
    assert parquet.headers["content-length"] == str(job["result"]["size_bytes"])
    assert parquet.headers["content-disposition"] == f'attachment; filename="prediction-{found["id"]}.parquet"'
    assert parquet.headers["x-content-type-options"] == "nosniff"
    assert pq.read_table(io.BytesIO(parquet.content)).equals(table)

    csv = client.get(path, headers={"Accept": "text/csv"})
    assert csv.headers["content-type"].startswith(CSV)
    assert csv.headers["content-disposition"] == f'attachment; filename="prediction-{found["id"]}.csv"'
    assert csv.headers["vary"] == "Accept"
    assert csv.text.splitlines()[0] == '"b","prediction","probability: no","probability: yes"'
    read = pacsv.read_csv(io.BytesIO(csv.content), convert_options=pacsv.ConvertOptions(strings_can_be_null=True))
    assert read.column("prediction").to_pylist() == table.column("prediction").to_pylist()
    assert read.column("b").to_pylist() == table.column("b").to_pylist()
    assert client.get(f"{path}?format=csv", headers={"Accept": PARQUET}).content == csv.content
    assert csv.headers["etag"] != parquet.headers["etag"]
    for answer, kind in ((parquet, PARQUET), (csv, CSV)):
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"], "Accept": kind})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", PARQUET),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PARQUET),
        ("text/*", CSV),
        (f"{PARQUET};q=0.5, text/csv", CSV),
        (f"{PARQUET}, text/csv;q=0.9", PARQUET),
        ("text/csv;q=0", PARQUET),
        ("application/json", PARQUET),
        ("text/csv;q=x", PARQUET),
    ],
)
def test_form_of_a_result_is_what_the_client_likes_better(
    client: TestClient, database: Database, accept: str, kind: str
) -> None:
    found = ask_for_prediction(client)
    finish(database, found["id"])
    answer = client.get(f"/predictions/{found['id']}/result", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == kind


def test_unknown_form_is_refused(client: TestClient, database: Database) -> None:
    found = ask_for_prediction(client)
    finish(database, found["id"])
    problem(client.get(f"/predictions/{found['id']}/result?format=xlsx"), 422)


def test_prediction_without_a_result_says_what_to_do(client: TestClient, database: Database) -> None:
    found = ask_for_prediction(client)
    path = f"/predictions/{found['id']}/result"
    waiting = problem(client.get(path), 409)
    assert (waiting["code"], "wait=30" in waiting["detail"]) == ("no_result", True)
    held = claim(database, found["id"])
    with database.write() as connection:
        leases.fail(connection, held, "worker_lost", "why")
    assert "is failed and has no result" in problem(client.get(path), 409)["detail"]
    assert client.get(f"/predictions/{found['id']}").json()["error"] == {"code": "worker_lost", "detail": "why"}


def test_rotten_result_is_503(client: TestClient, database: Database) -> None:
    found = ask_for_prediction(client)
    finish(database, found["id"])
    with database.write() as connection:
        sha256 = client.get(f"/predictions/{found['id']}").json()["result"]["sha256"]
        connection.execute(delete(blob_parts).where(blob_parts.c.sha256 == sha256))
    for form in ("parquet", "csv"):
        answer = client.get(f"/predictions/{found['id']}/result?format={form}")
        assert problem(answer, 503)["code"] == "corrupt_blob"


def test_deleted_prediction_takes_its_result_with_it(client: TestClient, database: Database) -> None:
    found = ask_for_prediction(client)
    assert problem(client.delete(f"/predictions/{found['id']}"), 409)["code"] == "job_is_not_final"
    finish(database, found["id"])
    sha256 = client.get(f"/predictions/{found['id']}").json()["result"]["sha256"]
    assert client.delete(f"/predictions/{found['id']}").status_code == 204
    problem(client.get(f"/predictions/{found['id']}"), 404)
    with database.read() as connection:
        assert connection.execute(select(blobs.c.sha256).where(blobs.c.sha256 == sha256)).first() is None


def test_result_that_another_prediction_has_too_stays(client: TestClient, database: Database) -> None:
    first, second = ask_for_prediction(client)["id"], ask_for_prediction(client)["id"]
    for prediction_id in (first, second):
        finish(database, prediction_id)
    assert client.delete(f"/predictions/{first}").status_code == 204
    assert client.get(f"/predictions/{second}/result").status_code == 200
