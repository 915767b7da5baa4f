"""Every screen, wide and narrow, light and dark: nothing hangs out, nothing is inaccessible, nothing fails.

`make screenshots` runs this too, and keeps what it sees in docs/screenshots.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from console_looks import assert_accessible, assert_fits
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SCREENS: dict[str, Callable[[Any], str]] = {
    "datasets": lambda on: "/datasets",
    "dataset-new": lambda on: "/datasets/new",
    "dataset": lambda on: f"/datasets/{on.dataset.id}",
    "dataset-methods": lambda on: f"/datasets/{on.dataset.id}/methods",
    "dataset-data": lambda on: f"/datasets/{on.dataset.id}/data",
    "methods": lambda on: "/methods",
    "method-new": lambda on: f"/methods/new?dataset_id={on.dataset.id}",
    "method": lambda on: f"/methods/{on.method.id}",
    "artifacts": lambda on: "/artifacts",
    "artifact-new": lambda on: "/artifacts/new",
    "artifact": lambda on: f"/artifacts/{on.base.plan.artifact['id']}",
    "wizard-1": lambda on: "/evaluations/new",
    "wizard-2": lambda on: f"/evaluations/new?dataset_id={on.dataset.id}",
    "wizard-3": lambda on: f"/evaluations/new?dataset_id={on.dataset.id}&method_id={on.method.id}",
    "evaluations": lambda on: "/evaluations",
    "evaluation": lambda on: f"/evaluations/{on.base.id}",
    "evaluation-quality": lambda on: f"/evaluations/{on.base.id}?tab=quality",
    "evaluation-runtime": lambda on: f"/evaluations/{on.base.id}?tab=runtime",
    "evaluation-samples": lambda on: f"/evaluations/{on.base.id}?tab=samples",
    "evaluation-logs": lambda on: f"/evaluations/{on.base.id}?tab=logs",
    "evaluation-plan": lambda on: f"/evaluations/{on.base.id}?tab=plan",
    "comparisons": lambda on: "/comparisons",
    "comparison-new": lambda on: f"/comparisons/new?run={on.base.id}&run={on.candidate.id}",
    "comparison": lambda on: f"/comparisons/{on.comparison.id}",
    "decisions": lambda on: "/decisions",
    "decision": lambda on: f"/decisions/{on.decision.id}",
    "policies": lambda on: "/policies",
    "policy": lambda on: "/policies/default",
    "trends": lambda on: f"/trends?method_id={on.method.id}",
    "health": lambda on: "/health",
}
Looks = tuple[int, Literal["light", "dark"]]
KEPT: tuple[Looks, ...] = ((1280, "light"), (390, "light"))


@pytest.mark.parametrize("looks", [(1280, "light"), (1280, "dark"), (390, "light")], ids=str)
@pytest.mark.parametrize("name", SCREENS)
def test_screen(page: Page, evaluated: Any, name: str, looks: Looks) -> None:
    width, colours = looks
    page.emulate_media(color_scheme=colours)
    page.set_viewport_size({"width": width, "height": 844})
    answer = page.goto(f"{evaluated.url}{SCREENS[name](evaluated)}", wait_until="networkidle")
    assert answer is not None
    assert answer.status == 200, page.inner_text("body")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    keep(page, name, looks)
    assert_fits(page)
    assert_accessible(page)


def keep(page: Page, name: str, looks: Looks) -> None:
    """Save what is seen, where `make screenshots` asks for it."""
    folder = os.environ.get("ASSAY_SCREENSHOTS")
    if folder and looks in KEPT:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}-{looks[0]}.png", full_page=True)
