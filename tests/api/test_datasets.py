from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.services import Services
from service.domain.datasets import Column
from service.storage import datasets
from service.storage.datasets import NewDataset
from service.tables import parquet
from tests.api.support import problem, submit

CSV = b"a,b,y\n" + b"".join(b"%d,%d.5,%d\n" % (i * 2, i % 7, i * 3) for i in range(40))


@pytest.mark.parametrize("form", ["body", "multipart"])
def test_uploaded_table_is_described_and_trained_on(client: TestClient, form: str) -> None:
    if form == "body":
        answer = client.post("/datasets?name=mine", content=CSV, headers={"Content-Type": "text/csv; charset=utf-8"})
    else:
        answer = client.post("/datasets", files={"file": ("mine.csv", CSV, "text/csv")})
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert answer.headers["location"] == f"/datasets/{dataset['id']}"
    assert (dataset["name"], dataset["rows"], dataset["builtin"]) == ("mine", 40, False)
    assert [column["name"] for column in dataset["columns"]] == ["a", "b", "y"]
    assert dataset["columns"][1]["mean"] == pytest.approx(sum(i % 7 + 0.5 for i in range(40)) / 40)
    assert client.get(f"/datasets/{dataset['id']}").json() == dataset
    job = submit(client, dataset=dataset["id"], target="y")
    assert (job["spec"]["task"], job["spec"]["features"], job["spec"]["model"]) == ("regression", ["a", "b"], "mine")
    assert problem(client.delete(f"/datasets/{dataset['id']}"), 409)["code"] == "dataset_in_use"
    client.post(f"/jobs/{job['id']}/cancel")
    assert client.delete(f"/datasets/{dataset['id']}").status_code == 204
    problem(client.get(f"/datasets/{dataset['id']}"), 404)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {"Content-Type": "text/csv"}, 422),
        (b"a,b\n1,2\n3\n", {"Content-Type": "text/csv"}, 422),
        (b"x", {"Content-Type": "application/zip"}, 415),
        (b"x", {}, 415),
        (b"x", {"Content-Type": "multipart/form-data"}, 400),
        (b"x", {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}, 400),
        (b'"' + b"x" * 200_000 + b'",b\n1,2\n', {"Content-Type": "text/csv"}, 422),
        (b"a\n" + b"1\n" * 600_000, {"Content-Type": "text/csv"}, 413),
    ],
)
def test_bad_uploads_are_refused(client: TestClient, content: bytes, headers: dict[str, str], status: int) -> None:
    problem(client.post("/datasets", content=content, headers=headers), status)
    problem(client.post("/datasets?name=%0a", content=CSV, headers={"Content-Type": "text/csv"}), 422)
    problem(client.post("/datasets", files={"other": ("t.csv", CSV)}), 400)


def test_builtin_data_sets_are_listed_with_rows(client: TestClient) -> None:
    listed = {dataset["id"]: dataset for dataset in client.get("/datasets").json()["items"]}
    assert listed.keys() == {
        "iris",
        "wine",
        "breast_cancer",
        "digits",
        "diabetes",
        "boston_housing",
        "fashion_mnist",
        "cifar10",
    }
    assert all(dataset["builtin"] for dataset in listed.values())
    page = client.get("/datasets/iris/rows?page_size=100").json()
    assert page["items"][0]["target"] == "setosa"
    rest = client.get(f"/datasets/iris/rows?page_size=100&page_token={page['next_page_token']}").json()
    assert (len(page["items"]), len(rest["items"]), rest["next_page_token"]) == (100, 50, None)
    assert problem(client.get("/datasets/cifar10/rows"), 409)["code"] == "dataset_not_here"


def test_damaged_folder_of_local_data_sets_is_said(services: Services, tmp_path: Path) -> None:
    (tmp_path / "fashion_mnist").mkdir()
    (tmp_path / "fashion_mnist/train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08")
    with TestClient(create_app(replace(services, datasets_dir=tmp_path)), raise_server_exceptions=False) as client:
        problem(client.get("/datasets/fashion_mnist/rows"), 503)


UPLOAD = b"zip,a,note,y\n" + b"".join(b"%d,%d.5,note %d,%d\n" % (10_000 + i % 9, i, i, i * 3) for i in range(60))


def uploaded(client: TestClient) -> str:
    answer = client.post("/datasets?name=mine", content=UPLOAD, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def kinds_of(dataset: dict[str, Any]) -> dict[str, str]:
    return {column["name"]: column["kind"] for column in dataset["columns"]}


def test_name_and_kinds_can_be_changed(client: TestClient) -> None:
    dataset_id = uploaded(client)
    before = client.get(f"/datasets/{dataset_id}").json()
    answer = client.patch(f"/datasets/{dataset_id}", json={"name": "Zürich", "kinds": {"zip": "categorical"}})
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["name"], kinds_of(changed)) == ("Zürich", {**kinds_of(before), "zip": "categorical"})
    assert client.get(f"/datasets/{dataset_id}").json() == changed
    assert client.patch(f"/datasets/{dataset_id}", json={"kinds": {"zip": "categorical"}}).json() == changed
    assert client.patch(f"/datasets/{dataset_id}", json={}).json() == changed
    assert client.patch(f"/datasets/{dataset_id}", json={"name": None, "kinds": None}).json() == changed
    back = client.patch(
        f"/datasets/{dataset_id}", json={"name": "mine", "kinds": {"zip": before["columns"][0]["kind"]}}
    )
    assert kinds_of(back.json()) == kinds_of(before)
    job = submit(client, dataset=dataset_id, target="y")
    assert job["spec"]["model"] == "mine"


def test_everything_that_is_wrong_with_a_change_is_said_at_once(client: TestClient) -> None:
    dataset_id = uploaded(client)
    before = client.get(f"/datasets/{dataset_id}").json()
    change = {"name": "", "kinds": {"a": "id", "note": "numeric", "nothing": "text", "x/y~z": "text"}}
    body = problem(client.patch(f"/datasets/{dataset_id}", json=change), 422)
    pointers = {error["pointer"] for error in body["errors"]}
    assert pointers == {"#/name", "#/kinds/note", "#/kinds/nothing", "#/kinds/x~1y~0z"}
    assert client.get(f"/datasets/{dataset_id}").json() == before


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"kinds": {"zip": "integer"}}, "#/kinds/zip"),
        ({"kinds": {"zip": None}}, "#/kinds/zip"),
        ({"kinds": ["zip"]}, "#/kinds"),
        ({"name": 1}, "#/name"),
        ({"name": "x" * 101}, "#/name"),
        ({"rows": 1}, "#/rows"),
        ([], "#"),
    ],
)
def test_change_is_read_strictly(client: TestClient, change: Any, pointer: str) -> None:
    body = problem(client.patch(f"/datasets/{uploaded(client)}", json=change), 422)
    assert [error["pointer"] for error in body["errors"]] == [pointer]


def test_built_in_data_sets_cannot_be_changed(client: TestClient) -> None:
    body = problem(client.patch("/datasets/iris", json={"name": "mine"}), 409)
    assert body["code"] == "dataset_is_builtin"
    problem(client.patch("/datasets/nothing", json={"name": "mine"}), 404)


def test_kinds_stay_once_there_is_a_job(client: TestClient) -> None:
    dataset_id = uploaded(client)
    job = submit(client, dataset=dataset_id, target="y")
    change = {"kinds": {"zip": "categorical"}}
    assert problem(client.patch(f"/datasets/{dataset_id}", json=change), 409)["code"] == "dataset_has_jobs"
    client.post(f"/jobs/{job['id']}/cancel")
    problem(client.patch(f"/datasets/{dataset_id}", json=change), 409)
    same = {"name": "renamed", "kinds": {"zip": kinds_of(client.get(f"/datasets/{dataset_id}").json())["zip"]}}
    assert client.patch(f"/datasets/{dataset_id}", json=same).json()["name"] == "renamed"
    assert client.delete(f"/jobs/{job['id']}").status_code == 204
    assert client.patch(f"/datasets/{dataset_id}", json=change).status_code == 200


def test_list_leaves_out_what_takes_much_room(client: TestClient) -> None:
    dataset_id = uploaded(client)
    whole = client.get(f"/datasets/{dataset_id}").json()
    listed = next(item for item in client.get("/datasets").json()["items"] if item["id"] == dataset_id)
    assert whole["columns"][1]["histogram"] is not None
    assert sum(whole["columns"][1]["histogram"]["counts"]) == whole["rows"]
    assert whole["columns"][1]["quantiles"]["p50"] == pytest.approx(30, abs=1)
    light: dict[str, Any] = {"histogram": None, "quantiles": None, "top": []}
    assert listed == {**whole, "columns": [{**column, **light} for column in whole["columns"]]}


def test_report_of_the_table_is_shown(client: TestClient) -> None:
    content = b"a,b,when,y\n" + b"".join(b"%d,%d,2024-01-%02d,%d\n" % (i, i, i + 1, i % 2) for i in range(30)) * 2
    answer = client.post("/datasets", content=content, headers={"Content-Type": "text/csv"}).json()
    assert answer["source"]["format"] == "csv"
    assert answer["duplicate_rows"] == 30
    assert {"first": "a", "second": "b", "how": "equal", "strength": 1.0} in answer["related"]
    when = answer["columns"][2]
    assert (when["kind"], when["min"], when["max"]) == ("date", "2024-01-01", "2024-01-30")
    assert when["date_format"]
    builtin = client.get("/datasets/iris").json()
    assert (builtin["source"], builtin["duplicate_rows"], builtin["related"]) == ({}, None, [])


def test_pages_of_rows_join_to_the_table(client: TestClient) -> None:
    dataset_id = uploaded(client)
    pages = list(pages_of(client, f"/datasets/{dataset_id}/rows", 25))
    assert [len(page) for page in pages] == [25, 25, 10]
    assert [item["y"] for page in pages for item in page] == [i * 3 for i in range(60)]


def pages_of(client: TestClient, address: str, size: int) -> Iterator[list[dict[str, Any]]]:
    parameters: dict[str, Any] = {"page_size": size}
    while True:
        page = client.get(address, params=parameters).json()
        yield page["items"]
        if page["next_page_token"] is None:
            return
        parameters["page_token"] = page["next_page_token"]


def test_pages_of_wide_data_sets_are_short(client: TestClient, services: Services) -> None:
    columns = tuple(Column(f"column {i}", "numeric", examples=("x" * 640,) * 10) for i in range(450))
    with services.database.write() as connection:
        for number in range(5):
            datasets.add(connection, NewDataset(f"wide{number}", "wide", False, 1, columns, None))
    pages = [[item["id"] for item in page] for page in pages_of(client, "/datasets", 100)]
    assert pages[:3] == [["wide4", "wide3"], ["wide2", "wide1"], ["wide0", *pages[2][1:]]]
    assert sum(map(len, pages)) == 5 + 8


def test_pages_of_rows_with_long_names_are_short(client: TestClient, services: Services) -> None:
    names = [f"{number} " + "x" * 900 for number in range(400)]
    content = parquet.from_arrays({name: np.arange(100) for name in names})
    columns = tuple(Column(name, "numeric") for name in names)
    with services.database.write() as connection:
        datasets.add(connection, NewDataset("long", "long", False, 100, columns, parquet.encode(content)))
    pages = list(pages_of(client, "/datasets/long/rows", 100))
    assert [len(page) for page in pages] == [45, 45, 10]
    assert [row[names[0]] for page in pages for row in page] == list(range(100))


def test_rows_of_a_data_set_that_is_deleted_meanwhile_are_there_or_unknown(
    client: TestClient, services: Services
) -> None:
    def read(dataset_id: str) -> set[int]:
        seen = set()
        while 404 not in seen:
            seen.add(client.get(f"/datasets/{dataset_id}/rows").status_code)
        return seen

    with ThreadPoolExecutor(3) as pool:
        for number in range(20):
            new = NewDataset(
                f"short{number}", "short", False, 1, (), parquet.encode(parquet.from_arrays({"a": np.ones(1)}))
            )
            with services.database.write() as connection:
                datasets.add(connection, new)
            reading = [pool.submit(read, new.id) for _ in range(3)]
            client.get(f"/datasets/{new.id}/rows")
            assert client.delete(f"/datasets/{new.id}").status_code == 204
            assert set().union(*(seen.result() for seen in reading)) <= {200, 404}
