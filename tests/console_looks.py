"""What every screen is held to: as wide as its window, and nothing serious that axe finds."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS = (390, 1280)
"""Of a telephone and of a desktop; pages are left at the last one."""


def assert_accessible(page: Page) -> None:
    """Axe finds nothing serious or critical on the page as it is."""
    serious = {
        rule["id"]: [node["html"][:200] for node in rule["nodes"][:3]]
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
    }
    assert not serious, (page.url, serious)


def assert_fits(page: Page) -> None:
    """Nothing makes the page wider than the window, as it is now."""
    # What scripts do about a new width is done with the next frame.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    hangs_out = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert hangs_out <= 0, f"{hangs_out} pixels wider than the window: {page.url}"


def assert_fits_at_all_widths(page: Page) -> None:
    """As `assert_fits`, on a telephone and on a desktop."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert_fits(page)


def assert_looks_right(page: Page) -> None:
    """Fits and is accessible, on a telephone and on a desktop."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert_fits(page)
        assert_accessible(page)


def shown_name(run_name: str) -> str:
    """What tables show of a run's name: one that nobody named, by the ends of its identifier."""
    return f"run_…{run_name[-8:]}" if run_name.startswith("run_01") else run_name
