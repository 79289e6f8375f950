"""From an image and a mask to the tensors of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from inpaintrt.images.arrays import tensor_from_image, tensor_from_mask, tensor_from_soft_mask
from inpaintrt.images.as_diffusers import prepare_as_diffusers
from inpaintrt.images.fills import fill_masked
from inpaintrt.images.frames import choose_frame
from inpaintrt.images.loading import DEFAULT_MAX_PIXELS, load_mask
from inpaintrt.images.masks import invert, modify
from inpaintrt.images.pasting import Blend, Replacement
from inpaintrt.images.prepared import LatentImage, Prepared, assemble
from inpaintrt.images.resizing import resize
from inpaintrt.images.run_sizes import RunSizes
from inpaintrt.images.scenes import compose_scene, load_input_image, load_mask_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inpaintrt.images.loading import ImageSource
    from inpaintrt.images.scenes import Scene
    from inpaintrt.options import Options

__all__ = ["prepare"]


def prepare(
    image: ImageSource | LatentImage | None,
    mask: ImageSource | None,
    options: Options,
    *,
    native: tuple[int, int],
    factor: int,
    built: Sequence[tuple[int, int]] = (),
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Prepared:
    """Turn an image and its mask into the tensors of a run.

    Every image becomes 8-bit RGB first, with its transparency kept aside; that is also true of arrays,
    which diffusers resizes without antialiasing.

    Args:
        image: The image, as for `load_image`; at least 8 x 8. None for a blank one, which is painted over, as
            one is whose latents are there.
        mask: White is repainted, as for `load_mask`; of the image's size. The model repaints from 128 of
            255 on, and the result is blended by the mask's grey values. None if only margins are repainted,
            or everything.
        options: Sizes, crop, mask and fill.
        native: Height and width that the checkpoint was trained at.
        factor: Pixels along a side of one latent pixel, of which height and width of a run are multiples.
        built: Heights and widths that the engines were built for; empty if they take any. What the caller
            leaves open then runs at one of these: scaled to fit, the rest filled up by reflection.
        max_pixels: Maximum number of pixels of the image and of the mask.

    Raises:
        ImageError: The image cannot be read or is smaller than 8 x 8.
        MaskError: The mask cannot be read, is missing, or does not have the image's size; in diffusers'
            crop mode also if it is black.
        ParameterError: `height` or `width` does not fit `factor`, or is not among those built.
    """
    sizes = RunSizes((native[1], native[0]), factor, tuple((width, height) for height, width in built))
    if image is None:
        return _blank(sizes.asked(options), factor)
    if isinstance(image, LatentImage):
        return _latent(image, mask, options, sizes, max_pixels)
    loaded_image = load_input_image(image, max_pixels)
    if options["compat"] == "diffusers":
        return prepare_as_diffusers(loaded_image, mask, options, sizes, max_pixels)
    loaded_mask = load_mask_for(loaded_image, mask, options, max_pixels)
    margins = options["margins"]
    canvas = loaded_image.width + margins[0] + margins[2], loaded_image.height + margins[1] + margins[3]
    scene = compose_scene(loaded_image, loaded_mask, options, sizes.output(canvas, options))
    return _prepare_scene(scene, options, sizes)


def _blank(run: tuple[int, int], factor: int) -> Prepared:
    """Mid grey, all of which is painted."""
    width, height = run
    return assemble(
        np.zeros((1, 3, height, width), np.float32),
        np.ones((1, 1, height, width), np.float32),
        box=None,
        warnings=(),
        empty=False,
        fill="original",
        paste=Replacement(Image.new("RGB", run, (128, 128, 128))),
        factor=factor,
    )


def _latent(
    image: LatentImage, mask: ImageSource | None, options: Options, sizes: RunSizes, max_pixels: int
) -> Prepared:
    """A blank image of the size that the latents have, with the mask stretched to it."""
    height, width = (side * sizes.multiple for side in image.latents.shape[1:])
    run = width, height
    sizes.check(run)
    blank = _blank(run, sizes.multiple)
    whole, soft_mask = blank.mask, None
    if mask is not None:
        loaded = load_mask(mask, max_pixels=max_pixels)
        fitted = resize(modify(invert(loaded) if options["mask_invert"] else loaded, options), run)
        whole = tensor_from_mask(fitted)
        soft_mask = tensor_from_soft_mask(fitted) if options["mask_mode"] == "soft" else None
    return assemble(
        blank.image,
        whole,
        box=None,
        warnings=(),
        empty=False,
        fill="original",
        paste=blank.paste,
        factor=sizes.multiple,
        soft_mask=soft_mask,
        latents=image.latents[None],
    )


def _prepare_scene(scene: Scene, options: Options, sizes: RunSizes) -> Prepared:
    frame = choose_frame(scene, options, sizes)
    part = frame.part(scene.colors)
    image = tensor_from_image(frame.surround(part))
    mask = tensor_from_mask(frame.mask_run(scene.mask))
    soft = options["mask_mode"] == "soft"
    whole = frame.box == (0, 0, *scene.size)
    return assemble(
        fill_masked(image, mask, options["fill"]),
        mask,
        box=None if whole else frame.box,
        warnings=() if soft else _warnings(mask, scene.mask, sizes.multiple),
        empty=not (np.asarray(scene.mask) if soft else mask).any(),
        fill=options["fill"],
        paste=Blend(
            scene.colors,
            scene.alpha,
            frame.blend(scene.mask.point(_touched) if soft else scene.mask),
            frame.box,
            frame.content,
            reference=part if options["match_colors"] else None,
        ),
        factor=sizes.multiple,
        soft_mask=tensor_from_soft_mask(frame.soft_run(scene.mask)) if soft else None,
    )


def _touched(weight: int) -> int:
    return 255 if weight else 0


def _warnings(mask: NDArray[np.float32], given: Image.Image, factor: int) -> tuple[str, ...]:
    if not mask.any():
        brightest = int(np.asarray(given).max())
        return (
            "The mask leaves nothing to repaint, so the image comes back unchanged: white is repainted "
            f"from 128 of 255 on, and the mask's brightest value is {brightest}.",
        )
    seen = np.kron(mask[0, 0, ::factor, ::factor], np.ones((factor, factor)))
    if (seen * mask[0, 0]).sum() < mask.sum() / 2:
        return (
            f"The mask is so thin that the model, which sees one pixel in {factor}, misses most of it: "
            f"a mask_grow of {factor} or more lets it see all of it.",
        )
    return ()
