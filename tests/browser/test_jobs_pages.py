"""The list of jobs, which follows what happens, and the form of a new one, which says what comes of it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from playwright.sync_api import APIResponse, Browser, Error, Locator, Page, Route, expect

from tests.browser.axe import grave_violations
from tests.browser.conftest import Faults
from tests.browser.pictures import keep, overflow
from tests.patience import PATIENCE_SECONDS
from tests.processes import Service, linux_only

Visit = Callable[[str], Page]

LONG = {"dataset": "digits", "training": {"epochs": 20_000, "early_stopping": None}}
QUICK = {"dataset": "iris", "network": {"hidden_layers": 2, "units": 16}, "training": {"epochs": 30}}
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event("visibilitychange"));
}"""
NAME = "<img src=x onerror=window.ran=1>'\"&<b>" + "W" * 60
FEATURES = ["<script>window.ran=2</script>", "\u202eright to left", 'a "quoted", one', "it's"]
TARGET = "-x=</script><svg onload=window.ran=3> '\u202e\""


def submit(service: Service, model: str, **spec: Any) -> str:
    return str(service.post("/jobs", model=model, **spec)["id"])


def row_of(page: Page, job_id: str) -> Locator:
    return page.locator(f'tr[data-job="{job_id}"]')


def points(row: Locator) -> int:
    """How many points the curve of a row has."""
    return len((row.locator("polyline").get_attribute("points") or "").split())


def field(page: Page, pointer: str) -> Locator:
    return page.locator(f'[data-pointer="{pointer}"]')


def hostile_dataset(service: Service) -> str:
    """Store a table whose names are meant to break pages."""
    columns = [*FEATURES, TARGET]
    lines = [",".join('"' + name.replace('"', '""') + '"' for name in columns)]
    lines += [f"{row % 7},{row % 5},{row % 3},{row * 0.5},{row % 2}" for row in range(60)]
    return service.upload(NAME, "\n".join(lines))


def test_list_follows_a_job_without_being_loaded_again(visit: Visit, service: Service) -> None:
    page = visit("/dashboard/jobs")
    page.evaluate("window.isTheSame = true")
    expect(page.locator("#live")).to_have_text("live")
    job_id = submit(service, "followed", **QUICK)
    row = row_of(page, job_id)
    expect(row.locator('[data-cell="model"]')).to_have_text("followed")
    expect(row.locator('[data-cell="state"]')).to_have_text("succeeded")
    expect(row.locator('[data-cell="epoch"]')).to_have_text("epoch 30 of 30")
    expect(row.locator("progress")).to_have_attribute("value", "1")
    assert points(row) == 30
    expect(row.locator('[data-cell="metric"]')).to_have_text("validation accuracy")
    expect(row.locator('[data-cell="version"]')).to_have_text("v1")
    assert row.locator('[data-cell="verdict"]').inner_text() == service.wait_for(job_id)["verdict"]["status"]
    expect(page.locator("#news")).to_have_text("followed: succeeded")
    assert page.evaluate("window.isTheSame")
    live = row.inner_text()
    page.reload()
    expect(row_of(page, job_id)).to_have_text(live, use_inner_text=True)  # scripts write what the server writes
    page.get_by_label("Model").fill("followed")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/dashboard/jobs?model=followed")
    assert [row.get_attribute("data-job") for row in page.locator("#jobs tr").all()] == [job_id]


def test_running_job_is_watched_and_cancelled(visit: Visit, service: Service) -> None:
    job_id = submit(service, "endless", **LONG, tags=["mine"])
    page = visit("/dashboard/jobs?tag=mine")
    row = row_of(page, job_id)
    expect(row.locator('[data-cell="state"]')).to_have_text("running")
    expect(row.locator('[data-cell="epoch"]')).not_to_have_text("epoch 0 of 20,000")
    before, width = row.locator('[data-cell="epoch"]').inner_text(), row.locator("polyline").get_attribute("points")
    expect(row.locator('[data-cell="epoch"]')).not_to_have_text(before)
    expect(row.locator("polyline")).not_to_have_attribute("points", width or "")
    row.get_by_role("button", name="Cancel endless").click()
    page.get_by_role("button", name="Leave it").click()
    row.get_by_role("button", name="Cancel endless").click()
    held: list[tuple[Route, APIResponse]] = []
    page.route("**/cancel", lambda route: held.append((route, route.fetch())))
    page.get_by_role("button", name="Cancel it").click()
    expect(row.locator('[data-cell="state"]')).to_have_text("cancelled")
    [(route, late)] = held
    route.fulfill(response=late)  # that it is cancelling
    page.wait_for_timeout(300)
    expect(row.locator('[data-cell="state"]')).to_have_text("cancelled")
    assert service.wait_for(job_id)["state"] == "cancelled"
    expect(row.get_by_role("button", name="Cancel")).to_have_count(0)
    row.get_by_role("link", name="Again with changes: endless").click()
    expect(field(page, "/training/epochs")).to_have_value("20000")
    expect(field(page, "/training/early_stopping")).to_have_value("null")
    expect(field(page, "/dataset")).to_have_value("digits")
    expect(field(page, "/tags")).to_have_value("mine")
    expect(field(page, "/training/batch_size")).to_have_value("")  # what is chosen anyway is not said


@linux_only
def test_list_goes_on_when_the_service_is_back(visit: Visit, service: Service, page_faults: Faults) -> None:
    page = visit("/dashboard/jobs")
    page.evaluate("window.isTheSame = true")
    expect(page.locator("#live")).to_have_text("live")
    job_id = submit(service, "meanwhile", **QUICK)
    [api] = service.children("service.cli api")
    os.kill(api, signal.SIGKILL)
    expect(page.locator("#live")).to_have_text("connecting again")
    expect(page.locator("#live")).to_have_text("live")
    expect(row_of(page, job_id).locator('[data-cell="state"]')).to_have_text("succeeded")
    assert page.evaluate("window.isTheSame")
    for fault in (
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
    ):
        page_faults.forget(fault)


def test_page_that_nobody_sees_gives_its_connection_back(visit: Visit, page: Page, service: Service) -> None:
    page.clock.install()
    visit("/dashboard/jobs")
    expect(page.locator("#live")).to_have_text("live")
    with page.expect_event("requestfailed", lambda request: "/dashboard/live/jobs" in request.url):
        page.evaluate(HIDE, True)
        page.clock.run_for(11_000)
    job_id = submit(service, "unseen", **QUICK)
    service.wait_for(job_id)
    expect(row_of(page, job_id)).to_have_count(0)
    page.evaluate(HIDE, False)
    expect(row_of(page, job_id).locator('[data-cell="state"]')).to_have_text("succeeded")


def test_page_that_is_opened_in_the_background_takes_no_connection_until_it_is_seen(visit: Visit, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script('Object.defineProperty(document, "hidden", {configurable: true, get: () => true});')
    visit("/dashboard/jobs")
    page.wait_for_timeout(1000)
    assert [url for url in asked if "/live/" in url] == []
    page.evaluate(HIDE, False)
    expect(page.locator("#live")).to_have_text("live")


def test_list_is_narrowed_without_scripts(browser: Browser, service: Service) -> None:
    job_id = submit(service, "plain", **QUICK)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.client.base_url}/dashboard/jobs".replace("//dashboard", "/dashboard"))
    page.get_by_label("Model").fill("plain")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**model=plain**")
    assert [row.get_attribute("data-job") for row in page.locator("tbody tr").all()] == [job_id]
    expect(page.get_by_label("Model")).to_have_value("plain")
    context.close()
    service.wait_for(job_id)


def test_form_says_what_is_wrong_where_it_is(visit: Visit, page_faults: Faults) -> None:
    page = visit("/dashboard/jobs/new?dataset=iris")
    expect(page.locator("#summary")).to_contain_text("A self-normalizing network for the classes of target")
    expect(field(page, "/training/learning_rate")).to_have_attribute("placeholder", "0.0005")
    field(page, "/training/epochs").fill("0")
    field(page, "/network/units").fill("64, many")
    expect(page.locator('[data-problem-of="/training/epochs"]')).to_have_text("must be between 1 and 100000; got 0")
    expect(page.locator('[data-problem-of="/network/units"]')).to_contain_text("got 'many'")
    for pointer in ("/training/epochs", "/network/units"):
        control = field(page, pointer)
        expect(control).to_have_attribute("aria-invalid", "true")
        described = (control.get_attribute("aria-describedby") or "").split()
        assert page.locator(f'[data-problem-of="{pointer}"]').get_attribute("id") in described
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("#/training/epochs")
    field(page, "/training/epochs").fill("5")
    field(page, "/network/units").fill("64, 32")
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    expect(page.locator("#summary")).to_contain_text("A self-normalizing network")
    page_faults.forget("422")


def test_form_advises_probes_and_trains(visit: Visit, service: Service) -> None:
    page = visit("/dashboard/jobs/new")
    field(page, "/dataset").select_option("wine")
    field(page, "/network/kind").select_option(label="mlp")
    field(page, "/network/activation").select_option(label="sigmoid")
    field(page, "/network/hidden_layers").fill("12")
    field(page, "/network/units").fill("24")
    field(page, "/training/epochs").fill("3")
    field(page, "/model").fill("advised")
    field(page, "/tags").fill("one, two")
    page.get_by_label("malic_acid").uncheck()
    expect(page.locator("#checks")).to_contain_text("Will not work")
    page.get_by_role("button", name="Probe on real rows").click()
    expect(page.locator("#probed")).to_contain_text("The signal lives for")
    expect(page.locator("#probed svg .line")).to_have_count(4)
    assert grave_violations(page) == []
    keep(page, "job-new-advised")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#checks")).not_to_contain_text("Will not work")
    assert overflow(page) == 0
    page.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_url(re.compile(r"/dashboard/jobs/[0-9a-f]{20}$"))
    job = service.wait_for(page.url.rpartition("/")[2])
    assert job["state"] == "succeeded"
    assert job["spec"]["network"]["hidden_layers"] == 12
    assert job["spec"]["network"]["activation"] == "selu"
    assert job["spec"]["training"]["epochs"] == 3
    assert (job["spec"]["model"], job["spec"]["tags"]) == ("advised", ["one", "two"])
    assert "malic_acid" not in job["spec"]["features"]
    assert len(job["spec"]["features"]) == 12


def test_form_takes_no_press_before_its_script_runs(page: Page, service: Service) -> None:
    held: list[Route] = []
    page.route("**/job-new.js*", lambda route: held.append(route))
    page.goto(f"{service.client.base_url}/dashboard/jobs/new?dataset=iris", wait_until="commit")
    field(page, "/training/epochs").fill("7")
    while not held:
        page.wait_for_timeout(20)
    train = page.get_by_role("button", name="Train", exact=True)
    expect(train).to_be_disabled()
    held.pop().continue_()
    expect(train).to_be_enabled()
    expect(field(page, "/training/epochs")).to_have_value("7")


def test_advice_that_comes_late_does_not_take_the_place_of_a_refusal(visit: Visit, page_faults: Faults) -> None:
    page = visit("/dashboard/jobs/new?dataset=iris")
    held: list[Route] = []
    page.route("**/jobs?validate_only=true", lambda route: held.append(route))
    with page.expect_request("**/jobs?validate_only=true"):
        field(page, "/training/epochs").fill("many")
    page.get_by_role("button", name="Train", exact=True).click()
    told = page.locator('[data-problem-of="/training/epochs"]')
    expect(told).to_contain_text("many")
    late = {
        "title": "",
        "status": 422,
        "detail": "",
        "code": "",
        "errors": [{"pointer": "#/training/epochs", "detail": "late"}],
    }
    with suppress(Error):  # nobody waits for it any more
        held[0].fulfill(status=422, json=late, content_type="application/problem+json")
    page.wait_for_timeout(300)
    expect(told).to_contain_text("many")
    page_faults.forget("422")


def test_hostile_names_are_text_and_the_same_request_works_from_elsewhere(
    visit: Visit, service: Service, page_faults: Faults
) -> None:
    dataset = hostile_dataset(service)
    page = visit(f"/dashboard/jobs/new?dataset={dataset}")
    expect(page.locator("#summary")).to_contain_text("see the fields that are marked")  # no target yet
    field(page, "/target").select_option(TARGET)
    page.get_by_label(FEATURES[2]).uncheck()
    field(page, "/training/epochs").fill("1")
    field(page, "/network/units").fill("8, 4")
    page.locator("#more summary").click()
    field(page, "/training/schedule/warmup_epochs").fill("1")
    field(page, "/training/class_weights").fill('{"0": 2}')
    expect(page.locator("#summary")).to_contain_text("network for the classes of -x=")
    assert grave_violations(page) == []
    keep(page, "job-new-hostile")
    texts = {}
    for name in ("curl", "Python", "Command line"):
        page.get_by_role("tab", name=name).click()
        page.get_by_role("tabpanel", name=name).get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        texts[name] = page.evaluate("navigator.clipboard.readText()")
        assert "\u202e" not in texts[name]
    ran = [run_shell(texts["curl"]), run_python(texts["Python"]), run_shell(texts["Command line"])]
    made = service.client.get("/jobs", params={"dataset": dataset}).json()["items"]
    assert len(made) == 3, ran
    assert all(job["spec"] == made[0]["spec"] for job in made)
    spec = made[0]["spec"]
    assert (spec["target"], spec["network"]["units"]) == (TARGET, [8, 4])
    assert spec["features"] == [FEATURES[place] for place in (0, 1, 3)]
    assert (spec["training"]["schedule"]["warmup_epochs"], spec["training"]["class_weights"]) == (1, {"0": 2})
    page = visit(f"/dashboard/jobs?dataset={dataset}")
    row = row_of(page, made[0]["id"])
    expect(row).to_contain_text(NAME)
    expect(row).to_contain_text(TARGET)
    service.wait_for(made[0]["id"])
    expect(row.locator('[data-cell="state"]')).to_have_text("succeeded")
    assert grave_violations(page) == []
    keep(page, "jobs-hostile")
    assert overflow(page) == 0
    assert page.evaluate("window.ran ?? null") is None
    page_faults.forget("422")


def run_shell(text: str) -> str:
    """Run a line as somebody does who has copied it."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", text],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (text, done.stdout, done.stderr)
    return done.stdout + done.stderr


def run_python(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, (text, done.stderr)
    return done.stdout
