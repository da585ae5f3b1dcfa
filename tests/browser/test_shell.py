"""What every page has: its policy, its colours, its errors."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.axe import grave_violations
from tests.browser.conftest import Faults
from tests.processes import Service


def test_colours_are_kept_from_page_to_page(visit: Callable[[str], Page]) -> None:
    page = visit("/")
    page.get_by_role("button", name="Colours").click()
    page.get_by_role("button", name="Colours: light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    visit("/dashboard/models")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_address_of_nothing_is_a_page_that_leads_back(visit: Callable[[str], Page], page_faults: Faults) -> None:
    page = visit("/dashboard/nowhere")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not Found")
    assert grave_violations(page) == []
    page.get_by_role("link", name="Go to the start").click()
    expect(page).to_have_title("Selfnorm")
    page_faults.forget("404")


def test_script_that_is_not_the_services_own_does_not_run(
    visit: Callable[[str], Page], page_faults: Faults, service: Service
) -> None:
    page = visit("/")
    refused = page.evaluate(
        "() => { try { document.body.innerHTML = '<img src=x onerror=window.ran=1>'; } "
        "catch (error) { return error.name; } }"
    )
    assert refused == "TypeError"
    assert page.evaluate("window.ran ?? null") is None
    page.wait_for_function("window.violations.length > 0")
    page.evaluate("window.violations.length = 0")
    page_faults.forget("TrustedHTML")
