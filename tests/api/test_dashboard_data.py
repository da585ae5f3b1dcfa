"""The pages of where one starts, of data sets, of models and of predictions, as the server writes them."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.dashboard import assets
from service.api.dashboard.models import MOST_FIELDS
from service.api.services import Services
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, NumericEncoder
from service.domain.models import NEVER_CHANGED
from service.storage.database import Database
from service.task_queue import Doorbell
from tests import predictions, served
from tests.api.support import submit

HOSTILE = "<img src=x onerror=alert(1)> \"'&amp;</script>"


class Reader(HTMLParser):
    """Reads a page: its tags with their attributes, and its text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag == "script":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.text += data


def read(client: TestClient, path: str, status: int = 200) -> Reader:
    """Ask for a page, check what every page must have, and read it."""
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    found = Reader()
    found.feed(answer.text)
    assert [tag for tag, _ in found.tags if tag == "h1"] == ["h1"]
    assert [tag for tag, attributes in found.tags if {"style", "onclick", "onerror"} & attributes.keys()] == []
    found.text = re.sub(r"\s+", " ", found.text)
    return found


def values(page: Reader, tag: str, attribute: str) -> list[str]:
    return [value for found, attributes in page.tags if found == tag and (value := attributes.get(attribute))]


def upload(client: TestClient, content: str, name: str) -> str:
    answer = client.post("/datasets", params={"name": name}, content=content, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


def test_service_without_jobs_teaches_how_to_begin(client: TestClient) -> None:
    page = read(client, "/")
    assert all(step in page.text for step in ("Bring a table", "Press train", "Look, and predict"))
    assert values(page, "button", "data-train") == ["iris", "wine", "breast_cancer", "digits", "diabetes"]
    assert "file" in values(page, "input", "type")


def test_service_with_jobs_shows_what_there_is(client: TestClient, database: Database) -> None:
    job = submit(client, model="flowers")
    served.register(database, served.named(served.classifier("m"), "asked"))
    page = read(client, "/")
    assert "Bring a table" not in page.text
    links = values(page, "a", "href")
    assert {f"/dashboard/jobs/{job['id']}", "/dashboard/models/asked/predict", "/dashboard/datasets/iris"} <= {*links}
    assert "flowers" in page.text
    assert "queued" in page.text


def test_list_of_data_sets_has_pages(client: TestClient) -> None:
    first = read(client, "/dashboard/datasets?page_size=3")
    assert first.text.count("built in") == 3
    assert "60,000" not in first.text
    older = values(first, "a", "rel").index("next")
    assert older == 0
    address = next(attributes["href"] for tag, attributes in first.tags if tag == "a" and attributes.get("rel"))
    assert address is not None
    second = read(client, f"{address}&page_size=100")
    names = values(first, "a", "aria-label") + values(second, "a", "aria-label")
    assert names == [f"Train on {item['name']}" for item in client.get("/datasets?page_size=100").json()["items"]]


def test_page_token_of_nothing_is_an_error_page(client: TestClient) -> None:
    assert "page_token" in read(client, "/dashboard/datasets?page_token=nonsense", 400).text


def test_data_set_is_described(client: TestClient) -> None:
    rows = "".join(f"{i},{i % 7 or ''},{'ab'[i % 2]},2020-01-{i % 28 + 1:02d},{i * 1.5}\n" for i in range(1, 40))
    page = read(client, f"/dashboard/datasets/{upload(client, f'id,n,c,d,price{chr(10)}{rows}', 'shop')}")
    assert "CSV, cells separated by commas, UTF-8" in page.text
    assert "its numbers look like an identifier" in page.text
    assert "5 13 %" in page.text  # gaps of n
    assert "2020-01-01 2020-01-28" in page.text
    assert "a 19" in page.text
    assert "How the cells of price lie between 1.5 and 58.5" in values(page, "svg", "aria-label")
    selects = [attributes for tag, attributes in page.tags if tag == "select" and attributes.get("class") == "kind"]
    assert [attributes["aria-label"] for attributes in selects] == [
        f"Kind of {n}" for n in ("id", "n", "c", "d", "price")
    ]


def test_columns_that_leak_are_named(client: TestClient) -> None:
    rows = "".join(f"{i},{2 * i},{i % 3}\n" for i in range(30))
    page = read(client, f"/dashboard/datasets/{upload(client, f'a,b,c{chr(10)}{rows}', 'leak')}")
    assert "Columns that say nearly the same" in page.text
    assert "a and b: correlation 1" in page.text


def test_built_in_table_cannot_be_changed(client: TestClient) -> None:
    page = read(client, "/dashboard/datasets/iris")
    assert {"rename", "delete"}.isdisjoint(values(page, "button", "id"))
    assert "kind" not in values(page, "select", "class")
    assert "/dashboard/jobs/new?dataset=iris&target=target" in values(page, "a", "href")


def test_of_very_many_columns_some_are_shown_and_all_are_found(client: TestClient) -> None:
    page = read(client, "/dashboard/datasets/cifar10")
    assert len(values(page, "tr", "data-name")) == 200
    assert "The first 200 of 3,073 columns" in page.text
    found = read(client, "/dashboard/datasets/cifar10?find=PIXEL_307")
    assert values(found, "tr", "data-name") == ["pixel_307", "pixel_3070", "pixel_3071"]
    assert "3 of 3,073 columns" in found.text
    assert "No column has this in its name" in read(client, "/dashboard/datasets/cifar10?find=zebra").text


def test_warnings_of_very_many_columns_are_counted(client: TestClient) -> None:
    names = ",".join(f"c{i}" for i in range(205))
    rows = "\n".join(",".join([str(i)] * 205) for i in range(1, 40))  # which look like identifiers
    made = upload(client, f"{names}\n{rows}\n", "wide")
    assert "and of 5 more columns" in read(client, f"/dashboard/datasets/{made}").text


def test_addresses_without_a_page_lead_to_the_start(client: TestClient) -> None:
    for path in ("/dashboard", "/dashboard/"):
        answer = client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "/")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/dashboard/jobs", 200), ("/dashboard/datasets/iris", 200), ("/dashboard/no", 404)],
)
def test_page_answers_head(client: TestClient, path: str, status: int) -> None:
    answer = client.head(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_script_of_another_version_is_sent_but_not_kept(client: TestClient) -> None:
    own = client.get(assets.address("dom.js"))
    other = client.get("/dashboard/static/0123456789abcdef/dom.js")
    assert "immutable" in own.headers["cache-control"]
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-store")
    assert other.content == own.content
    assert client.get("/dashboard/static/0123456789abcdef/nothing.js").status_code == 404


def test_hostile_names_stay_text(client: TestClient) -> None:
    quoted = HOSTILE.replace('"', '""')
    rows = "".join(f'{i % 5},"{quoted}{i % 2}"\n' for i in range(30))
    made = upload(client, f'"{quoted}",b\n{rows}', HOSTILE)
    for path in (
        "/",
        "/dashboard/datasets",
        f"/dashboard/datasets/{made}",
        f"/dashboard/datasets/{made}?find={HOSTILE}",
    ):
        page = read(client, path)
        assert "img" not in [tag for tag, _ in page.tags]
        assert HOSTILE in page.text
    answer = client.get(f"/dashboard/datasets/{made}").text
    assert unescape(answer).count("</script>") > answer.count("</script>")
    assert answer.count("</script>") == answer.count("<script")


@pytest.mark.parametrize("path", ["/dashboard/datasets/no", "/dashboard/models/no", "/dashboard/models/no/predict"])
def test_what_there_is_not_is_a_page_that_says_so(client: TestClient, path: str) -> None:
    page = read(client, path, 404)
    assert "Not Found" in page.text
    assert "/" in values(page, "a", "href")


def test_database_that_is_down_is_a_page_that_says_so(broker_url: str) -> None:
    down = Database("postgresql://nobody@127.0.0.1:1/none")
    with TestClient(create_app(Services(down, Doorbell(broker_url))), raise_server_exceptions=False) as client:
        for path in ("/", "/dashboard/datasets", "/dashboard/models", "/dashboard/models/m/predict"):
            assert "the database does not answer" in read(client, path, 503).text


def test_list_of_models_says_which_version_answers(client: TestClient, database: Database) -> None:
    assert "No model yet" in read(client, "/dashboard/models").text
    for _ in range(2):
        predictions.register(database, "shop")
    client.put("/models/shop/aliases/production", json={"version": 1})
    page = read(client, "/dashboard/models")
    assert "shop y regression version 1 production test R² 0.9 2" in page.text


def test_model_shows_versions_aliases_and_what_is_known(client: TestClient, database: Database) -> None:
    for _ in range(3):
        predictions.register(database, "shop")
    for version in (1, 2):
        client.put("/models/shop/aliases/production", json={"version": version})
    client.post("/models/shop/aliases/production/rollback")
    page = read(client, "/dashboard/models/shop")
    assert values(page, "button", "data-delete-version") == ["3", "2", "1"]
    assert values(page, "button", "data-roll-back") == ["production"]
    assert "rolled back to version 1 from version 2" in page.text
    assert "Version 1" in page.text
    assert "# shop, version 1" in page.text
    assert "/models/shop/versions/1/files/model.onnx" in values(page, "a", "href")
    assert "Version 3" in read(client, "/dashboard/models/shop?version=3").text
    assert values(read(client, "/dashboard/models/shop?before=3"), "button", "data-delete-version") == ["2", "1"]
    read(client, "/dashboard/models/shop?version=4", 404)


def test_model_without_versions_says_so(client: TestClient, database: Database) -> None:
    predictions.register(database, "shop")
    client.delete("/models/shop/versions/1")
    assert "Every version has been deleted" in read(client, "/dashboard/models").text
    assert "Every version of this model has been deleted" in read(client, "/dashboard/models/shop").text
    assert "has been deleted" in read(client, "/dashboard/models/shop/predict", 404).text


def test_rows_that_drift_are_said_on_the_page_of_the_model(client: TestClient, database: Database) -> None:
    served.register(database, served.numbers("shop"))
    answer = client.post("/predict", json={"model": "shop", "instances": [[5.0 + i % 2, 60.0] for i in range(200)]})
    assert answer.status_code == 200
    page = read(client, "/dashboard/models/shop")
    assert "What it is asked lately" in page.text
    assert "200 rows: c1 200" in page.text


def test_form_has_a_field_for_every_column(client: TestClient, database: Database) -> None:
    encoders = (
        NumericEncoder("size"),
        NumericEncoder("rooms", gaps=True),
        CategoricalEncoder("city", ("Bern", "Basel"), gaps=True, rare=(HOSTILE,)),
        CategoricalEncoder("floor", (1, 2.5), holds="number"),
        BooleanEncoder("flat"),
        DateEncoder("since", "%d.%m.%Y", has_time=False),
    )
    predictions.register(database, "house", encoders=encoders)
    page = read(client, "/dashboard/models/house/predict")
    fields = [attributes for _, attributes in page.tags if "data-place" in attributes]
    assert [attributes.get("type") for attributes in fields] == ["number", "number", None, None, None, "date"]
    assert ["required" in attributes for attributes in fields] == [True, False, False, False, False, True]
    options = values(page, "option", "value")
    assert options[options.index('"Bern"') :][:2] == ['"Bern"', '"Basel"']
    assert {"1", "2.5", "true", "false"} <= {*options}
    assert HOSTILE in page.text
    assert "mean 0 ± 1; may stay empty" in page.text


def test_form_begins_with_cells_of_the_table(client: TestClient, database: Database) -> None:
    table = {"a": [4.5, 2.0], "b": [7.25, 8.0], "y": [1.0, 0.0]}
    predictions.store_table(database, {name: pa.array(cells) for name, cells in table.items()}, "iris2")
    predictions.register(database, "m")
    answer = client.get("/dashboard/models/m/predict").text
    assert '"row": {"a": 0.0, "b": 0.0}' in answer
    new = served.numbers("n")
    named = served.version("n", predictions.SUM, new.onnx, spec={"dataset": "iris2"})
    served.register(database, named)
    answer = client.get("/dashboard/models/n/predict").text
    assert '"row": {"a": 4.5, "b": 7.25}' in answer
    assert "2 to 4.5; mean 0 ± 1" in answer


def test_column_that_never_changed_is_said_so(client: TestClient, database: Database) -> None:
    new = served.numbers("m", 1)
    served.register(database, replace(new, inputs=replace(new.inputs, mean=(3.0,), scale=(NEVER_CHANGED,))))
    assert "always 3" in read(client, "/dashboard/models/m/predict").text


def test_version_and_alias_are_chosen_by_the_address(client: TestClient, database: Database) -> None:
    for _ in range(2):
        predictions.register(database, "shop")
    client.put("/models/shop/aliases/old", json={"version": 1})

    def asked(query: str) -> Any:
        return re.search(
            r'"version": (\d+), "named": ({.*?})', client.get(f"/dashboard/models/shop/predict{query}").text
        )

    assert asked("").groups() == ("2", "{}")
    assert asked("?alias=old").groups() == ("1", '{"alias": "old"}')
    assert asked("?version=1").groups() == ("1", '{"version": 1}')
    assert "has no alias" in read(client, "/dashboard/models/shop/predict?alias=none", 404).text
    read(client, "/dashboard/models/shop/predict?version=9", 404)


def test_of_very_many_columns_the_form_has_some_and_a_box_for_all(client: TestClient, database: Database) -> None:
    served.register(database, served.numbers("pictures", 300))
    page = read(client, "/dashboard/models/pictures/predict")
    assert len([1 for _, attributes in page.tags if "data-place" in attributes]) == MOST_FIELDS
    assert "whole" in values(page, "textarea", "id")
    assert "The first 50 of 300 columns" in page.text
    assert "The first 200 of 300" in read(client, "/dashboard/models/pictures").text


def test_many_categories_are_typed(client: TestClient, database: Database) -> None:
    encoders = (CategoricalEncoder("city", tuple(f"city {i}" for i in range(500))),)
    predictions.register(database, "m", encoders=encoders)
    page = read(client, "/dashboard/models/m/predict")
    assert "one of 500 that training saw" in page.text
    assert len(values(page, "option", "value")) < 250
