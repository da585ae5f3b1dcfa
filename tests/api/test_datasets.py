from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.dependencies import Services
from tests.api.support import problem, submit

CSV = b"a,b,y\n" + b"".join(b"%d,%d.5,%d\n" % (i, i % 7, i * 3) for i in range(40))


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
