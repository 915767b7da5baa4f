"""Every screen, wide and narrow, light and dark: nothing hangs out, nothing is inaccessible, nothing fails.

`make screenshots` runs this too, and keeps what it sees in docs/screenshots.
"""

import os
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pytest
from console_looks import assert_accessible, assert_fits
from console_screens import SCREENS
from PIL import Image
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

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
        drawn = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
        # A page has few colours; with 128 of them the file is a third as large.
        few = drawn.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(Path(folder) / f"{name}-{looks[0]}.png", optimize=True)
        if (name, looks) == ("comparison", KEPT[0]):  # what is seen of it first: the README's picture
            few.crop((0, 0, 1280, 844)).save(Path(folder) / "comparison-top.png", optimize=True)
