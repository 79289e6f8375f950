"""The image part of StableDiffusionInpaintPipeline, bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.errors import MaskError
from inpaintrt.images.arrays import tensor_from_image, tensor_from_mask, tensor_from_soft_mask
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
    image: Image.Image,
    mask_source: ImageSource | None,
    options: Options,
    sizes: RunSizes,
    max_pixels: int,
) -> Prepared:
    """Do what StableDiffusionInpaintPipeline does: stretch, or crop and fit, without a look at the sizes."""
    colors = image.convert("RGB")
    if mask_source is None:
        return _image_to_image(colors, options, sizes)
    run = sizes.asked(options)
    loaded = load_mask(mask_source, max_pixels=max_pixels)
    mask = modify(invert(loaded) if options["mask_invert"] else loaded, options)
    soft = options["mask_mode"] == "soft"
    if options["padding_mask_crop"] is not None:
        return _crop_as_diffusers(colors, mask, run, options["padding_mask_crop"], sizes.multiple, soft=soft)
    stretched = resize(colors, run)
    return assemble(
        tensor_from_image(stretched),
        tensor_from_mask(resize(mask, run)),
        box=None,
        warnings=(),
        empty=False,
        fill="original",
        paste=Replacement(stretched),
        factor=sizes.multiple,
        soft_mask=tensor_from_soft_mask(resize(mask, run)) if soft else None,
    )


def _image_to_image(colors: Image.Image, options: Options, sizes: RunSizes) -> Prepared:
    """Do what StableDiffusionImg2ImgPipeline does: round the image's size down to the latent grid."""
    width, height = (
        max(side - side % sizes.multiple, sizes.multiple) if asked is None else asked
        for side, asked in zip(colors.size, (options["width"], options["height"]), strict=True)
    )
    sizes.check((width, height))
    stretched = resize(colors, (width, height))
    return assemble(
        tensor_from_image(stretched),
        np.ones((1, 1, height, width), np.float32),
        box=None,
        warnings=(),
        empty=False,
        fill="original",
        paste=Replacement(stretched),
        factor=sizes.multiple,
    )


def _crop_as_diffusers(
    colors: Image.Image,
    mask: Image.Image,
    run: tuple[int, int],
    padding: int,
    factor: int,
    *,
    soft: bool,
) -> Prepared:
    bounds = bounding_box(mask, 1)
    if bounds is None:
        raise MaskError(
            "the mask is black, so there is no region to crop", hint="paint what is to change in white"
        )
    if mask.size != colors.size:
        raise MaskError(
            "with padding_mask_crop the mask needs the image's size",
            received=f"mask {mask.width} x {mask.height}, image {colors.width} x {colors.height}",
            expected="the same width and height",
        )
    box = crop_region(bounds, mask.size, run, padding)
    return assemble(
        tensor_from_image(resize_to_fit(colors.crop(box), run)),
        tensor_from_mask(resize_to_fit(mask.crop(box), run)),
        box=box,
        warnings=(),
        empty=False,
        fill="original",
        paste=Overlay(colors, mask, box),
        factor=factor,
        soft_mask=tensor_from_soft_mask(resize_to_fit(mask.crop(box), run)) if soft else None,
    )
