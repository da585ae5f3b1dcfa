"""The page of a job: what moves while it trains, what can be read off, and what can be done with it."""

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.axe import grave_violations
from tests.browser.conftest import Faults
from tests.browser.pictures import keep, overflow
from tests.processes import Service

Visit = Callable[[str], Page]

OVERFLOW = "(part) => part.scrollWidth - part.clientWidth"

QUICK = {"kind": "snn", "hidden_layers": 3, "units": 16}
ENDLESS = {
    "dataset": "digits",
    "network": QUICK,
    "training": {"epochs": 30_000, "early_stopping": None},
    "model": "endless",
    "tags": ["watched"],
}


@pytest.fixture(scope="module")
def finished(service: Service) -> str:
    """A small job that has succeeded."""
    training = {"epochs": 12, "early_stopping": None, "test_fraction": 0.2}
    job = service.post("/jobs", dataset="iris", network=QUICK, training=training, model="small")
    assert service.wait_for(job["id"])["state"] == "succeeded"
    return str(job["id"])


def line(page: Page, host: str = "#curves") -> Locator:
    return page.locator(f"{host} path.line").first


def choose(page: Page, slider: str, value: int) -> None:
    """Move a slider, as somebody does who drags it."""
    page.locator(slider).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def test_everything_moves_while_it_trains_and_it_obeys(visit: Visit, page: Page, service: Service) -> None:
    job = service.post("/jobs", **ENDLESS)["id"]
    with page.expect_request(lambda request: "/dashboard/live/jobs/" in request.url) as stream:
        visit(f"/dashboard/jobs/{job}")
    known = json.loads(page.locator("#given").text_content() or "")["last_event"]
    assert stream.value.url.endswith(f"?after={known}"), "what the page has is not sent again"
    page.evaluate("window.loadedOnce = true")
    expect(page.locator("#live")).to_have_text("live")
    expect(line(page)).to_have_attribute("d", re.compile("L.*L"))
    before = line(page).get_attribute("d")
    expect(line(page)).not_to_have_attribute("d", str(before))
    expect(page.locator("#verdict-title")).not_to_contain_text("nobody")
    assert page.locator("#verdict").bounding_box()["y"] < 500  # type: ignore[index]  # impossible to miss

    expect(page.locator("#panel-epochs path.line")).to_have_count(6)
    expect(page.locator("#panel-epochs rect.box")).to_have_count(2)
    seen = page.locator("#look-said").inner_text()
    expect(page.locator("#look-said")).not_to_have_text(seen)
    page.get_by_role("tab", name="Weights").click()
    expect(page.locator("#panel-weights path.ridge").first).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    keep(page, "job-running")

    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#state")).to_have_text("running")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Leave it").click()
    expect(page.locator("#state")).to_have_text("running")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    expect(page.locator("#live")).to_be_hidden()
    log = page.locator("#log li strong").all_inner_texts()
    told = ["cancelled", "cancel requested", "started", "resumed", "paused", "pause requested", "started", "submitted"]
    assert [event for event in log if event not in ("epoch", "self normalization lost")] == told

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the job").click()
    page.wait_for_url("**/dashboard/jobs")
    assert service.client.get(f"/jobs/{job}").status_code == 404


def test_end_comes_without_loading_the_page_again(visit: Visit, service: Service) -> None:
    training = {"epochs": 40, "early_stopping": None, "test_fraction": 0.2}
    job = service.post("/jobs", dataset="iris", network=QUICK, training=training, model="ends")["id"]
    page = visit(f"/dashboard/jobs/{job}")
    page.evaluate("window.loadedOnce = true")
    expect(page.locator("#end")).to_contain_text("It is version 1 of the model ends")
    assert page.evaluate("window.loadedOnce") is True
    expect(page.get_by_role("link", name="Predict with it")).to_have_attribute(
        "href", "/dashboard/models/ends/predict?version=1"
    )
    expect(page.locator("#progress-text")).to_contain_text("epoch 40 of 40")
    test = service.client.get(f"/jobs/{job}").json()["metrics"]["test"]
    row = page.locator("#metrics tr", has_text="accuracy").first
    expect(row.locator("td").last).to_have_text(f"{test['accuracy']:.4g}")
    expect(page.locator("#log li").first).to_contain_text("succeeded")
    expect(page.locator("#log time").first).to_have_text(re.compile(r"\d:\d\d:\d\d"))
    expect(page.locator("#log time").last).to_have_text(re.compile(r"\d:\d\d:\d\d"))
    expect(line(page)).to_have_attribute("d", re.compile(r"^M[^ML]*(L[^ML]*){39}$"))


def test_values_are_read_off_by_pointer_and_by_keys(visit: Visit, finished: str, service: Service) -> None:
    page = visit(f"/dashboard/jobs/{finished}")
    epochs = service.client.get(f"/jobs/{finished}/metrics").json()["items"]
    page.get_by_label("Metric", exact=True).select_option("accuracy")
    chart = page.locator("#curves svg")
    expect(chart).to_contain_text("accuracy")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    said = page.locator("#curves [role=status]")
    expect(said).to_have_text(
        f"epoch 11: training {epochs[10]['accuracy']:.4g}, validation {epochs[10]['val_accuracy']:.4g}"
    )
    page.keyboard.press("Escape")
    expect(said).to_have_text("")
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 100)
    expect(page.locator("#curves text.where")).to_have_text("epoch 12")
    page.get_by_label("Logarithmic").check()
    expect(page.locator("#curves .axis .tick text").last).to_be_visible()


def test_layers_are_chosen_by_sliders_clicks_and_tabs(visit: Visit, finished: str, service: Service) -> None:
    page = visit(f"/dashboard/jobs/{finished}")
    items = service.client.get(f"/jobs/{finished}/diagnostics").json()["items"]
    expect(page.locator("#layers")).to_be_visible()
    choose(page, "#layer", 2)
    choose(page, "#look", 0)
    variance = items[0]["layers"][1]["variance"]
    expect(page.locator("#layer-words")).to_contain_text("Layer 2 after epoch 0, untrained: mean")
    expect(page.locator("#layer-words")).to_contain_text(f"variance {variance:.4g}")
    page.get_by_role("tab", name="By epoch").press("ArrowRight")
    expect(page.get_by_role("tab", name="By layer")).to_be_focused()
    expect(page.locator("#panel-layers path.line")).to_have_count(2 + 2 + 1)
    choose(page, "#look", len(items) - 1)
    expect(page.locator("#look-said")).to_have_text("12, the latest")
    expect(page.locator("#panel-layers path.line")).to_have_count(3 + 3 + 2)
    page.get_by_role("tab", name="Gradients").click()
    expect(page.locator("#panel-gradients path.line").first).to_be_visible()
    for name in ("weights", "activations"):
        page.get_by_role("tab", name=name.capitalize()).click()
        expect(page.locator(f"#panel-{name} path.ridge")).to_have_count(len(items))
        expect(page.locator(f"#panel-{name} p").first).to_contain_text("Layer 2, epoch 12: mean about")
    page.locator("#panel-activations path.ridge").first.click(force=True)
    expect(page.locator("#look-said")).not_to_have_text("12, the latest")


def test_page_is_accessible_and_fits_every_width(visit: Visit, finished: str) -> None:
    page = visit(f"/dashboard/jobs/{finished}")
    expect(line(page)).to_be_visible()
    for name in ("By epoch", "By layer", "Gradients", "Weights"):
        page.get_by_role("tab", name=name).click()
        expect(page.locator("[role=tabpanel]:visible svg").first).to_be_visible()
        assert grave_violations(page) == []
    page.get_by_role("tab", name="By epoch").click()
    page.evaluate("scrollTo(0, 0)")
    assert page.locator("#metrics .table-wrap").evaluate(OVERFLOW) == 0, "a column is out of sight on a laptop"
    keep(page, "job")
    page.set_viewport_size({"width": 380, "height": 800})
    page.wait_for_timeout(300)
    assert overflow(page) == 0


def test_spec_is_copied_and_the_lines_make_the_job_again(visit: Visit, finished: str, service: Service) -> None:
    page = visit(f"/dashboard/jobs/{finished}")
    block = page.locator("figure", has_text="The completed spec")
    block.get_by_role("button", name="Copy").click()
    expect(block.get_by_role("button")).to_have_text("Copied")
    spec = service.client.get(f"/jobs/{finished}").json()["spec"]
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == spec
    curl = page.locator("#again pre").first.inner_text()
    body = json.loads(curl.partition("-d '")[2].rstrip("'"))
    assert service.post("/jobs?validate_only=true", **body)["spec"] == spec


def test_failure_is_explained_and_tried_again(visit: Visit, service: Service, page_faults: Faults) -> None:
    training = {"optimizer": "sgd", "learning_rate": 10, "epochs": 20}
    network = {"kind": "mlp", "units": 64, "standardize": False}
    job = service.post("/jobs", dataset="diabetes", network=network, training=training, model="diverges")["id"]
    assert service.wait_for(job)["error"]["code"] == "training_diverged"
    page = visit(f"/dashboard/jobs/{job}")
    expect(page.locator("#end")).to_contain_text("It failed: training diverged.")
    expect(page.locator("#end")).to_contain_text("The learning rate 10 is probably too high")
    expect(page.locator("#verdict")).not_to_have_class(re.compile("pass"))
    expect(page.locator("#curves-empty")).to_have_text("It failed before its first epoch ended.")
    assert grave_violations(page) == []
    keep(page, "job-failed")
    page.get_by_role("button", name="Try again").evaluate("(button) => setInterval(() => button.click())")
    page.wait_for_url(lambda address: not address.endswith(job))
    assert len(service.client.get("/jobs?model=diverges").json()["items"]) == 2
    expect(page.get_by_role("link", name="a failed job")).to_have_attribute("href", f"/dashboard/jobs/{job}")


def test_dying_signal_is_impossible_to_miss(visit: Visit, service: Service) -> None:
    network = {"kind": "mlp", "activation": "sigmoid", "hidden_layers": 8, "units": 8}
    job = service.post("/jobs", dataset="iris", network=network, training={"epochs": 2}, model="dies")["id"]
    service.wait_for(job)
    page = visit(f"/dashboard/jobs/{job}")
    expect(page.locator("#verdict")).to_have_class(re.compile("fail"))
    expect(page.locator("#verdict h2")).to_contain_text("Vanishing")
    expect(page.locator("#verdict li").first).to_be_in_viewport()
    keep(page, "job-vanishing")


def test_page_tells_all_without_scripts(browser: Browser, finished: str, service: Service) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{str(service.client.base_url).rstrip('/')}/dashboard/jobs/{finished}")
    expect(page.locator("#verdict")).to_contain_text(
        service.client.get(f"/jobs/{finished}").json()["verdict"]["detail"]
    )
    expect(page.locator("#metrics tbody tr").first).to_be_visible()
    picture = page.get_by_role("img", name="Learning curves")
    assert picture.evaluate("(image) => image.complete && image.naturalWidth > 0")
    context.close()
