"""From a picture and a mask to the tensors of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.errors import ParameterError
from inpaintrt.images.arrays import tensor_from_image, tensor_from_mask
from inpaintrt.images.as_diffusers import prepare_as_diffusers
from inpaintrt.images.fills import fill_masked
from inpaintrt.images.frames import choose_frame
from inpaintrt.images.loading import DEFAULT_MAX_PIXELS
from inpaintrt.images.pasting import Blend
from inpaintrt.images.prepared import LATENT_FACTOR, Prepared, assemble
from inpaintrt.images.run_sizes import RunSizes
from inpaintrt.images.scenes import compose_scene, load_mask_for, load_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from inpaintrt.images.loading import ImageSource
    from inpaintrt.images.scenes import Scene
    from inpaintrt.options import Options

__all__ = ["prepare"]


def prepare(
    image: ImageSource,
    mask: ImageSource | None,
    options: Options,
    *,
    native: tuple[int, int],
    multiple: int = LATENT_FACTOR,
    built: Sequence[tuple[int, int]] = (),
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Prepared:
    """Turn a picture and its mask into the tensors of a run.

    Every picture becomes 8-bit RGB first, with its transparency kept aside; that is also true of arrays,
    which diffusers resizes without antialiasing.

    Args:
        image: The picture, as for `load_image`; at least 8 x 8.
        mask: White is repainted, as for `load_mask`; of the picture's size. The model repaints from 128 of
            255 on, and the result is blended by the mask's grey values. None if only margins are repainted.
        options: Sizes, crop, mask and fill.
        native: Height and width that the checkpoint was trained at.
        multiple: What height and width of a run must be multiples of; itself a multiple of 8.
        built: Heights and widths that the engines were built for; empty if they take any. What the caller
            leaves open then runs at one of these: scaled to fit, the rest filled up by reflection.
        max_pixels: The most pixels that the picture and the mask may have.

    Raises:
        ImageError: The picture cannot be read or is smaller than 8 x 8.
        MaskError: The mask cannot be read, is missing, or does not have the picture's size; in diffusers'
            crop mode also if it is black.
        ParameterError: `height` or `width` does not fit `multiple`, or is not among those built.
    """
    if multiple <= 0 or multiple % LATENT_FACTOR:
        raise ParameterError(
            "multiple must fit the latent grid", received=multiple, expected="8, 16, 24, ..."
        )
    picture = load_picture(image, max_pixels)
    sizes = RunSizes((native[1], native[0]), multiple, tuple((width, height) for height, width in built))
    if options["compat"] == "diffusers":
        return prepare_as_diffusers(picture, mask, options, sizes, max_pixels)
    loaded = load_mask_for(picture, mask, options, max_pixels)
    margins = options["margins"]
    canvas = picture.width + margins[0] + margins[2], picture.height + margins[1] + margins[3]
    scene = compose_scene(picture, loaded, options, sizes.output(canvas, options))
    return _prepare_scene(scene, options, sizes)


def _prepare_scene(scene: Scene, options: Options, sizes: RunSizes) -> Prepared:
    frame = choose_frame(scene, options, sizes)
    part = frame.part(scene.colours)
    image = tensor_from_image(frame.surround(part))
    mask = tensor_from_mask(frame.mask_run(scene.mask))
    whole = frame.box == (0, 0, *scene.size)
    return assemble(
        fill_masked(image, mask, options["fill"]),
        mask,
        box=None if whole else frame.box,
        warnings=_warnings(mask, scene.mask),
        empty=not mask.any(),
        fill=options["fill"],
        paste=Blend(
            scene.colours,
            scene.alpha,
            frame.blend(scene.mask),
            frame.box,
            frame.content,
            reference=part if options["match_colors"] else None,
        ),
    )


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
