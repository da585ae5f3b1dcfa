"""Pictures of pages, wide and narrow, light and dark, kept for people to look at."""

from pathlib import Path

from playwright.sync_api import Page

FOLDER = Path(__file__).parents[2] / "build/screenshots"
SIZES = {"wide": (1600, 1000), "narrow": (380, 800)}
SCHEMES = ("light", "dark")


def keep(page: Page, name: str, *, whole: bool = True) -> list[Path]:
    """Take the four pictures of a page as it is, and leave it at the size that it had."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    before, taken = page.viewport_size, []
    page.evaluate("scrollTo(0, 0)")  # else the head of the page, which stays in sight, stands in the middle
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.wait_for_timeout(150)  # for charts to be drawn at the new size
            taken.append(FOLDER / f"{name}-{size}-{scheme}.png")
            page.screenshot(path=taken[-1], full_page=whole)
    page.emulate_media(color_scheme="null")
    if before is not None:
        page.set_viewport_size(before)
    return taken


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
