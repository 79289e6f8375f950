"""Images as clients send them."""

import base64
import io
from collections.abc import Mapping

from PIL import Image, ImageOps

from inpaintrt.demo import load_scene

__all__ = ["FORM", "as_json", "base64_of", "files", "hole", "opened", "png_of"]

SCENE = load_scene()

FORM: Mapping[str, object] = {"prompt": SCENE.script.prompts[0], "num_inference_steps": 4, "seed": 7}
"""Fields of a short request."""


def png_of(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def files() -> dict[str, tuple[str, bytes, str]]:
    """The demo's image and mask, as file parts of a form."""
    return {
        "image": ("image.png", png_of(SCENE.image), "image/png"),
        "mask": ("mask.png", png_of(SCENE.mask), "image/png"),
    }


def hole(image: Image.Image = SCENE.image) -> bytes:
    """The image, transparent where the demo's mask is white."""
    layered = image.copy()
    layered.putalpha(ImageOps.invert(SCENE.mask))
    return png_of(layered)


def base64_of(image: Image.Image) -> str:
    return base64.b64encode(png_of(image)).decode()


def as_json(**more: object) -> dict[str, object]:
    """A short request as JSON."""
    return {**FORM, "image": base64_of(SCENE.image), "mask": base64_of(SCENE.mask), **more}


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image
