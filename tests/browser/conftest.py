"""A real browser on a really running service; what goes wrong in a page fails the test."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.patience import PATIENCE_SECONDS
from tests.processes import Service, running

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""A browser that asks nobody but the service."""
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  const { violatedDirective, blockedURI, sourceFile, lineNumber, sample } = event;
  window.violations.push([violatedDirective, blockedURI, sourceFile, lineNumber, sample].join(" "));
});
"""
PROBLEMS = "(all) => all.map((one) => `shown, ${one.dataset.status}: ${one.textContent}`)"
PATIENCE_MILLISECONDS = 1000 * PATIENCE_SECONDS
expect.set_options(timeout=PATIENCE_MILLISECONDS)


@dataclass
class Faults:
    """What went wrong in a page, as the browser told it."""

    found: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        address = message.location.get("url", "")
        # A form that asks while it is filled in is told what is missing; the browser calls every refusal an error.
        if message.type in ("error", "warning") and "validate_only" not in address:
            self.found.append(f"{message.type}: {message.text} ({address})")

    def forget(self, part: str) -> None:
        """Take out what a test has provoked."""
        self.found = [fault for fault in self.found if part not in fault]
        self.forgotten.append(part)

    def look(self, page: Page) -> None:
        """Add what the page says of itself, unless a test has provoked it: a page may catch its own faults."""
        shown = page.locator("#problems .banner").evaluate_all(PROBLEMS)
        self.found += [text for text in shown if not any(part in text for part in self.forgotten)]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all browser tests of a process; each makes what it needs under names of its own."""
    with running(tmp_path_factory.mktemp("browser") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of a module: while Playwright runs, no test of its process can have an event loop."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(PROGRAMS)} is installed")
    # Chromium's sandbox does not start for root.
    unboxed = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=[*QUIET, *unboxed])
        yield opened
        opened.close()


@pytest.fixture
def page_faults() -> Faults:
    return Faults()


@pytest.fixture
def page(browser: Browser, page_faults: Faults) -> Iterator[Page]:
    """A fresh page; the test fails at its end where the page had an error or broke its policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    context.add_init_script(WATCH)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    opened.on("console", page_faults.hear)
    opened.on("pageerror", lambda error: page_faults.found.append(f"uncaught: {error}"))
    yield opened
    page_faults.look(opened)
    violations = opened.evaluate("window.violations ?? []")
    context.close()
    assert page_faults.found == []
    assert violations == []


@pytest.fixture
def visit(page: Page, service: Service) -> Callable[[str], Page]:
    """Open a page of the service."""
    base = str(service.client.base_url).rstrip("/")

    def open_(path: str) -> Page:
        page.goto(base + path)
        return page

    return open_
