"""The mask's editor: tools, undo, view, files, keys and touch."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from server.ui.conftest import Visit
from server.ui.person import (
    canvas_point,
    canvas_points,
    drag,
    open_example,
    open_file,
    open_image,
    paint_middle,
    save_mask,
    saved,
)
from server.uploads import png_of

Mask = NDArray[np.uint8]
Press = Callable[[str], None]


@pytest.fixture
def page(visit: Visit, server: str) -> Page:
    """The page with the example open."""
    page = visit(server)
    open_example(page)
    return page


@pytest.fixture
def mask(page: Page, tmp_path: Path) -> Callable[[], Mask]:
    """The mask as the page saves it."""
    return lambda: save_mask(page, tmp_path)


@pytest.fixture
def press(page: Page) -> Press:
    return lambda name: page.get_by_role("button", name=name, exact=True).click()


def test_a_stroke_is_white_and_the_rest_black(page: Page, mask: Callable[[], Mask]) -> None:
    assert mask().max() == 0
    drag(page, (0.45, 0.5), (0.55, 0.5))
    painted = mask()
    assert painted[64, 64] == 255
    assert painted[:40].max() == painted[90:].max() == 0


def test_the_mask_is_translucent_and_outlined_in_two_tones(page: Page) -> None:
    noise = np.random.default_rng(0).integers(100, 180, (640, 640), np.uint8)
    open_image(page, Image.fromarray(noise))
    page.wait_for_timeout(200)
    before = _seen(page)
    drag(page, (0.45, 0.5), (0.55, 0.5))
    page.mouse.move(0, 0)
    page.wait_for_timeout(200)
    after = _seen(page)
    height, width = after.shape[:2]
    inside = np.s_[height // 2 - 8 : height // 2 + 8, width // 2 - 20 : width // 2 + 20]
    # What lies under the paint still varies as it did.
    seen, under = after[inside].mean(axis=2).ravel(), before[inside].mean(axis=2).ravel()
    assert np.corrcoef(seen, under)[0, 1] > 0.9
    assert (after[inside][..., 0].mean() - after[inside][..., 1].mean()) > 40
    column = after[: height // 2, width // 2].astype(int)
    changed = column[np.abs(column - before[: height // 2, width // 2]).max(axis=1) > 20]
    assert (changed.min(axis=1) > 200).any()
    assert (changed.max(axis=1) < 90).any()


def _seen(page: Page) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(page.locator("#canvas").screenshot())) as image:
        return np.asarray(image.convert("RGB"))


def test_the_eraser_takes_paint_away(page: Page, mask: Callable[[], Mask], press: Press) -> None:
    paint_middle(page)
    assert mask()[64, 64] == 255
    press("Eraser")
    drag(page, (0.48, 0.5), (0.52, 0.5))
    erased = mask()
    assert erased[64, 64] == 0
    assert erased.max() == 255


def test_undo_and_redo(page: Page, mask: Callable[[], Mask], press: Press) -> None:
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    drag(page, (0.4, 0.4), (0.6, 0.4))
    first = mask()
    drag(page, (0.4, 0.6), (0.6, 0.6))
    both = mask()
    page.keyboard.press("Control+z")
    assert np.array_equal(mask(), first)
    press("Undo")
    assert mask().max() == 0
    page.keyboard.press("Control+Shift+z")
    assert np.array_equal(mask(), first)
    press("Redo")
    assert np.array_equal(mask(), both)
    press("Undo")
    drag(page, (0.5, 0.7))
    expect(page.get_by_role("button", name="Redo")).to_be_disabled()


def test_many_strokes_are_undone_one_by_one(page: Page, mask: Callable[[], Mask], press: Press) -> None:
    places = [(0.35 + 0.03 * (number % 10), 0.3 + 0.4 * number / 60) for number in range(60)]
    points = canvas_points(page, places)
    for point in points[:30]:
        page.mouse.click(*point)
    kept = mask()
    for point in points[30:]:
        page.mouse.click(*point)
    assert not np.array_equal(mask(), kept)
    for _ in range(30):
        page.keyboard.press("Control+z")
    assert np.array_equal(mask(), kept)


def test_invert_and_clear(page: Page, mask: Callable[[], Mask], press: Press) -> None:
    paint_middle(page)
    before = mask()
    press("Invert")
    assert np.array_equal(mask(), 255 - before)
    press("Clear")
    assert mask().max() == 0
    press("Invert")
    assert mask().min() == 255
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert np.array_equal(mask(), before)


def test_zoom_and_pan_change_what_a_stroke_meets(page: Page, mask: Callable[[], Mask], press: Press) -> None:
    page.mouse.move(*canvas_point(page, 0.5, 0.5))
    for _ in range(5):
        page.mouse.wheel(0, -100)
    drag(page, (0.4, 0.5), (0.6, 0.5))
    zoomed = np.nonzero(mask().max(axis=0))[0]
    press("Clear")
    press("Fit")
    drag(page, (0.4, 0.5), (0.6, 0.5))
    whole = np.nonzero(mask().max(axis=0))[0]
    assert np.ptp(whole) > np.ptp(zoomed) + 10
    press("Clear")
    drag(page, (0.5, 0.5), (0.6, 0.5), button="middle")
    assert mask().max() == 0
    drag(page, (0.5, 0.5))
    moved = np.nonzero(mask().max(axis=0))[0].mean()
    assert moved < 55
    press("Clear")
    page.locator("#canvas").focus()
    page.keyboard.down(" ")
    drag(page, (0.6, 0.5), (0.5, 0.5))
    page.keyboard.up(" ")
    assert mask().max() == 0
    drag(page, (0.5, 0.5))
    assert np.nonzero(mask().max(axis=0))[0].mean() == pytest.approx(63.5, abs=2)


def test_zoom_buttons(page: Page, mask: Callable[[], Mask], press: Press) -> None:
    for _ in range(4):
        press("Zoom in")
    drag(page, (0.4, 0.5), (0.6, 0.5))
    near = np.ptp(np.nonzero(mask().max(axis=0))[0])
    press("Clear")
    for _ in range(5):
        press("Zoom out")
    drag(page, (0.4, 0.5), (0.6, 0.5))
    assert np.ptp(np.nonzero(mask().max(axis=0))[0]) > near


def test_brackets_and_the_slider_change_the_brush(page: Page, mask: Callable[[], Mask], press: Press) -> None:
    size = page.get_by_label("Size")
    first = int(size.input_value())
    page.keyboard.press("]")
    assert int(size.input_value()) > first
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert int(size.input_value()) < first
    heights = []
    for value in ("4", "40"):
        size.fill(value)
        drag(page, (0.5, 0.5))
        heights.append(np.count_nonzero(mask()[:, 64] >= 128))
        press("Clear")
    assert heights[0] == pytest.approx(4, abs=1)
    assert heights[1] == pytest.approx(40, abs=1)


def test_shortcuts_do_not_act_while_people_write(page: Page, mask: Callable[[], Mask]) -> None:
    paint_middle(page)
    before = mask()
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("")
    prompt.press_sequentially("be [e] b")
    prompt.press("Control+z")
    assert np.array_equal(mask(), before)
    expect(page.get_by_role("button", name="Brush")).to_have_attribute("aria-pressed", "true")


def test_the_keyboard_paints(page: Page, mask: Callable[[], Mask]) -> None:
    canvas = page.get_by_role("application", name="Mask editor")
    canvas.focus()
    page.keyboard.press("Enter")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    painted = mask()
    assert painted[64, 64] == painted[64, 90] == 255
    assert painted[:, :50].max() == painted[80:].max() == 0
    canvas.focus()
    page.keyboard.press("e")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert mask()[70, 100] == 0


def test_a_saved_mask_can_be_loaded(
    page: Page, mask: Callable[[], Mask], press: Press, tmp_path: Path
) -> None:
    paint_middle(page)
    before = mask()
    file = saved(page, "Save mask", tmp_path)
    with Image.open(file) as image:
        assert (image.format, image.size) == ("PNG", (128, 128))
    press("Clear")
    page.locator("#mask-file").set_input_files(file)
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    page.wait_for_timeout(300)
    assert np.abs(mask().astype(int) - before).max() <= 1
    drag(page, (0.35, 0.2))
    assert mask().astype(int).sum() > before.astype(int).sum()
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert mask().max() == 0


def test_a_mask_of_another_size_is_refused(page: Page) -> None:
    wrong = {"name": "mask.png", "mimeType": "image/png", "buffer": png_of(Image.new("L", (64, 32)))}
    page.locator("#mask-file").set_input_files(wrong)  # type: ignore[arg-type]
    expect(page.get_by_role("alert")).to_have_text(
        "The mask is 64 x 32, the image 128 x 128: they must have the same size."
    )


def test_a_large_mask_keeps_its_pixels(page: Page, mask: Callable[[], Mask]) -> None:
    size = (3000, 2400)
    open_image(page, Image.new("RGB", size, "gray"))
    checks = (np.indices((2400, 3000)).sum(axis=0) % 2 * 255).astype(np.uint8)
    file = {"name": "mask.png", "mimeType": "image/png", "buffer": png_of(Image.fromarray(checks))}
    page.locator("#mask-file").set_input_files(file)  # type: ignore[arg-type]
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    assert np.array_equal(mask(), checks)


_FILE_EVENT = """([kind, name, type, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type }));
  const event = kind === "paste"
    ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_images_are_pasted_and_dropped(page: Page, mask: Callable[[], Mask], kind: str) -> None:
    paint_middle(page)
    page.evaluate(_FILE_EVENT, [kind, "a.png", "image/png", list(png_of(Image.new("RGB", (40, 30))))])
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    assert mask().shape == (30, 40)


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("a.txt", "text/plain", b"nothing"),
        ("a.png", "image/png", b"\x89PNG\r\n\x1a\n nothing"),
        ("a.jpg", "image/jpeg", b"\xff\xd8 nothing"),
    ],
)
def test_what_is_no_image_is_refused_and_the_old_one_kept(
    page: Page, mask: Callable[[], Mask], name: str, kind: str, content: bytes
) -> None:
    open_file(page, content, name, kind)
    expect(page.get_by_role("alert")).to_contain_text(f"The file {name} cannot be read as an image")
    assert mask().shape == (128, 128)


@pytest.mark.parametrize("kind", ["svg+xml", "gif", "avif"])
def test_a_format_that_the_server_does_not_take_is_refused(page: Page, kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "GIF")
    open_file(page, file.getvalue(), "a.file", f"image/{kind}")
    expect(page.get_by_role("alert")).to_have_text(
        "The file a.file is of another format than this server takes: PNG, JPEG, WebP."
    )


def test_touch_paints_and_two_fingers_zoom(visit: Visit, server: str, tmp_path: Path) -> None:
    page = visit(server, viewport={"width": 390, "height": 844}, has_touch=True)
    open_example(page)
    device = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    left, middle, right = (canvas_point(page, across, 0.5) for across in (0.4, 0.5, 0.6))
    touch("touchStart", left)
    for point in (middle, right):
        touch("touchMove", point)
    touch("touchEnd")
    painted = save_mask(page, tmp_path)
    assert painted[64, 64] == 255
    before = page.locator("#canvas").screenshot()
    left, right = (canvas_point(page, across, 0.5) for across in (0.4, 0.6))
    touch("touchStart", left)
    touch("touchStart", left, right)
    for spread in (20, 40, 60):
        touch("touchMove", (left[0] - spread, left[1]), (right[0] + spread, right[1]))
    touch("touchEnd")
    page.wait_for_timeout(200)
    assert np.array_equal(save_mask(page, tmp_path), painted)
    assert page.locator("#canvas").screenshot() != before
