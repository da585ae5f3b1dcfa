"""The pages of comparisons as they come from the server, and what their scripts read."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.dashboard.comparisons import first_sentence
from service.api.services import Services
from service.storage.database import Database
from service.task_queue import Doorbell
from tests.api import comparing
from tests.api.pages import given, shown, words


@pytest.fixture
def sqlite_client(sqlite_database: Database, broker_url: str) -> Iterator[TestClient]:
    """For what no other database could change."""
    with TestClient(create_app(Services(sqlite_database, Doorbell(broker_url)))) as opened:
        yield opened


@pytest.mark.parametrize(
    "fields",
    [
        {"training": {"epochs": 7, "early_stopping": None}},
        {"preset": "article/boston_housing", "dataset": "diabetes", "training": {"early_stopping": {"patience": 30}}},
    ],
)
def test_what_the_page_says_makes_the_same_comparison_again(sqlite_client: TestClient, fields: dict[str, Any]) -> None:
    comparison = comparing.submit(sqlite_client, **fields)
    short = given(shown(sqlite_client, f"/dashboard/comparisons/{comparison['id']}"))["short"]
    again = sqlite_client.post("/comparisons?validate_only=true", json=short).json()
    assert again["spec"] == comparison["spec"]


def test_empty_list_of_comparisons_teaches(sqlite_client: TestClient) -> None:
    text = words(shown(sqlite_client, "/dashboard/comparisons"))
    assert "Which network is better" in text
    assert "Compare networks" in text


def test_list_of_comparisons_says_what_each_has_come_to(client: TestClient, database: Database) -> None:
    ended = comparing.submit(client, seeds=[0, 1, 2, 3, 4])
    comparing.all_trained(database, ended)
    waiting = comparing.submit(client)
    page = shown(client, "/dashboard/comparisons")
    assert page.index(waiting["id"]) < page.index(ended["id"]), "newest first"
    verdict = comparing.read(client, ended)["verdict"]
    assert first_sentence(verdict) in words(page)
    assert "10 of 10" in words(page)
    assert "0 of 4" in words(page)


def test_first_sentence_ends_at_no_number() -> None:
    assert first_sentence("a is better: 0.5 against 0.4. b is not.") == "a is better: 0.5 against 0.4."
    assert first_sentence("one sentence only.") == "one sentence only."
    assert first_sentence(None) == ""


def test_comparison_is_told_in_words_tables_and_jobs(sqlite_client: TestClient, sqlite_database: Database) -> None:
    made = comparing.submit(sqlite_client, seeds=[0, 1, 2, 3, 4])
    before = words(shown(sqlite_client, f"/dashboard/comparisons/{made['id']}"))
    assert "Nothing yet: no job has begun." in before
    comparing.all_trained(sqlite_database, made)
    found = comparing.read(sqlite_client, made)
    page = shown(sqlite_client, f"/dashboard/comparisons/{made['id']}")
    text = words(page)
    assert "10 of 10 jobs have ended" in text
    assert found["verdict"] in text
    assert "snn is better" in text
    snn = found["result"]["arms"][0]["metrics"]["accuracy"]
    assert f"{snn['mean']:.3g} ± {snn['standard_deviation']:.2g}" in text
    [test] = [one for one in found["result"]["tests"] if one["metric"] == "accuracy"]
    assert f"{test['corrected_p']:.2g}" in text
    assert "Mean ranks" in text
    for job in found["jobs"]:
        assert f'href="/dashboard/jobs/{job["id"]}"' in page


def test_page_of_a_comparison_is_asked_again_and_told_only_what_is_new(client: TestClient, database: Database) -> None:
    made = comparing.submit(client)
    address = f"/dashboard/comparisons/{made['id']}/shown"
    first = client.get(address)
    assert first.json() == given(shown(client, f"/dashboard/comparisons/{made['id']}"))["shown"]
    unchanged = client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    comparing.trained(database, made["jobs"][0]["id"], 0.4, 0.9)
    second = client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert second.status_code == 200
    assert second.json()["state"] == "running"
    assert second.json()["progress"] == {"finished_jobs": 1, "total": 4}


def test_comparison_that_is_running_calls_nobody_better(sqlite_client: TestClient, sqlite_database: Database) -> None:
    made = comparing.submit(sqlite_client, seeds=[0, 1, 2, 3, 4])
    for job in made["jobs"][:-1]:
        comparing.trained(sqlite_database, job["id"], 0.9 if job["arm"] == "snn" else 0.5)
    found = sqlite_client.get(f"/dashboard/comparisons/{made['id']}/shown").json()
    assert found["has_winner"] is False
    tests = next(table for table in found["tables"] if table["id"] == "tests")
    assert [row[-1]["text"] for row in tests["rows"]] == ["not decided yet"]
    assert "so far" in found["verdict"][0]


def test_curves_of_a_comparison_are_by_arm_and_seed(client: TestClient, database: Database) -> None:
    made = comparing.submit(client)
    address = f"/dashboard/comparisons/{made['id']}/curves"
    assert client.get(address).json() == {"metric": None, "metrics": [], "every": 1, "arms": []}
    comparing.trained(database, comparing.ids_of(made, "snn")[1], 0.4, 0.9)
    comparing.failed(database, comparing.ids_of(made, "regular")[0])
    found = client.get(f"{address}?metric=val_accuracy").json()
    assert found["metric"] == "accuracy"
    snn, regular = found["arms"]
    assert (snn["arm"], snn["note"]) == ("snn", "")
    assert snn["runs"] == [{"seed": 1, "epochs": [1, 2], "training": [None, None], "validation": [0.4, 0.9]}]
    assert (regular["arm"], regular["note"]) == ("regular", "failed")
    assert client.get(f"{address}?metric=unheard_of").json()["metric"] == "loss"


def test_depth_sweep_tells_scores_by_depth(sqlite_client: TestClient, sqlite_database: Database) -> None:
    arms = {"snn": {"units": 8}, "regular": {"kind": "mlp", "units": 8}}
    made = comparing.submit(sqlite_client, arms=arms, depths=[1, 3], seeds=[0])
    comparing.trained(sqlite_database, comparing.ids_of(made, "snn-3")[0], 0.4, 0.9)
    assert "in depths 1, 3" in words(shown(sqlite_client, f"/dashboard/comparisons/{made['id']}"))
    found = sqlite_client.get(f"/dashboard/comparisons/{made['id']}/shown").json()
    assert found["depths"][0]["mean"] == {"1": None, "3": 0.9}


def test_form_of_a_comparison_offers_experiments_networks_and_every_field(sqlite_client: TestClient) -> None:
    page = shown(sqlite_client, "/dashboard/comparisons/new?dataset=iris&preset=unheard_of")
    data = given(page)
    assert data["dataset"] == "iris"
    assert data["preset"] == "", "what is no preset is none"
    asked = set(re.findall(r'data-pointer="([^"]+)"', page))
    assert {"/dataset", "/arms", "/seeds", "/depths", "/training/epochs", "/preparation/numeric"} <= asked
    for name, spec in data["presets"].items():
        whole = sqlite_client.post("/comparisons?validate_only=true", json={"preset": name}).json()
        by_fields = sqlite_client.post("/comparisons?validate_only=true", json={"preset": name, **spec}).json()
        assert whole == by_fields, "what the form is filled in with is the preset"
        assert name in page


@pytest.mark.parametrize("word", ["article", "ablations"])
def test_networks_to_tick_are_those_of_the_word(sqlite_client: TestClient, word: str) -> None:
    data = given(shown(sqlite_client, "/dashboard/comparisons/new"))
    arms = {name: {**network, **data["sizes"]} for name, network in data["arms"][word].items()}
    by_word = sqlite_client.post("/comparisons?validate_only=true", json={"dataset": "digits", "arms": word}).json()
    by_name = sqlite_client.post("/comparisons?validate_only=true", json={"dataset": "digits", "arms": arms}).json()
    assert by_word["spec"]["arms"] == by_name["spec"]["arms"]


def test_claims_of_the_article_stand_beside_what_was_measured(
    sqlite_client: TestClient, sqlite_database: Database
) -> None:
    made = sqlite_client.post("/comparisons", json={"preset": "article/boston_housing", "seeds": [0]}).json()
    comparing.trained(sqlite_database, made["jobs"][0]["id"], 0.4, 0.9)
    [claim] = comparing.read(sqlite_client, made)["result"]["claims"]
    page = words(shown(sqlite_client, f"/dashboard/comparisons/{made['id']}"))
    assert "What the article claims" in page
    assert f"{claim['claim']} {claim['detail']} 0.32 \N{EN DASH} nothing measured yet" in page
