"""Names are whatever people write: none of them runs, and each is shown as it is."""

import csv
import io
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Faults
from tests.browser.hostile import NAMES
from tests.processes import Service

TELL = """async (names) => {
  const field = (pointer) => document.querySelector(`[data-pointer="${pointer}"]`);
  const problem = (pointer) => document.querySelector(`[data-problem-of="${pointer}"]`).textContent;
  const submit = document.getElementById("submit");
  const told = [];
  for (const name of names) {
    field("/model").value = field("/tags").value = name;
    submit.click();
    while (submit.disabled) await new Promise((resolve) => setTimeout(resolve, 2));
    told.push({ model: problem("/model"), tags: problem("/tags") });
  }
  return told;
}"""
"""Sends the form with each name as model and as tags, and returns what stands at the two fields then."""


@pytest.fixture(scope="module")
def dataset(service: Service) -> str:
    """A table whose columns and classes have hostile names."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([*NAMES, "answer"])
    for row in range(24):
        table.writerow([(row * 7 + place * 3) % 11 for place in range(len(NAMES))] + [NAMES[row % 3]])
    return service.upload(NAMES[0], text.getvalue())


@pytest.fixture(scope="module")
def job(service: Service, dataset: str) -> str:
    spec = {
        "dataset": dataset,
        "target": "answer",
        "model": "hostile",
        "network": {"kind": "snn", "hidden_layers": 2, "units": 16},
    }
    made = service.post("/jobs", **spec, training={"epochs": 2, "validation_fraction": 0.25})
    assert service.wait_for(made["id"])["state"] == "succeeded"
    return str(made["id"])


def assert_harmless(page: Page) -> None:
    assert page.evaluate("window.ran ?? null") is None
    assert page.evaluate("window.violations") == []


def test_data_set_of_any_name_is_shown_by_it(visit: Callable[[str], Page], service: Service, dataset: str) -> None:
    for name in NAMES:
        assert service.client.patch(f"/datasets/{dataset}", json={"name": name}).status_code == 200
        page = visit(f"/dashboard/datasets/{dataset}")
        assert page.locator("h1").text_content() == name
        assert_harmless(page)
    expect(visit("/dashboard/datasets").get_by_role("link", name=NAMES[-1], exact=True)).to_be_visible()


def test_columns_of_any_name_are_shown_by_it(visit: Callable[[str], Page], dataset: str) -> None:
    page = visit(f"/dashboard/datasets/{dataset}")
    shown = page.locator("#columns").inner_text()
    for name in NAMES:
        assert " ".join(name.split()) in " ".join(shown.split()), name
    page.locator("#rows").scroll_into_view_if_needed()
    expect(page.locator("#rows table")).to_be_visible()
    assert_harmless(page)


def test_pages_of_a_job_on_them_run_nothing(visit: Callable[[str], Page], dataset: str, job: str) -> None:
    for path in (
        "/",
        "/dashboard/jobs",
        f"/dashboard/jobs/{job}",
        "/dashboard/models/hostile",
        f"/dashboard/jobs/new?job={job}",
    ):
        page = visit(path)
        page.wait_for_load_state("networkidle") if not path.endswith("jobs") else page.wait_for_timeout(500)
        assert_harmless(page)


def test_prediction_names_any_column_and_class(visit: Callable[[str], Page], job: str) -> None:
    page = visit("/dashboard/models/hostile/predict")
    page.get_by_role("button", name="Predict", exact=True).click()
    for name in NAMES[:3]:
        expect(page.locator("#answer")).to_contain_text(name)
    page.get_by_role("button", name="Why?").click()
    expect(page.locator("#why-answer")).not_to_be_empty()
    assert_harmless(page)


def test_what_is_not_there_is_named_and_runs_nothing(visit: Callable[[str], Page], page_faults: Faults) -> None:
    for place, name in enumerate(NAMES):
        kind = ("models", "jobs", "datasets", "comparisons")[place % 4]
        page = visit(f"/dashboard/{kind}/{quote(name, safe='')}")
        expect(page.locator("h1")).to_be_visible()
        assert_harmless(page)
    page_faults.forget("404")


def test_name_that_a_model_cannot_have_is_refused_in_words(
    visit: Callable[[str], Page], service: Service, page_faults: Faults
) -> None:
    page = visit("/dashboard/jobs/new?dataset=iris")
    page.get_by_label("Epochs", exact=True).fill("many")  # some of the names are fine: no job is to be made of them
    for name, told in zip(NAMES, page.evaluate(TELL, NAMES), strict=True):
        spec = {"dataset": "iris", "model": name, "tags": re.findall(r"[^\s,]+", name), "training": {"epochs": "many"}}
        refused = service.client.post("/jobs", json=spec).json()["errors"]
        for field, text in told.items():
            assert text == "; ".join(one["detail"] for one in refused if one["pointer"].startswith(f"#/{field}")), name
    assert_harmless(page)
    page_faults.forget("422")
