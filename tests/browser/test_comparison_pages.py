"""Comparisons in a browser: the form that says what it will cost, the result as it comes, the list that follows."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.axe import grave_violations
from tests.browser.conftest import Faults
from tests.browser.pictures import keep, overflow
from tests.processes import Service

Visit = Callable[[str], Page]

SMALL = {
    "snn": {"kind": "snn", "hidden_layers": 2, "units": 16, "dropout": 0},
    "regular": {"kind": "mlp", "hidden_layers": 2, "units": 16, "dropout": 0},
}
TRAINING = {"epochs": 6, "early_stopping": None, "test_fraction": 0.2}


def compared(service: Service, **fields: Any) -> str:
    spec = {"dataset": "iris", "arms": SMALL, "seeds": [0, 1], "training": TRAINING, **fields}
    return str(service.post("/comparisons", **spec)["id"])


def ended(service: Service, comparison: str) -> dict[str, Any]:
    for _ in range(10):
        found: dict[str, Any] = service.client.get(f"/comparisons/{comparison}?wait=30").json()
        if found["state"] in ("succeeded", "failed", "cancelled"):
            return found
    raise AssertionError(found)


@pytest.fixture(scope="module")
def sweep(service: Service) -> dict[str, Any]:
    """A depth sweep that has ended."""
    arms = {
        name: {field: value for field, value in arm.items() if field != "hidden_layers"} for name, arm in SMALL.items()
    }
    return ended(service, compared(service, arms=arms, depths=[1, 2], model="sweep", tags=["deeper"]))


def field(page: Page, pointer: str) -> Locator:
    return page.locator(f'[data-pointer="{pointer}"]')


def sent(page: Page) -> dict[str, Any]:
    """The spec that the curl line holds."""
    body: dict[str, Any] = json.loads(page.locator("#same pre").first.inner_text().partition("-d '")[2].rstrip("'"))
    return body


def test_comparison_is_asked_for_watched_and_deleted(visit: Visit, service: Service, page_faults: Faults) -> None:
    page = visit("/dashboard/comparisons/new?dataset=iris")
    expect(page.locator("#summary")).to_contain_text("20")
    expect(page.locator("#arms-completed li")).to_have_count(4)
    for name in ("relu_he", "relu_he_batchnorm"):
        page.get_by_role("checkbox", name=name, exact=True).uncheck()
    field(page, "/hidden_layers").fill("2")
    field(page, "/units").fill("16")
    page.get_by_role("button", name="Add an arm of your own").click()
    page.get_by_label("Name of arm 1").fill("mine")
    page.get_by_label("Network of arm 1 as JSON").fill("{nonsense")
    expect(page.locator(".own-arm .problem")).to_contain_text("This is no JSON object")
    field(page, "/seeds").fill("1, x")
    expect(field(page, "/seeds")).to_have_attribute("aria-invalid", "true")
    expect(page.locator('[data-problem-of="/seeds"]')).to_contain_text("'x'")
    page_faults.forget("422")
    page.get_by_label("Network of arm 1 as JSON").fill(
        '{"kind": "mlp", "hidden_layers": 1, "units": 8, "activation": "tanh"}'
    )
    field(page, "/seeds").fill("3, 4")
    field(page, "/training/epochs").fill("5")
    field(page, "/training/test_fraction").fill("0.2")
    expect(page.locator("#summary .value").first).to_have_text("6")
    expect(page.locator("#arms-completed li")).to_have_count(3)
    expect(page.locator("#arms-completed")).to_contain_text("MLP, 1 \N{MULTIPLICATION SIGN} 8, tanh")
    asked = sent(page)
    assert asked["seeds"] == [3, 4]
    assert list(asked["arms"]) == ["snn", "regular", "mine"]
    assert asked["arms"]["snn"] == {"kind": "snn", "hidden_layers": 2, "units": 16, "dropout": 0}
    assert grave_violations(page) == []
    page.evaluate("scrollTo(0, 0)")
    keep(page, "comparison-new")
    page_faults.forget("422")

    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url(re.compile("/dashboard/comparisons/[0-9a-f]+$"))
    made = page.url.rpartition("/")[2]
    page.evaluate("window.loadedOnce = true")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#verdict")).to_contain_text("still waited for")
    expect(page.locator("#state")).to_have_text("succeeded")
    assert page.evaluate("window.loadedOnce") is True
    expect(page.locator("#live")).to_be_hidden()
    found = ended(service, made)
    for name in asked["arms"]:
        assert found["spec"]["arms"][name]["units"] == asked["arms"][name]["units"]
    for sentence in re.split(r"(?<=\.) ", found["verdict"]):
        expect(page.locator("#verdict")).to_contain_text(sentence)
    expect(page.locator("#curves path.line")).to_have_count(3)
    expect(page.locator("#jobs a.state-succeeded")).to_have_count(6)

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the comparison").click()
    page.wait_for_url("**/dashboard/comparisons")
    assert service.client.get(f"/comparisons/{made}").status_code == 404


def test_columns_are_ticked_and_a_word_stands_for_networks(visit: Visit) -> None:
    page = visit("/dashboard/comparisons/new?dataset=iris")
    columns = field(page, "/features").get_by_role("checkbox")
    expect(columns).to_have_count(4)
    names = [box.get_attribute("data-column") for box in columns.all()]
    assert all(box.is_checked() for box in columns.all())
    columns.first.uncheck()
    expect(page.locator("#same pre").first).to_contain_text('"features"')
    assert sent(page)["features"] == names[1:]
    network = page.get_by_role("checkbox", name="relu_he", exact=True)
    network.uncheck()
    network.check()
    expect(page.locator("#same pre").first).to_contain_text('"arms": "article"')
    page.get_by_role("tab", name="curl").press("ArrowLeft")
    expect(page.locator("#same pre:visible")).to_contain_text("--set arms=article")
    expect(page.locator("#same pre:visible")).not_to_contain_text("--arm ")


def test_article_experiment_fills_the_form_in(visit: Visit, page_faults: Faults) -> None:
    page = visit("/dashboard/comparisons/new")
    expect(page.locator("#summary")).to_contain_text("Choose a data set")
    boston = page.get_by_role("button", name="Boston housing")
    boston.click()
    expect(boston).to_have_attribute("aria-pressed", "true")
    expect(field(page, "/training/learning_rate")).to_have_value("0.0007")
    expect(page.locator("#summary .value").first).to_have_text("20")
    assert sent(page) == {"preset": "article/boston_housing"}
    field(page, "/training/epochs").fill("9")
    expect(page.locator("#same pre").first).to_contain_text('"epochs": 9')
    assert sent(page) == {"preset": "article/boston_housing", "training": {"epochs": 9}}
    page.get_by_role("button", name="Begin anew").click()
    expect(field(page, "/training/epochs")).to_have_value("")
    expect(boston).to_have_attribute("aria-pressed", "false")


def test_result_is_drawn_and_told(visit: Visit, sweep: dict[str, Any]) -> None:
    page = visit(f"/dashboard/comparisons/{sweep['id']}")
    expect(page.locator("#curves path.line")).to_have_count(4)
    expect(page.locator("#curves path.band")).to_have_count(4)
    page.get_by_label("Training rows, too").check()
    expect(page.locator("#curves path.line")).to_have_count(8)
    page.get_by_label("Every seed").check()
    expect(page.locator("#curves path.line")).to_have_count(16)
    expect(page.locator("#curves .legend li")).to_have_count(8)
    page.get_by_label("Metric", exact=True).select_option("loss")
    expect(page.locator("#curves-words")).to_contain_text("loss on the validation rows")
    expect(page.locator("#depth-chart circle")).to_have_count(8)
    expect(page.locator("#depth-words li")).to_have_count(2)
    snn = sweep["result"]["arms"][0]["metrics"]["accuracy"]
    row = page.locator("section", has_text="On the test part").locator("tr", has_text="snn-1")
    expect(row).to_contain_text(f"{snn['mean']:.3g}")
    page.locator("summary", has_text="tests").click()
    expect(page.locator("section", has_text="On the other metrics").locator("tbody tr").first).to_be_visible()
    assert grave_violations(page) == []
    page.evaluate("scrollTo(0, 0)")
    keep(page, "comparison")
    page.set_viewport_size({"width": 380, "height": 800})
    page.wait_for_timeout(300)
    assert overflow(page) == 0


def test_list_follows_what_runs(visit: Visit, service: Service, sweep: dict[str, Any]) -> None:
    running = compared(service, model="listed", training={**TRAINING, "epochs": 20})
    page = visit("/dashboard/comparisons")
    page.evaluate("window.loadedOnce = true")
    row = page.locator(f'tr[data-comparison="{running}"]')
    expect(row.locator("[data-part=state]")).to_have_text("succeeded")
    expect(row.locator("[data-part=count]")).to_have_text("4 of 4")
    expect(row.locator("[data-part=verdict]")).to_contain_text("snn")
    expect(page.locator("#live")).to_be_hidden()
    assert page.evaluate("window.loadedOnce") is True
    assert grave_violations(page) == []
    keep(page, "comparisons")
    page.locator(f'tr[data-comparison="{sweep["id"]}"] a').click()
    expect(page.locator("h1")).to_have_text("Comparison on iris")


def test_running_comparison_is_cancelled(visit: Visit, service: Service) -> None:
    endless = compared(service, dataset="digits", training={"epochs": 5000, "early_stopping": None}, model="stopped")
    page = visit(f"/dashboard/comparisons/{endless}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the jobs").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Delete")).to_be_visible()


def test_comparison_tells_all_without_scripts(browser: Browser, service: Service, sweep: dict[str, Any]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{str(service.client.base_url).rstrip('/')}/dashboard/comparisons/{sweep['id']}")
    for sentence in re.split(r"(?<=\.) ", sweep["verdict"]):
        expect(page.locator("#verdict")).to_contain_text(sentence)
    expect(page.locator("#tables table").first).to_be_visible()
    picture = page.get_by_role("img", name="Learning curves of all arms")
    assert picture.evaluate("(image) => image.complete && image.naturalWidth > 0")
    context.close()
