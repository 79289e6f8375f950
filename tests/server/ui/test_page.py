"""The page, as people use it: with a mouse, in a browser."""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from inpaintrt.loading import LoadedBundle
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.batching.settings import BatchingSettings
from inpaintrt_server.settings import ServerSettings
from inpaintrt_server.ui import PATH, mount_page
from server.conftest import Serve, wait_until
from server.ui.conftest import Visit
from server.uploads import SCENE, png_of

# Gradio sets an option of pandas that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")

Pixels = NDArray[np.int16]

# In the picture's own pixels: a square in the middle, far from the edges.
PAINTED = slice(52, 76)
UNTOUCHED = 24
STEPS = 5
MANY_STEPS = 100


def load_picture(page: Page) -> None:
    picture = {"name": "scene.png", "mimeType": "image/png", "buffer": png_of(SCENE.image)}
    page.locator("#editor input[type=file]").set_input_files(picture)  # type: ignore[arg-type]
    page.get_by_label("Brush", exact=True).click()
    expect(page.get_by_label("Brush", exact=True)).to_be_visible()
    # The picture is put on the canvas a moment after the file was read.
    page.wait_for_function("document.querySelector('#editor').innerText.match(/[0-9]+%/)")
    page.wait_for_timeout(500)


def paint_mask(page: Page) -> None:
    """Brush to and fro over the middle."""
    box = page.locator("#editor canvas").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y - 40)
    page.mouse.down()
    for down in range(-40, 41, 20):
        page.mouse.move(x + 40, y + down)
        page.mouse.move(x - 40, y + down)
    page.mouse.up()
    page.wait_for_timeout(300)


def fill_in(page: Page, prompt: str, steps: int) -> None:
    page.locator("#prompt").locator("textarea, input").fill(prompt)
    page.locator("#steps input[type=number]").fill(str(steps))
    page.locator("#seed input").fill("3")


def pixels(page: Page, name: str) -> Pixels:
    source = page.locator(f"#{name} img").get_attribute("src")
    assert source is not None
    with Image.open(io.BytesIO(page.request.get(source).body())) as image:
        return np.asarray(image.convert("RGB"), np.int16)


def test_people_paint_a_mask_and_get_a_picture_that_changed_there_alone(page: Page) -> None:
    addresses = []
    page.on("request", lambda request: addresses.append(request.url))
    load_picture(page)
    paint_mask(page)
    fill_in(page, "a red balloon", STEPS)
    page.click("#paint")
    expect(page.locator("#status")).to_contain_text("Seed 3")
    before, after = pixels(page, "original"), pixels(page, "result")
    assert np.array_equal(before, np.asarray(SCENE.image, np.int16))
    difference = np.abs(after - before).max(axis=2)
    assert difference[PAINTED, PAINTED].mean() > 5
    edges = np.ones_like(difference, bool)
    edges[UNTOUCHED:-UNTOUCHED, UNTOUCHED:-UNTOUCHED] = False
    assert difference[edges].max() == 0
    assert [
        url for url in addresses if not url.startswith((page.url.partition(PATH)[0], "blob:", "data:"))
    ] == []


def test_results_of_a_session_are_kept_newest_first(page: Page) -> None:
    load_picture(page)
    paint_mask(page)
    for number, prompt in enumerate(("a red balloon", "a cloud"), start=1):
        fill_in(page, prompt, STEPS)
        page.click("#paint")
        expect(page.locator("#history img")).to_have_count(number)
        expect(page.locator("#history img").first).to_be_visible()
    expect(page.locator("#history")).to_contain_text("a cloud (seed 3)")
    captions = page.locator("#history .caption-label").all_inner_texts()
    assert captions == ["a cloud (seed 3)", "a red balloon (seed 3)"]


def test_progress_and_previews_are_shown_and_stop_frees_the_slot(
    page: Page, service: BatchingService
) -> None:
    load_picture(page)
    paint_mask(page)
    fill_in(page, "a red balloon", MANY_STEPS)
    page.click("#paint")
    page.wait_for_selector("#status progress")
    page.wait_for_selector("#result img")
    assert service.snapshot.active == 1
    page.click("#stop")
    expect(page.locator("#status")).to_contain_text("Stopped")
    wait_until(lambda: service.snapshot.outstanding == service.snapshot.active == 0)


def test_a_closed_page_frees_the_slot(page: Page, service: BatchingService) -> None:
    load_picture(page)
    paint_mask(page)
    fill_in(page, "a red balloon", MANY_STEPS)
    page.click("#paint")
    page.wait_for_selector("#status progress")
    page.close()
    wait_until(lambda: service.snapshot.outstanding == service.snapshot.active == 0)


@pytest.mark.parametrize(
    ("loaded", "told"), [(False, "there is no picture yet"), (True, "nothing is painted over yet")]
)
def test_what_is_missing_is_told(page: Page, service: BatchingService, loaded: bool, told: str) -> None:
    if loaded:
        load_picture(page)
    fill_in(page, "a red balloon", STEPS)
    page.click("#paint")
    expect(page.get_by_text(told)).to_be_visible()
    assert service.snapshot.outstanding == 0


def test_a_full_queue_is_told(
    visit: Visit, serve: Serve, demo: LoadedBundle, settings: ServerSettings
) -> None:
    with BatchingService(demo, BatchingSettings(slots=1, queue=0)) as service:
        application = make_application(service, settings)
        mount_page(application, service, settings)
        page = visit(serve(application))
        load_picture(page)
        paint_mask(page)
        fill_in(page, "a red balloon", STEPS)
        permit = service.admit()
        page.click("#paint")
        expect(page.get_by_text("the queue is full")).to_be_visible()
        permit.release()
        page.click("#paint")
        expect(page.locator("#status")).to_contain_text("Seed 3")


def test_where_there_are_keys_the_page_needs_one(
    visit: Visit, serve: Serve, service: BatchingService, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("a-key-of-some-length\n")
    settings = ServerSettings(api_key_file=keys)
    application = make_application(service, settings)
    mount_page(application, service, settings)
    address = serve(application)
    for path in ("/", "/config", "/gradio_api/info"):
        assert httpx.get(f"{address}{PATH}{path}", follow_redirects=True).status_code == 401
    page = visit(address, http_credentials={"username": "anybody", "password": "a-key-of-some-length"})
    load_picture(page)
    paint_mask(page)
    fill_in(page, "a red balloon", STEPS)
    page.click("#paint")
    expect(page.locator("#status")).to_contain_text("Seed 3")
