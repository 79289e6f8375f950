"""An image and its mask, checked against each other, on the canvas that the result will have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

from inpaintrt.errors import ImageError, MaskError, ParameterError
from inpaintrt.images.loading import DEFAULT_MAX_PIXELS, ImageSource, load_image, load_mask
from inpaintrt.images.masks import cover, invert, modify
from inpaintrt.images.resizing import resize
from inpaintrt.options import Options

__all__ = ["Scene", "compose_scene", "load_input_image", "load_mask_for", "with_alpha"]

_MIN_SIDE = 8


@dataclass(frozen=True, eq=False)
class Scene:
    """The canvas.

    Attributes:
        colors: The image, mode "RGB".
        alpha: Its transparency, mode "L"; None if it has none.
        mask: White is repainted, grey is blended, mode "L", of the same size.
    """

    colors: Image.Image
    alpha: Image.Image | None
    mask: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.colors.size


def with_alpha(colors: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Add a transparency channel to an image if there is one."""
    if alpha is None:
        return colors
    layered = colors.copy()
    layered.putalpha(alpha)
    return layered


def load_input_image(source: ImageSource, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Load an image, and refuse one that is smaller than a latent pixel."""
    image = load_image(source, max_pixels=max_pixels)
    if min(image.size) < _MIN_SIDE:
        raise ImageError(
            "the image is too small",
            received=f"{image.width} x {image.height}",
            expected=f"at least {_MIN_SIDE} x {_MIN_SIDE}",
            hint="enlarge it first",
        )
    return image


def load_mask_for(
    image: Image.Image,
    source: ImageSource | None,
    options: Options,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Image.Image:
    """Load a mask of the image's size, inverted if asked; without a source, margins are white, or all."""
    if source is None and any(options["margins"]):
        return Image.new("L", image.size, 0)
    if source is None:
        return Image.new("L", image.size, 255)
    mask = load_mask(source, max_pixels=max_pixels)
    if mask.size != image.size:
        raise MaskError(
            "the mask does not have the image's size",
            received=f"mask {mask.width} x {mask.height}, image {image.width} x {image.height}",
            expected="the same width and height (after EXIF orientation)",
            hint="resize the mask to the image",
        )
    return invert(mask) if options["mask_invert"] else mask


def compose_scene(
    image: Image.Image, mask: Image.Image, options: Options, output: tuple[int, int] | None
) -> Scene:
    """Add the margins, grow and blur the mask, and stretch everything to the output size if there is one."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colors = image if alpha is None else image.convert("RGB")
    if any(options["margins"]):
        _check_canvas(image.size, options["margins"])
        colors = _extend(colors, options["margins"], repeat_edge=True)
        mask = _extend(mask, options["margins"], repeat_edge=False)
        alpha = None if alpha is None else _extend(alpha, options["margins"], repeat_edge=False)
    mask = modify(mask, options)
    if output is None or output == colors.size:
        return Scene(colors, alpha, mask)
    alpha = None if alpha is None else resize(alpha, output)
    return Scene(resize(colors, output), alpha, _resize_mask(mask, output))


def _resize_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Stretch a mask: no stroke is lost, and no specks appear, as a Lanczos filter leaves near edges."""
    resized = mask.resize(size, Image.Resampling.BILINEAR)
    if size[0] >= mask.width and size[1] >= mask.height:
        return resized
    return ImageChops.lighter(resized, cover(mask, size))


def _check_canvas(size: tuple[int, int], margins: tuple[int, int, int, int]) -> None:
    width, height = size[0] + margins[0] + margins[2], size[1] + margins[1] + margins[3]
    if width * height > DEFAULT_MAX_PIXELS:
        raise ParameterError(
            "the margins make the canvas too large",
            received=f"{width} x {height}",
            expected=f"at most {DEFAULT_MAX_PIXELS} pixels",
        )


def _extend(image: Image.Image, margins: tuple[int, int, int, int], *, repeat_edge: bool) -> Image.Image:
    """Add margins that repeat the outermost pixels, or that are white."""
    left, top, right, bottom = margins
    values = np.asarray(image)
    padding = [(top, bottom), (left, right), (0, 0)][: values.ndim]
    if not repeat_edge:
        return Image.fromarray(np.pad(values, padding, mode="constant", constant_values=255))
    extended = Image.fromarray(np.pad(values, padding, mode="edge"))
    extended.info = dict(image.info)
    return extended
