"""While a request runs, and what is kept of its results."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from inpaintrt_server.batching.service import BatchingService
from server.conftest import wait_until
from server.ui.conftest import Visit
from server.ui.person import (
    drag,
    fill_in,
    finish,
    open_example,
    paint_middle,
    pixels,
    save_mask,
    saved,
    set_field,
    status,
)
from server.uploads import SCENE

MANY_STEPS = 150
# Some samplers evaluate the network once more.
_OF_MANY = re.compile(r"of 15[01]$")


@pytest.fixture
def page(visit: Visit, server: str) -> Page:
    """The page with the example open and painted over."""
    page = visit(server)
    open_example(page)
    paint_middle(page)
    return page


def _idle(service: BatchingService) -> bool:
    return service.snapshot.outstanding == service.snapshot.active == 0


def _start_long(page: Page) -> None:
    fill_in(page, steps=MANY_STEPS)
    page.get_by_role("button", name="Paint", exact=True).click()
    expect(status(page)).to_have_text(_OF_MANY)


def test_progress_and_previews_are_shown_and_cancel_frees_the_slot(
    page: Page, service: BatchingService
) -> None:
    _start_long(page)
    progress = page.get_by_role("progressbar", name="Progress")
    expect(progress).to_have_attribute("max", re.compile("15[01]"))
    expect(page.get_by_role("img", name="Preview after step")).to_be_visible()
    assert progress.evaluate("element => element.value") > 0
    assert service.snapshot.active == 1
    page.get_by_role("button", name="Cancel").click()
    expect(status(page)).to_have_text("Canceled.")
    wait_until(lambda: _idle(service))
    expect(progress).to_be_hidden()
    expect(page.get_by_role("application", name="Mask editor")).to_be_visible()
    expect(page.get_by_role("button", name="Paint", exact=True)).to_be_focused()
    expect(page.get_by_role("button", name="Result", exact=True)).to_be_disabled()
    fill_in(page)
    finish(page)


def test_one_run_at_a_time(page: Page, service: BatchingService) -> None:
    _start_long(page)
    page.get_by_role("button", name="Paint", exact=True).click()
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    page.wait_for_timeout(300)
    assert service.snapshot.outstanding == 1
    page.get_by_role("button", name="Cancel").click()
    wait_until(lambda: _idle(service))


def test_a_closed_page_frees_the_slot(page: Page, service: BatchingService) -> None:
    _start_long(page)
    page.close()
    wait_until(lambda: _idle(service))


def test_a_result_comes_into_view_on_a_phone(visit: Visit, server: str) -> None:
    page = visit(server, viewport={"width": 390, "height": 844}, has_touch=True)
    open_example(page)
    paint_middle(page)
    fill_in(page)
    result = page.get_by_role("region", name="Result", exact=True)
    page.get_by_role("button", name="Paint", exact=True).scroll_into_view_if_needed()
    finish(page)
    expect(result).to_be_in_viewport(ratio=0.8)


def test_control_enter_starts_a_run(page: Page) -> None:
    fill_in(page)
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    expect(status(page)).to_have_text("Done.")


def test_a_slider_uncovers_the_original(page: Page) -> None:
    fill_in(page)
    finish(page)
    slider = page.get_by_label("Compare with the original")
    covered = page.locator(".uncovered")
    assert "100%" in covered.evaluate("element => getComputedStyle(element).clipPath").replace("- 0%", "")
    slider.focus()
    page.keyboard.press("End")
    expect(slider).to_have_value("100")
    page.wait_for_timeout(100)
    with Image.open(io.BytesIO(page.locator("#compare-frame").screenshot())) as shown:
        seen = pixels(shown.resize((128, 128), Image.Resampling.BOX))
    assert np.abs(seen - pixels(SCENE.image))[:, 4:-4].mean() < 3
    box = page.locator("#compare-frame").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + 20)
    expect(slider).to_have_value("25")


def test_results_of_a_session_are_kept_newest_first(page: Page, tmp_path: Path) -> None:
    for prompt, seed in (("a red balloon", 1), ("a cloud", 2)):
        fill_in(page, prompt, seed=seed)
        finish(page)
        page.get_by_role("button", name="Edit").click()
    entries = page.get_by_role("region", name="This session").get_by_role("button")
    expect(entries).to_have_count(2)
    names = [entry.get_attribute("aria-label") for entry in entries.all()]
    assert names == ["Show the result: a cloud, seed 2", "Show the result: a red balloon, seed 1"]
    entries.last.click()
    expect(page.locator("#result-summary")).to_contain_text("Seed 1,")
    expect(entries.last).to_have_attribute("aria-pressed", "true")
    expect(entries.last).to_be_focused()
    assert saved(page, "Download", tmp_path).name == "inpaintrt-1.png"


def test_a_seed_is_random_until_it_is_reused(page: Page, tmp_path: Path) -> None:
    fill_in(page)
    set_field(page, "Number of results", "2")
    page.get_by_label("Random seed for each run").check()
    finish(page)
    entries = page.get_by_role("region", name="This session").get_by_role("button")
    expect(entries).to_have_count(2)
    entries.nth(1).click()
    second = pixels(saved(page, "Download", tmp_path))
    page.get_by_role("button", name="Reuse seed").click()
    expect(page.get_by_label("Random seed for each run")).not_to_be_checked()
    expect(status(page)).to_contain_text(page.get_by_label("Seed", exact=True).input_value())
    set_field(page, "Number of results", "1")
    finish(page)
    expect(entries).to_have_count(3)
    again = pixels(saved(page, "Download", tmp_path))
    assert np.abs(again - second).max() <= 1


def test_a_typed_seed_is_kept(page: Page) -> None:
    fill_in(page, seed=9)
    expect(page.get_by_label("Random seed for each run")).not_to_be_checked()
    for _ in range(2):
        finish(page)
        expect(page.locator("#result-summary")).to_contain_text("Seed 9,")


def test_the_oldest_results_are_forgotten(page: Page) -> None:
    fill_in(page, steps=1)
    set_field(page, "Number of results", "8")
    entries = page.get_by_role("region", name="This session").get_by_role("button")
    for number in (8, 16, 24, 24):
        finish(page)
        expect(entries).to_have_count(number)
    expect(entries.first).to_have_attribute("aria-pressed", "true")


def test_a_result_is_painted_over_again(page: Page, tmp_path: Path) -> None:
    fill_in(page)
    finish(page)
    first = pixels(saved(page, "Download", tmp_path))
    page.get_by_role("button", name="Use as input").click()
    expect(page.get_by_role("application", name="Mask editor")).to_be_visible()
    assert save_mask(page, tmp_path).max() == 0
    drag(page, (0.4, 0.3), (0.45, 0.3))
    mask = save_mask(page, tmp_path)
    fill_in(page, "a cloud", seed=4)
    finish(page)
    second = pixels(saved(page, "Download", tmp_path))
    assert np.array_equal(second[mask == 0], first[mask == 0])
    assert not np.array_equal(second, first)


def test_warnings_of_the_server_are_shown(page: Page) -> None:
    fill_in(page, "a red balloon " * 60)
    finish(page)
    expect(page.locator("#result-warnings")).to_contain_text("77")
