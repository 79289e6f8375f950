"""Painting a mask as a person does, and what comes of it."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Page, Route, expect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inpaintrt.loading import LoadedBundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.settings import ServerSettings
from inpaintrt_server.ui import load_files
from server.conftest import serving
from server.ui.conftest import Visit
from server.ui.person import (
    drag,
    fill_in,
    finish,
    open_example,
    open_file,
    paint_middle,
    pixels,
    save_mask,
    saved,
    set_field,
)
from server.uploads import SCENE

Forms = list[dict[str, bytes]]


class _Recorder:
    """Keeps the forms that arrive at a server, as their parts."""

    def __init__(self, app: ASGIApp, forms: Forms) -> None:
        self._app = app
        self._forms = forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""

        async def recording() -> Message:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.request" and not message.get("more_body") and body:
                self._forms.append(_parts(body))
                body = b""
            return message

        await self._app(scope, recording, send)


def _parts(body: bytes) -> dict[str, bytes]:
    boundary = body.split(b"\r\n", 1)[0]
    parts = {}
    for part in body.split(boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        (name,) = re.findall(rb' name="([^"]*)"', head)
        parts[name.decode()] = content.removesuffix(b"\r\n")
    return parts


@pytest.fixture(scope="module")
def forms() -> Forms:
    """What was sent to `recording_server`; a test takes what it caused."""
    return []


@pytest.fixture(scope="module")
def recording_server(service: BatchingService, settings: ServerSettings, forms: Forms) -> Iterator[str]:
    """The address of a server that keeps what it is sent."""
    application = make_application(service, settings)
    application.add_middleware(_Recorder, forms=forms)
    with serving(application) as address:
        yield address


@pytest.fixture(scope="module")
def pipeline(demo: LoadedBundle) -> InpaintPipeline:
    return InpaintPipeline(demo)


@pytest.fixture
def recorded_page(visit: Visit, recording_server: str, forms: Forms) -> Page:
    forms.clear()
    return visit(recording_server)


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 1280, "height": 900}},
        {"viewport": {"width": 390, "height": 844}, "has_touch": True},
    ],
    ids=["desktop", "phone"],
)
def test_the_result_changed_where_the_mask_was_painted_alone(
    visit: Visit, server: str, tmp_path: Path, options: dict[str, object]
) -> None:
    page = visit(server, **options)
    open_example(page)
    paint_middle(page)
    mask = save_mask(page, tmp_path)
    assert mask.shape == (128, 128)
    assert 300 < np.count_nonzero(mask == 255) < 6000
    fill_in(page)
    finish(page)
    expect(page.get_by_role("img", name="Result: a red balloon")).to_be_in_viewport(ratio=0.9)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0
    after, before = pixels(saved(page, "Download", tmp_path)), pixels(SCENE.image)
    difference = np.abs(after - before).max(axis=2)
    assert difference[mask == 0].max() == 0
    assert difference[mask == 255].mean() > 3


def test_the_downloaded_file_says_how_it_was_made(page: Page, tmp_path: Path) -> None:
    open_example(page)
    paint_middle(page)
    fill_in(page, "a cloud", seed=11)
    finish(page)
    path = saved(page, "Download", tmp_path)
    assert path.name == "inpaintrt-11.png"
    with Image.open(path) as image:
        made = json.loads(image.text["parameters"])  # type: ignore[attr-defined]
    assert (made["prompt"], made["seed"], made["num_inference_steps"]) == ("a cloud", 11, 4)


def _photograph() -> tuple[bytes, Image.Image]:
    """A JPEG of 12 megapixels that lies on its side, and how it looks upright."""
    across, down = np.meshgrid(np.linspace(0, 255, 4000), np.linspace(0, 255, 3000))
    stored = Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    stored.save(file, "JPEG", quality=90, exif=exif)
    with Image.open(io.BytesIO(file.getvalue())) as opened:
        upright = ImageOps.exif_transpose(opened)
    return file.getvalue(), upright


def test_a_large_photograph_is_sent_byte_for_byte_and_painted_upright(
    recorded_page: Page, forms: Forms, tmp_path: Path
) -> None:
    page = recorded_page
    photograph, upright = _photograph()
    open_file(page, photograph, "photograph.jpg", "image/jpeg")
    expect(page.locator("#invitation")).to_be_hidden()
    # A short stroke near the top of the upright image, which is its left edge as stored.
    drag(page, (0.5, 0.15), (0.52, 0.15))
    fill_in(page, steps=2)
    finish(page)
    (form,) = forms
    assert form["image"] == photograph
    with Image.open(io.BytesIO(form["mask"])) as file:
        mask = np.asarray(file.convert("L"))
    assert mask.shape == (4000, 3000)
    rows, columns = np.nonzero(mask)
    assert 200 < rows.mean() < 1200
    assert 1300 < columns.mean() < 1800
    after, before = pixels(saved(page, "Download", tmp_path)), pixels(upright)
    assert after.shape == before.shape
    assert np.array_equal(after[mask == 0], before[mask == 0])
    assert np.abs(after - before)[mask == 255].mean() > 1


def test_every_option_reaches_the_server(recorded_page: Page, forms: Forms) -> None:
    page = recorded_page
    open_example(page)
    paint_middle(page)
    fill_in(page, "a blue balloon", steps=3, seed=5)
    for name, value in (
        ("Negative prompt", "a cloud"),
        ("Guidance scale", "4.5"),
        ("Strength", "0.9"),
        ("Number of results", "2"),
        ("Blur", "1.5"),
        ("Grow, or shrink below 0", "2"),
        ("Left", "8"),
        ("Bottom", "16"),
    ):
        set_field(page, name, value)
    page.get_by_label("Sampler", exact=True).select_option("ddim")
    finish(page)
    (form,) = forms
    texts = {name: content.decode() for name, content in form.items() if name not in ("image", "mask")}
    assert texts == {
        "prompt": "a blue balloon",
        "negative_prompt": "a cloud",
        "num_inference_steps": "3",
        "guidance_scale": "4.5",
        "strength": "0.9",
        "scheduler": "ddim",
        "num_images_per_prompt": "2",
        "mask_blur": "1.5",
        "mask_grow": "2",
        "margins": "[8,0,0,16]",
        "seed": "[5,6]",
        "previews": "4",
    }
    assert form["image"] == load_files()["example.png"].content
    expect(page.locator("#result-summary")).to_contain_text("136 x 144")


def test_a_preset_is_shown_and_sent(recorded_page: Page, forms: Forms) -> None:
    page = recorded_page
    open_example(page)
    paint_middle(page)
    fill_in(page)
    page.get_by_label("Preset for few-step models").select_option("hyper-sd-2step")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("2")
    expect(page.get_by_label("Guidance scale", exact=True)).to_have_value("0")
    expect(page.get_by_label("Sampler", exact=True)).to_have_value("ddim")
    finish(page)
    sent = {name: forms[0][name] for name in ("preset", "num_inference_steps", "guidance_scale", "scheduler")}
    assert sent == {
        "preset": b"hyper-sd-2step",
        "num_inference_steps": b"2",
        "guidance_scale": b"0",
        "scheduler": b"ddim",
    }
    page.get_by_label("Preset for few-step models").select_option("")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("20")
    expect(page.get_by_label("Sampler", exact=True)).to_have_value("")


def test_margins_need_no_mask_and_the_original_lies_inside(
    recorded_page: Page, forms: Forms, tmp_path: Path
) -> None:
    page = recorded_page
    open_example(page)
    fill_in(page)
    set_field(page, "Right", "64")
    finish(page)
    assert "mask" not in forms[0]
    assert forms[0]["margins"] == b"[0,0,64,0]"
    after = pixels(saved(page, "Download", tmp_path))
    assert after.shape == (128, 192, 3)
    assert np.array_equal(after[:, :120], pixels(SCENE.image)[:, :120])
    frame, original = (page.locator(name).bounding_box() for name in ("#compare-frame", "#before"))
    assert frame is not None
    assert original is not None
    assert original["width"] / frame["width"] == pytest.approx(2 / 3, abs=0.01)


def test_without_an_image_the_prompt_alone_makes_one(
    recorded_page: Page, forms: Forms, pipeline: InpaintPipeline, tmp_path: Path
) -> None:
    page = recorded_page
    fill_in(page)
    set_field(page, "Strength", "0.5")
    set_field(page, "Blur", "3")
    finish(page)
    (form,) = forms
    assert form.keys().isdisjoint({"image", "mask", "strength", "mask_blur", "mask_grow", "width", "height"})
    expected = pipeline("a red balloon", num_inference_steps=4, seed=[3]).images[0]
    after = pixels(saved(page, "Download", tmp_path))
    assert np.abs(after - pixels(expected)).max() <= 1
    expect(page.get_by_label("Compare with the original")).to_be_hidden()
    expect(page.locator("#before")).to_be_hidden()
    page.get_by_role("button", name="Use as input").click()
    paint_middle(page)
    finish(page)
    expect(page.get_by_label("Compare with the original")).to_be_visible()


@pytest.mark.parametrize(("factor", "step", "minimum"), [(4, "4", "8"), (8, "8", "8"), (16, "16", "16")])
def test_sides_step_by_the_factor_of_the_servers_vae(
    visit: Visit, server: str, factor: int, step: str, minimum: str
) -> None:
    page = visit(server)

    def answer(route: Route) -> None:
        own = route.fetch()
        route.fulfill(response=own, json={**own.json(), "vae_scale_factor": factor})

    page.route("**/info", answer)
    page.reload()
    for name in ("Width", "Height"):
        side = page.get_by_label(name, exact=True)
        expect(side).to_have_attribute("step", step)
        expect(side).to_have_attribute("min", minimum)
        accepted = {}
        for size in (68, 72, 80):
            set_field(page, name, str(size))
            accepted[size] = side.evaluate("field => field.validity.valid")
        assert accepted == {size: size % factor == 0 for size in accepted}


def test_an_image_from_the_prompt_alone_has_the_size_that_is_chosen(
    recorded_page: Page, forms: Forms
) -> None:
    page = recorded_page
    expect(page.get_by_label("Height", exact=True)).to_have_attribute("placeholder", "128")
    fill_in(page)
    set_field(page, "Width", "96")
    finish(page)
    assert forms[0]["width"] == b"96"
    assert "height" not in forms[0]
    expect(page.locator("#result-summary")).to_contain_text("96 x 128")
    page.get_by_role("button", name="Edit").click()
    open_example(page)
    paint_middle(page)
    finish(page)
    assert "width" not in forms[1]


def test_where_nothing_is_painted_the_whole_image_changes(
    recorded_page: Page, forms: Forms, pipeline: InpaintPipeline, tmp_path: Path
) -> None:
    page = recorded_page
    open_example(page)
    fill_in(page)
    set_field(page, "Grow, or shrink below 0", "2")
    finish(page)
    set_field(page, "Strength", "0.5")
    finish(page)
    first, second = forms
    assert first.keys().isdisjoint({"mask", "strength", "mask_blur", "mask_grow"})
    assert (second["strength"], "mask" in second) == (b"0.5", False)
    made = pipeline("a red balloon", SCENE.image, num_inference_steps=4, seed=[3], strength=0.5)
    after = pixels(saved(page, "Download", tmp_path))
    assert np.abs(after - pixels(made.images[0])).max() <= 1
    expect(page.get_by_label("Compare with the original")).to_be_visible()


def test_without_an_option_the_defaults_are_sensible(recorded_page: Page, forms: Forms) -> None:
    page = recorded_page
    open_example(page)
    paint_middle(page)
    for _ in range(2):
        finish(page)
    first, second = forms
    assert first["num_inference_steps"] == b"20"
    assert first["guidance_scale"] == b"7.5"
    assert {"negative_prompt", "scheduler", "margins", "strength"}.isdisjoint(first)
    assert first["seed"] != second["seed"]
