"""The page of a teaching by touch: every target can be hit, nothing is cut off, it follows what happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect, sync_playwright

from monitor.teaching.teaching_job import Job, JobState, write_job
from monitor.training.compare import Compare
from tests.real.parts import part, random_recipe, save
from tests.real.review_page import ReviewPage

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
CAMERA = '[[camera]]\nname = "top"\nsource = "simulated://plate"\nrecipe = "plate"\n'
JOB = Job(
    recipe="plate",
    camera="top",
    compare=Compare.BOTH,
    who="edda",
    started_utc="2026-11-24T01:00:00.000Z",
    state=JobState.CANCELLED,
)
SMALL = (
    "all => all.filter(e => e.checkVisibility()).filter(e => { const box = e.getBoundingClientRect();"
    " return Math.min(box.height, box.width) < 48 }).map(e => e.outerHTML)"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve good images, one of them dark, and a teaching that somebody cancelled."""
    data = tmp_path / "data"
    for index in range(12):
        save(data / f"teaching/plate/good/{index:02d}.png", part(index))
    save(data / "teaching/plate/good/20.png", (part(13) * 0.5).astype(np.uint8))
    write_job(data / "teaching/plate", JOB)
    return data


@pytest.fixture
def tab() -> Iterator[Tab]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser.new_context(viewport={"width": 800, "height": 1280}, has_touch=True).new_page()


def test_a_finger_finds_every_target_and_the_page_follows_the_teaching(data: Path, tab: Tab) -> None:
    with ReviewPage(data, CAMERA) as page:
        tab.goto(f"{page.address}/teach")
        tab.get_by_role("button", name="Go on with camera top").tap()
        tab.wait_for_url("**/teach/top/plate")
        tab.get_by_text("darker than the others").first.wait_for()
        for width in (800, 1280):
            tab.set_viewport_size({"width": width, "height": 1280})
            targets = tab.locator("button, .button, select, input:not([type=hidden]), nav a, summary")
            assert targets.evaluate_all(SMALL) == []
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.locator("li", has_text="darker").get_by_role("link").tap()
        tab.wait_for_url("**/good/20.png/large")
        tab.keyboard.press("ArrowRight")
        tab.wait_for_url("**/good/11.png/large")
        tab.keyboard.press("Escape")
        tab.get_by_role("link", name="Remove all 1: darker than the others").tap()
        tab.get_by_role("button", name="Remove 1").tap()
        tab.get_by_text("1 image of good parts was removed.").wait_for()
        assert not (data / "teaching/plate/good/20.png").exists()
        tab.get_by_role("button", name="Undo").tap()
        # A page that refuses has no such text, and the failure quotes what it says.
        expect(tab.locator("main")).to_contain_text("darker than the others", timeout=30_000)
        tab.locator("li", has_text="darker").get_by_role("button", name="Remove").tap()
        tab.get_by_text("no wrong light was found").wait_for()
        assert not (data / "teaching/plate/good/20.png").exists()
        assert tab.get_by_role("button", name="Resume").is_visible()
        made = random_recipe(data / "recipes/plate")
        write_job(data / "teaching/plate", replace(JOB, state=JobState.DONE, version=made.number))
        tab.get_by_text(f"plate@{made.number} is taught").wait_for(timeout=10_000)
        tab.get_by_role("link", name="Look, then put it in force").tap()
        tab.wait_for_url(f"**/recipes/plate/{made.number}")
