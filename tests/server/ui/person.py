"""What a person does on the page."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page, expect

from server.uploads import png_of

__all__ = [
    "canvas_point",
    "canvas_points",
    "drag",
    "fill_in",
    "finish",
    "open_example",
    "open_file",
    "open_image",
    "paint_middle",
    "pixels",
    "save_mask",
    "saved",
    "set_field",
    "status",
]

Pixels = NDArray[np.int16]

STEPS = 4


def open_file(page: Page, content: bytes, name: str = "image.png", kind: str = "image/png") -> None:
    payload: FilePayload = {"name": name, "mimeType": kind, "buffer": content}
    page.locator("#image-file").set_input_files(payload)


def open_image(page: Page, image: Image.Image) -> None:
    open_file(page, png_of(image))
    expect(page.locator("#invitation")).to_be_hidden()


def open_example(page: Page) -> None:
    page.get_by_role("button", name="Start with the example").click()
    expect(page.locator("#invitation")).to_be_hidden()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a red balloon")


def canvas_point(page: Page, across: float, down: float) -> tuple[float, float]:
    """A point of the canvas on the screen, from 0, 0 at its left top to 1, 1."""
    return canvas_points(page, [(across, down)])[0]


def canvas_points(page: Page, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    canvas = page.locator("#canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    return [(box["x"] + box["width"] * across, box["y"] + box["height"] * down) for across, down in points]


def drag(page: Page, *points: tuple[float, float], button: Any = "left") -> None:
    """Move the mouse over points of the canvas with a button held down."""
    start, *others = canvas_points(page, points)
    page.mouse.move(*start)
    page.mouse.down(button=button)
    for point in others:
        page.mouse.move(*point, steps=2)
    page.mouse.up(button=button)


def paint_middle(page: Page) -> None:
    """Brush to and fro over the middle."""
    rows = (0.44, 0.5, 0.56)
    drag(page, *((across, down) for down in rows for across in (0.45, 0.55)))


def set_field(page: Page, name: str, value: str) -> None:
    """Fill a field in by its label, unfolding its part of the form first."""
    field = page.get_by_label(name, exact=True)
    for folded in page.locator("details:not([open])").filter(has=field).all():
        folded.locator("summary").click()
    field.fill(value)


def fill_in(page: Page, prompt: str = "a red balloon", *, steps: int = STEPS, seed: int = 3) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    set_field(page, "Steps", str(steps))
    set_field(page, "Seed", str(seed))


def status(page: Page) -> Locator:
    return page.get_by_role("status")


def finish(page: Page) -> None:
    """Press the button and wait for the result."""
    page.get_by_role("button", name="Paint", exact=True).click()
    expect(status(page)).to_have_text("Done.")


def saved(page: Page, button: str, folder: Path) -> Path:
    """What a button has the browser download."""
    with page.expect_download() as downloading:
        page.get_by_role("button", name=button, exact=True).click()
    path = folder / downloading.value.suggested_filename
    downloading.value.save_as(path)
    return path


def save_mask(page: Page, folder: Path) -> NDArray[np.uint8]:
    with Image.open(saved(page, "Save mask", folder)) as mask:
        return np.asarray(mask.convert("L"))


def pixels(source: Path | bytes | Image.Image) -> Pixels:
    if isinstance(source, Image.Image):
        return np.asarray(source.convert("RGB"), np.int16)
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return np.asarray(image.convert("RGB"), np.int16)
