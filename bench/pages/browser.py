"""What a browser makes of the pages: when they are there, how large, what keeps them from reacting."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Page, sync_playwright

_OBSERVE = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longTasks.push(entry.duration);
}).observe({ type: "longtask", buffered: true });
"""
_READ = """
async () => {
  const paint = () => performance.getEntriesByName("first-contentful-paint")[0];
  const end = performance.now() + 5000;
  while (!paint() && performance.now() < end) await new Promise((done) => setTimeout(done, 10));
  const navigation = performance.getEntriesByType("navigation")[0];
  return {
    loaded: navigation.domContentLoadedEventEnd,
    paint: paint() ? paint().startTime : NaN,
    nodes: document.getElementsByTagName("*").length,
    longest: Math.max(0, ...window.longTasks),
  };
}
"""


@dataclass(frozen=True, slots=True)
class Looked:
    """One look at a page, in ms since the navigation began.

    Attributes:
        loaded: DOMContentLoaded; ``paint``: the first contentful paint.
        nodes: elements of the document.
        longest: the longest task of the main thread; 0: none took more than 50 ms.
    """

    loaded: float
    paint: float
    nodes: int
    longest: float


class Looker:
    """Chromium with somebody signed in."""

    def __init__(self, page: Page, *, url: str) -> None:
        self._page = page
        self._url = f"{url}/console"

    def look(self, path: str) -> Looked:
        """Open a page by its address."""
        self._page.goto(self._url + path, wait_until="load")
        return self._read()

    def pages(self, path: str, *, count: int) -> list[Looked]:
        """Open a list and go on to its next page, by the link, until ``count`` pages were seen."""
        looks = [self.look(path)]
        while len(looks) < count:
            with self._page.expect_navigation(wait_until="load"):
                self._page.get_by_role("link", name="Next", exact=True).click()
            looks.append(self._read())
        return looks

    def _read(self) -> Looked:
        return Looked(**self._page.evaluate(_READ))


@contextmanager
def looker(url: str, *, api_key: str) -> Iterator[Looker]:
    """Headless Chromium of the system, 1280 pixels wide; ASSAY_CHROMIUM names another one."""
    program = os.environ.get("ASSAY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("no Chromium: install the package chromium, or set ASSAY_CHROMIUM to its program")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(60_000)
        page.add_init_script(_OBSERVE)
        page.goto(f"{url}/console/sign-in")
        page.get_by_label("API key").fill(api_key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console/datasets")
        yield Looker(page, url=url)
        browser.close()
