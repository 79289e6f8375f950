"""From a picture and a mask to the tensors of a run, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.errors import ImageError, MaskError, ParameterError
from inpaintrt.images.arrays import image_from_tensor, tensor_from_image, tensor_from_mask
from inpaintrt.images.fills import fill_masked
from inpaintrt.images.frames import choose_frame, native_run, output_size
from inpaintrt.images.loading import DEFAULT_MAX_PIXELS, ImageSource, load_mask
from inpaintrt.images.masks import Box, bounding_box, invert, modify
from inpaintrt.images.options import Fill, ImageOptions
from inpaintrt.images.pasting import Blend, Overlay, Paste, Replacement
from inpaintrt.images.regions import crop_region
from inpaintrt.images.resizing import resize, resize_to_fit
from inpaintrt.images.scenes import compose_scene, load_mask_for, load_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from inpaintrt.images.scenes import Scene

__all__ = ["Prepared", "paste_back", "prepare"]

LATENT_FACTOR = 8
"""Pixels along a side of one latent pixel."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """One picture, ready to run.

    Attributes:
        image: `[1, 3, height, width]` float32 in [-1, 1], what the run starts from.
        mask: `[1, 1, height, width]` float32 in {0, 1}; 1 is repainted.
        masked_image: `[1, 3, height, width]` float32, the image with 0 under the mask.
        latent_mask: `[1, 1, height/8, width/8]` float32 in {0, 1}, the nearest pixels of the mask.
        box: The part of the canvas that runs; None if it is the whole.
        warnings: What the caller should know, one sentence each.
        empty: Nothing is to be repainted, and `original` is the answer. Never set where diffusers runs
            anyway.
        fill: What the first image is to hold under the mask; "noise" is left to whoever makes the latents.
        original: The picture that comes back if nothing is repainted.
        paste: How a result is handed back.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.float32]
    masked_image: NDArray[np.float32]
    latent_mask: NDArray[np.float32]
    box: Box | None
    warnings: tuple[str, ...]
    empty: bool
    fill: Fill
    original: Image.Image
    paste: Paste


def prepare(
    image: ImageSource,
    mask: ImageSource | None,
    options: ImageOptions,
    *,
    native: tuple[int, int],
    multiple: int = LATENT_FACTOR,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Prepared:
    """Turn a picture and its mask into the tensors of a run.

    Every picture becomes 8-bit RGB first, with its transparency kept aside; that is also true of arrays,
    which diffusers resizes without antialiasing.

    Args:
        image: The picture, as for `load_image`; at least 8 x 8.
        mask: White is repainted, as for `load_mask`; of the picture's size. None if only margins are
            repainted.
        options: Sizes, crop, mask and fill.
        native: Height and width that the checkpoint was trained at.
        multiple: What height and width of a run must be multiples of; itself a multiple of 8.
        max_pixels: The most pixels that the picture and the mask may have.

    Raises:
        ImageError: The picture cannot be read or is smaller than 8 x 8.
        MaskError: The mask cannot be read, is missing, or does not have the picture's size; in diffusers'
            crop mode also if it is black.
        ParameterError: `height` or `width` does not fit `multiple`.
    """
    if multiple <= 0 or multiple % LATENT_FACTOR:
        raise ParameterError(
            "multiple must fit the latent grid", received=multiple, expected="8, 16, 24, ..."
        )
    picture = load_picture(image, max_pixels)
    native_size = native[1], native[0]
    if options.compat == "diffusers":
        return _prepare_as_diffusers(picture, mask, options, native_size, multiple, max_pixels)
    loaded = load_mask_for(picture, mask, options, max_pixels)
    margins = options.margins
    canvas = picture.width + margins[0] + margins[2], picture.height + margins[1] + margins[3]
    scene = compose_scene(picture, loaded, options, output_size(canvas, options, multiple))
    return _prepare_scene(scene, options, native_size, multiple)


def paste_back(prepared: Prepared, decoded: NDArray[np.float32]) -> Image.Image:
    """Turn a decoded picture into the one to hand back.

    Outside `compat="diffusers"` pixels where the mask (grown and blurred as asked) is 0 are the source's, bit
    by bit, once the source was converted to 8-bit RGB; its transparency is kept.

    Args:
        prepared: What `prepare` made.
        decoded: `[3, height, width]` float32 in [-1, 1], of the run's size.

    Raises:
        ImageError: The decoded picture does not have the run's size.
        EngineRunError: It holds NaN or infinite values.
    """
    expected = prepared.image.shape[1:]
    if decoded.shape != expected:
        raise ImageError(
            "the decoded picture does not have the run's size",
            received=list(decoded.shape),
            expected=list(expected),
        )
    return prepared.paste.apply(image_from_tensor(decoded))


def _prepare_scene(scene: Scene, options: ImageOptions, native: tuple[int, int], multiple: int) -> Prepared:
    frame = choose_frame(scene, options, native, multiple)
    image = tensor_from_image(frame.image_run(scene.colours))
    mask = tensor_from_mask(frame.mask_run(scene.mask))
    whole = frame.box == (0, 0, *scene.size)
    return _assemble(
        fill_masked(image, mask, options.fill),
        mask,
        box=None if whole else frame.box,
        warnings=_warnings(mask, scene.mask),
        empty=not mask.any(),
        fill=options.fill,
        original=scene.picture(),
        paste=Blend(scene.colours, scene.alpha, frame.blend(scene.mask), frame.box, frame.content),
    )


def _assemble(
    image: NDArray[np.float32],
    mask: NDArray[np.float32],
    *,
    box: Box | None,
    warnings: tuple[str, ...],
    empty: bool,
    fill: Fill,
    original: Image.Image,
    paste: Paste,
) -> Prepared:
    """Derive the masked image and the latent mask: torch's "nearest" at a factor of 8 is every 8th pixel."""
    masked_image = image * (mask < 0.5)
    latent_mask = np.ascontiguousarray(mask[:, :, ::LATENT_FACTOR, ::LATENT_FACTOR])
    return Prepared(image, mask, masked_image, latent_mask, box, warnings, empty, fill, original, paste)


def _warnings(mask: NDArray[np.float32], given: Image.Image) -> tuple[str, ...]:
    if not mask.any():
        brightest = int(np.asarray(given).max())
        return (
            "The mask leaves nothing to repaint, so the picture comes back unchanged: white is repainted "
            f"from 128 of 255 on, and the mask's brightest value is {brightest}.",
        )
    seen = np.kron(mask[0, 0, ::LATENT_FACTOR, ::LATENT_FACTOR], np.ones((LATENT_FACTOR, LATENT_FACTOR)))
    if (seen * mask[0, 0]).sum() < mask.sum() / 2:
        return (
            "The mask is so thin that the model, which sees one pixel in 8, misses most of it: "
            "a mask_grow of 8 or more lets it see all of it.",
        )
    return ()


def _prepare_as_diffusers(
    picture: Image.Image,
    mask_source: ImageSource | None,
    options: ImageOptions,
    native: tuple[int, int],
    multiple: int,
    max_pixels: int,
) -> Prepared:
    """Do what StableDiffusionInpaintPipeline does: stretch, or crop and fit, without a look at the sizes."""
    if mask_source is None:
        raise MaskError("there is no mask", expected="a mask")
    run = native_run(options, native, multiple)
    loaded = load_mask(mask_source, max_pixels=max_pixels)
    mask = modify(invert(loaded) if options.mask_invert else loaded, options)
    colours = picture.convert("RGB")
    if options.padding_mask_crop is not None:
        return _crop_as_diffusers(colours, mask, run, options.padding_mask_crop)
    stretched = resize(colours, run)
    return _assemble(
        tensor_from_image(stretched),
        tensor_from_mask(resize(mask, run)),
        box=None,
        warnings=(),
        empty=False,
        fill="original",
        original=stretched,
        paste=Replacement(),
    )


def _crop_as_diffusers(
    colours: Image.Image, mask: Image.Image, run: tuple[int, int], padding: int
) -> Prepared:
    bounds = bounding_box(mask, 1)
    if bounds is None:
        raise MaskError(
            "the mask is black, so there is no region to crop", hint="paint what is to change in white"
        )
    if mask.size != colours.size:
        raise MaskError(
            "with padding_mask_crop the mask needs the picture's size",
            received=f"mask {mask.width} x {mask.height}, picture {colours.width} x {colours.height}",
            expected="the same width and height",
        )
    box = crop_region(bounds, mask.size, run, padding)
    return _assemble(
        tensor_from_image(resize_to_fit(colours.crop(box), run)),
        tensor_from_mask(resize_to_fit(mask.crop(box), run)),
        box=box,
        warnings=(),
        empty=False,
        fill="original",
        original=colours,
        paste=Overlay(colours, mask, box),
    )
