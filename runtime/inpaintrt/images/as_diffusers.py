"""The picture part of StableDiffusionInpaintPipeline, bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inpaintrt.errors import MaskError
from inpaintrt.images.arrays import tensor_from_image, tensor_from_mask
from inpaintrt.images.loading import load_mask
from inpaintrt.images.masks import bounding_box, invert, modify
from inpaintrt.images.pasting import Overlay, Replacement
from inpaintrt.images.prepared import Prepared, assemble
from inpaintrt.images.regions import crop_region
from inpaintrt.images.resizing import resize, resize_to_fit

if TYPE_CHECKING:
    from PIL import Image

    from inpaintrt.images.loading import ImageSource
    from inpaintrt.images.run_sizes import RunSizes
    from inpaintrt.options import Options

__all__ = ["prepare_as_diffusers"]


def prepare_as_diffusers(
    picture: Image.Image,
    mask_source: ImageSource | None,
    options: Options,
    sizes: RunSizes,
    max_pixels: int,
) -> Prepared:
    """Do what StableDiffusionInpaintPipeline does: stretch, or crop and fit, without a look at the sizes."""
    if mask_source is None:
        raise MaskError("there is no mask", expected="a mask")
    run = sizes.asked(options)
    loaded = load_mask(mask_source, max_pixels=max_pixels)
    mask = modify(invert(loaded) if options["mask_invert"] else loaded, options)
    colours = picture.convert("RGB")
    if options["padding_mask_crop"] is not None:
        return _crop_as_diffusers(colours, mask, run, options["padding_mask_crop"])
    stretched = resize(colours, run)
    return assemble(
        tensor_from_image(stretched),
        tensor_from_mask(resize(mask, run)),
        box=None,
        warnings=(),
        empty=False,
        fill="original",
        paste=Replacement(stretched),
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
    return assemble(
        tensor_from_image(resize_to_fit(colours.crop(box), run)),
        tensor_from_mask(resize_to_fit(mask.crop(box), run)),
        box=box,
        warnings=(),
        empty=False,
        fill="original",
        paste=Overlay(colours, mask, box),
    )
