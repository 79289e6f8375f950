"""What goes wrong is said in words beside the form."""

import io
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from inpaintrt.loading import LoadedBundle
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.settings import ServerSettings
from server.conftest import Serve, wait_until
from server.ui.conftest import Visit
from server.ui.person import (
    fill_in,
    finish,
    open_example,
    open_file,
    open_image,
    paint_middle,
    set_field,
    status,
)
from server.uploads import png_of

KEY = "a-key-of-good-length"
_ENDS_WITH_WAIT = re.compile(r"Try again in \d+ s\.$")


def _start(page: Page) -> None:
    page.get_by_role("button", name="Paint", exact=True).click()


def _told(page: Page, text: str) -> None:
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(text)
    expect(alert).to_be_in_viewport()
    expect(page.get_by_role("progressbar", name="Progress")).to_be_hidden()


def _marked(page: Page, label: str) -> None:
    field = page.get_by_label(label, exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_attribute("aria-describedby", "alert")
    expect(field).to_be_focused()
    expect(field).to_be_visible()


@pytest.fixture
def ready(visit: Visit, server: str) -> Page:
    """A page that lacks nothing, of which the test makes a request that is refused."""
    page = visit(server, refusals=True)
    open_example(page)
    paint_middle(page)
    fill_in(page)
    return page


def test_margins_need_an_image(visit: Visit, server: str) -> None:
    page = visit(server, refusals=True)
    set_field(page, "Left", "8")
    _start(page)
    _told(page, "There is a mask or a margin, and no image")


@pytest.mark.parametrize(
    ("value", "told"),
    [("100", "Width: "), ("16384", "The size to run at is too large")],
)
def test_a_size_that_cannot_be_made_is_marked(visit: Visit, server: str, value: str, told: str) -> None:
    page = visit(server, refusals=True)
    set_field(page, "Width", value)
    _start(page)
    _told(page, told)
    _marked(page, "Width")


def test_a_field_that_is_out_of_range_is_named_before_anything_is_sent(page: Page) -> None:
    open_example(page)
    paint_middle(page)
    set_field(page, "Steps", "999")
    page.get_by_text("Options").click()
    _start(page)
    _told(page, "Steps: ")
    _marked(page, "Steps")
    set_field(page, "Steps", "4")
    finish(page)
    expect(page.get_by_label("Steps", exact=True)).not_to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize(
    ("label", "name", "value", "told"),
    [
        ("Guidance scale", "guidance_scale", "60", "'guidance_scale' is not valid (received: '60'"),
        ("Strength", "strength", "1.5", "'strength' is not valid"),
        ("Blur", "mask_blur", "9999", "'mask_blur' is not valid"),
        ("Left", "margin_left", "99999", "'margins.0' is not valid"),
    ],
)
def test_a_field_that_the_server_refuses_is_marked(
    ready: Page, label: str, name: str, value: str, told: str
) -> None:
    ready.locator(f"[name={name}]").evaluate("field => field.removeAttribute('max')")
    set_field(ready, label, value)
    _start(ready)
    _told(ready, told)
    _marked(ready, label)


def test_a_prompt_that_is_too_long_is_marked(ready: Page) -> None:
    prompt = ready.get_by_label("Prompt", exact=True)
    prompt.evaluate("field => field.removeAttribute('maxlength')")
    prompt.fill("a " * 6000)
    _start(ready)
    _told(ready, "The prompt is too long (received: 12000 characters; expected: at most 10000).")
    _marked(ready, "Prompt")


def test_a_sampler_that_the_server_does_not_know_is_marked(ready: Page) -> None:
    ready.get_by_label("Sampler").evaluate(
        "list => { list.options[1].value = 'abacus'; list.selectedIndex = 1; }"
    )
    _start(ready)
    _told(ready, "abacus")
    _marked(ready, "Sampler")


@pytest.fixture
def small_server(service: BatchingService, serve: Serve) -> str:
    """The address of a server that takes small images only."""
    settings = ServerSettings(max_pixels=128 * 128, max_body=64 * 1024)
    return serve(make_application(service, settings))


def _noise(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8))


def test_an_image_that_the_server_would_refuse_is_refused_at_once(visit: Visit, small_server: str) -> None:
    page = visit(small_server)
    open_file(page, png_of(Image.new("RGB", (200, 100))), "many.png")
    _told(page, "The image is 200 x 100, which is 0 megapixels; this server takes at most 0 megapixels.")
    open_file(page, png_of(_noise(200)), "long.png")
    _told(page, "The file long.png has 0.1 MB; this server takes at most 0.1 MB.")
    expect(page.locator("#invitation")).to_be_visible()


def test_the_image_and_its_mask_must_fit_together(
    visit: Visit, service: BatchingService, serve: Serve
) -> None:
    image = png_of(_noise(120))
    settings = ServerSettings(max_body=len(image) + 1024)
    page = visit(serve(make_application(service, settings)))
    open_file(page, image)
    expect(page.locator("#invitation")).to_be_hidden()
    paint_middle(page)
    _start(page)
    _told(page, "The image and its mask have")


def test_what_the_server_finds_too_large_is_told(visit: Visit, small_server: str) -> None:
    page = visit(small_server, refusals=True)
    # The page does not know the limits.
    page.route("**/info", lambda route: route.abort())
    page.reload()
    _told(page, "The connection to the server was lost")
    open_image(page, Image.new("RGB", (200, 100), "gray"))
    paint_middle(page)
    _start(page)
    _told(page, "The image has too many pixels (received: 200 x 100; expected: at most 16384 pixels).")
    open_image(page, _noise(200))
    paint_middle(page)
    _start(page)
    _told(page, "The image is too large for this server (received: ")


def test_a_damaged_image_is_told(visit: Visit, server: str) -> None:
    page = visit(server, refusals=True)
    file = io.BytesIO()
    _noise(128).save(file, "JPEG")
    open_file(page, file.getvalue()[:9000], "cut.jpg", "image/jpeg")
    expect(page.locator("#invitation")).to_be_hidden()
    paint_middle(page)
    _start(page)
    _told(page, "The file is damaged")


def test_a_full_queue_is_told_with_the_wait(visit: Visit, serve: Serve, demo: LoadedBundle) -> None:
    with BatchingService(demo, BatchingSettings(slots=1, queue=0)) as service:
        wait_until(lambda: service.snapshot.ready)
        page = visit(serve(make_application(service, ServerSettings())), refusals=True)
        open_example(page)
        paint_middle(page)
        fill_in(page)
        permit = service.admit()
        _start(page)
        _told(page, "The queue is full")
        expect(page.get_by_role("alert")).to_have_text(_ENDS_WITH_WAIT)
        permit.release()
        finish(page)
        expect(page.get_by_role("alert")).to_have_text("")


def test_a_server_that_stops_is_told(visit: Visit, serve: Serve, demo: LoadedBundle) -> None:
    with BatchingService(demo, BatchingSettings(slots=1)) as service:
        wait_until(lambda: service.snapshot.ready)
        page = visit(serve(make_application(service, ServerSettings())), refusals=True)
        open_example(page)
        paint_middle(page)
        service.drain()
        _start(page)
        _told(page, "The server is stopping")
        expect(page.get_by_role("alert")).to_have_text(_ENDS_WITH_WAIT)


def test_a_request_that_takes_too_long_is_told(visit: Visit, service: BatchingService, serve: Serve) -> None:
    page = visit(serve(make_application(service, ServerSettings(request_timeout=0.5))))
    open_example(page)
    paint_middle(page)
    fill_in(page, steps=200)
    _start(page)
    _told(page, "time")
    expect(page.get_by_role("application", name="Mask editor")).to_be_visible()
    wait_until(lambda: service.snapshot.outstanding == service.snapshot.active == 0)


def test_a_lost_connection_is_told(visit: Visit, service: BatchingService, serve: Serve) -> None:
    application = make_application(service, ServerSettings())
    page = visit(serve(application), refusals=True)
    open_example(page)
    paint_middle(page)
    fill_in(page, steps=200)
    _start(page)
    expect(status(page)).to_have_text(re.compile("of 20[01]$"))
    state = application.state.server.server_state
    loop = next(iter(state.connections)).loop
    for connection in list(state.connections):
        loop.call_soon_threadsafe(connection.transport.abort)
    _told(page, "The connection to the server was lost")
    page.context.set_offline(True)
    page.get_by_role("button", name="Example", exact=True).click()
    _told(page, "The connection to the server was lost")
    _start(page)
    _told(page, "The connection to the server was lost")
    page.context.set_offline(False)
    fill_in(page)
    finish(page)


@pytest.fixture
def guarded(service: BatchingService, serve: Serve, tmp_path: Path) -> str:
    """The address of a server with a key."""
    path = tmp_path / "keys"
    path.write_text(KEY)
    return serve(make_application(service, ServerSettings(api_key_file=path)))


def test_where_there_are_keys_the_page_asks_for_one(visit: Visit, guarded: str) -> None:
    page = visit(guarded, refusals=True)
    _told(page, "This server needs an API key")
    key = page.get_by_label("API key", exact=True).and_(page.locator("input"))
    expect(key).to_be_focused()
    expect(key).to_have_attribute("type", "password")
    key.fill("wrong-key-of-good-length")
    page.get_by_role("button", name="Use key").click()
    _told(page, "The server does not accept this API key")
    key.fill(KEY)
    key.press("Enter")
    expect(key).to_be_hidden()
    expect(page.get_by_role("alert")).to_have_text("")
    open_example(page)
    paint_middle(page)
    fill_in(page)
    finish(page)
    page.reload()
    expect(page.locator("#checkpoint")).to_have_text("demo")
    assert page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
    assert httpx.get(f"{guarded}/info").status_code == 401


def test_a_key_that_is_withdrawn_is_asked_for_again(visit: Visit, guarded: str) -> None:
    page = visit(guarded, refusals=True)
    key = page.get_by_label("API key", exact=True).and_(page.locator("input"))
    key.fill(KEY)
    key.press("Enter")
    expect(page.locator("#checkpoint")).to_have_text("demo")
    open_example(page)
    paint_middle(page)
    page.evaluate("sessionStorage.setItem('inpaintrt-api-key', 'a-withdrawn-key-of-length')")
    _start(page)
    _told(page, "The server does not accept this API key")
    expect(key).to_be_focused()
