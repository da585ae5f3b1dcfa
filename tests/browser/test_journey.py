"""What somebody does who comes with a CSV: drop, train, watch, predict, go back, cancel; and what breaks meanwhile."""

import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import APIResponse, Page, Route, expect

from tests.browser.conftest import Faults
from tests.processes import Service, linux_only

ENDLESS = {
    "dataset": "digits",
    "network": {"kind": "snn", "hidden_layers": 8, "units": 128},
    "training": {"epochs": 5000, "early_stopping": None},
}
DROP = """(zone, [name, text]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([text], name, {type: "text/csv"}));
  for (const kind of ["dragenter", "dragover", "drop"])
    zone.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
}"""

WATCH_CURVE = """
window.drawn = new Set();
setInterval(() => {
  const line = document.querySelector("#curves path.line");
  const state = document.querySelector("#state")?.textContent.trim();
  if (line && state === "running") window.drawn.add(line.getAttribute("d"));
}, 50);
"""
"""Keeps every shape that the curve had while the job was running."""


def flats(rows: int = 600) -> str:
    draw = random.Random(3)
    lines = ["size,city,price"]
    for _ in range(rows):
        size, city = draw.randint(20, 150), draw.choice(["Basel", "Bern", "Zug"])
        lines.append(f"{size},{city},{size * (9 if city == 'Zug' else 5) + draw.randint(-20, 20)}")
    return "\n".join(lines) + "\n"


def test_csv_that_is_dropped_becomes_answers(visit: Callable[[str], Page], service: Service) -> None:
    page = visit("/")
    page.locator(".drop").evaluate(DROP, ["journey.csv", flats()])
    expect(page.locator("h1")).to_have_text("journey")
    page.get_by_label("What is to be predicted?").select_option("price")
    page.get_by_role("link", name="Choose a network").click()
    page.get_by_label("Model", exact=False).first.fill("journey")
    page.get_by_label("Epochs", exact=True).fill("800")
    page.get_by_label("Early stopping", exact=True).select_option(label="never")
    page.add_init_script(WATCH_CURVE)
    page.get_by_role("button", name="Train", exact=True).click()

    page.wait_for_url(re.compile(r"/dashboard/jobs/[0-9a-f]+$"))
    expect(page.locator("#state")).to_have_text("succeeded")
    assert page.evaluate("window.drawn.size") > 1, "the curve must move before the job ends"
    expect(page.locator("#verdict")).to_contain_text(re.compile("held|left|stable|vanishing|exploding", re.IGNORECASE))

    page.get_by_role("link", name=re.compile("predict", re.IGNORECASE)).first.click()
    expect(page.locator("#commands")).not_to_be_empty()  # then the form listens
    page.get_by_label("size").fill("100")
    page.get_by_label("city").select_option(label="Zug")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.locator("#answer")).to_contain_text(re.compile(r"\d"))
    asked = {"model": "journey", "instances": [{"size": 100, "city": "Zug"}]}
    [expected] = service.client.post("/predict", json=asked).json()["predictions"]
    shown = page.locator("#answer").inner_text().replace(",", "")
    assert any(abs(float(found) - expected) < abs(expected) * 1e-3 for found in re.findall(r"-?\d+\.?\d*", shown)), (
        shown
    )


def test_alias_goes_back_by_one_press(visit: Callable[[str], Page], service: Service) -> None:
    for seed in (1, 2):
        spec = {"dataset": "iris", "model": "turning", "training": {"epochs": 2, "seed": seed}}
        job = service.post("/jobs", **spec)["id"]
        assert service.wait_for(job)["state"] == "succeeded"
        service.put("/models/turning/aliases/production", version=seed)
    page = visit("/dashboard/models/turning")
    page.get_by_role("button", name=re.compile("Roll back")).click()
    expect(page.locator(".alias .head")).to_contain_text("version 1")
    assert service.client.get("/models/turning/aliases/production").json()["version"] == 1


def test_job_ends_where_it_is_cancelled(visit: Callable[[str], Page], service: Service) -> None:
    job = service.post("/jobs", **ENDLESS)["id"]
    page = visit(f"/dashboard/jobs/{job}")
    page.get_by_role("button", name="Cancel").click()
    held: list[tuple[Route, APIResponse]] = []
    page.route("**/cancel", lambda route: held.append((route, route.fetch())))
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    [(route, late)] = held
    route.fulfill(response=late)  # that it is cancelling, or was queued and is cancelled
    page.wait_for_timeout(300)
    expect(page.locator("#state")).to_have_text("cancelled")
    assert service.client.get(f"/jobs/{job}").json()["state"] == "cancelled"


@linux_only
def test_page_goes_on_when_the_service_is_back(
    visit: Callable[[str], Page], service: Service, page_faults: Faults, tmp_path: Path
) -> None:
    job = service.post("/jobs", **ENDLESS)["id"]
    page = visit(f"/dashboard/jobs/{job}")
    expect(page.locator("#live")).to_have_text("live")
    # A worker that was busy until now has to compile this network first.
    expect(page.locator("#curves path.line").first).to_have_attribute("d", re.compile("L"))
    [api] = service.children("service.cli api")
    os.kill(api, signal.SIGKILL)
    expect(page.locator("#live")).to_have_text("connecting again")
    expect(page.locator("#live")).to_have_text("live")
    epoch = page.locator("#progress-text").text_content()
    page.wait_for_function("([text]) => document.querySelector('#progress-text').textContent !== text", arg=[epoch])
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    for fault in (
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
    ):
        page_faults.forget(fault)
