"""The part of a canvas that runs, where it lies in the run, and how it gets there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inpaintrt.errors import ParameterError
from inpaintrt.images.masks import Box, binarise, bounding_box, cover, feather_inwards
from inpaintrt.images.regions import context_box, crop_region, fit, nearest_multiple, run_size
from inpaintrt.images.resizing import reflect_to, resize, stretch_edges

if TYPE_CHECKING:
    from PIL import Image

    from inpaintrt.images.options import ImageOptions
    from inpaintrt.images.scenes import Scene

__all__ = ["Frame", "choose_frame", "native_run", "output_size"]

# From here on a soft mask is seen in the result; below lies the noise of masks that were stored as JPEG.
_VISIBLE = 16
_HALF = 128
_WIDEST_FEATHER = 8
_GAUSSIAN_REACH = 3


@dataclass(frozen=True)
class Frame:
    """How a canvas and a run map to each other.

    Attributes:
        box: The part of the canvas that runs.
        run: Width and height of the run.
        content: Where in the run the part lies; what is around it is filled up.
        stretched_edges: What is around it repeats its edges; otherwise it is a reflection.
    """

    box: Box
    run: tuple[int, int]
    content: Box
    stretched_edges: bool = False

    @property
    def reduction(self) -> float:
        """Pixels of the canvas for one pixel of the run, along the side where there are most."""
        width, height = self.box.size
        return max(width / self.content.size[0], height / self.content.size[1])

    def image_run(self, colours: Image.Image) -> Image.Image:
        """Cut the part out of the canvas and bring it to the size of the run."""
        return self._surround(resize(colours.crop(self.box), self.content.size))

    def mask_run(self, mask: Image.Image) -> Image.Image:
        """Do to the mask what `image_run` does to the picture, and binarise it without losing a stroke."""
        part, size = mask.crop(self.box), self.content.size
        content = cover(part, size) if self.reduction > 1 else binarise(resize(part, size))
        return binarise(self._surround(content))

    def _surround(self, content: Image.Image) -> Image.Image:
        if self.stretched_edges:
            return stretch_edges(content, self.content, self.run)
        return reflect_to(content, self.run)

    def blend(self, mask: Image.Image) -> Image.Image:
        """Weigh the result against the canvas inside the box; 0 keeps the canvas bit by bit.

        An enlarged result is softer than the canvas, so its edge is feathered by one pixel of the run.
        """
        part = mask.crop(self.box)
        if self.reduction <= 1:
            return part
        return feather_inwards(part, min(math.ceil(self.reduction), _WIDEST_FEATHER))


def _check_run(run: tuple[int, int], multiple: int) -> None:
    """Refuse a size of the run (width, height) that the networks cannot have."""
    if run[0] % multiple or run[1] % multiple:
        raise ParameterError(
            "height and width must fit the latent grid",
            received=f"height={run[1]}, width={run[0]}",
            expected=f"multiples of {multiple}",
            hint=f"for example height={nearest_multiple(run[1], multiple)}, "
            f"width={nearest_multiple(run[0], multiple)}",
        )


def output_size(canvas: tuple[int, int], options: ImageOptions, multiple: int) -> tuple[int, int] | None:
    """Resolve the size (width, height) that everything is stretched to; None if it keeps its own."""
    height, width = options.height, options.width
    if options.padding_mask_crop is not None:
        return None
    if width is None:
        if height is None:
            return None
        width = nearest_multiple(canvas[0] * height / canvas[1], multiple)
    if height is None:
        height = nearest_multiple(canvas[1] * width / canvas[0], multiple)
    _check_run((width, height), multiple)
    return width, height


def choose_frame(scene: Scene, options: ImageOptions, native: tuple[int, int], multiple: int) -> Frame:
    """Choose the frame of a scene.

    Args:
        scene: The canvas, already stretched if an output size was asked for.
        options: What the caller wants.
        native: Width and height that the checkpoint was trained at.
        multiple: What the sides of a run are multiples of.
    """
    bounds, visible = bounding_box(scene.mask, _HALF), bounding_box(scene.mask, _VISIBLE)
    whole = Box(0, 0, *scene.size)
    if bounds is None or visible is None:
        return _reflected_frame(whole, native, multiple)
    if options.padding_mask_crop is not None:
        run = native_run(options, native, multiple)
        box = crop_region(bounds, scene.size, run, options.padding_mask_crop)
        return Frame(box, run, fit(box.size, run), stretched_edges=True)
    if options.height is not None or options.width is not None:
        return Frame(whole, scene.size, whole)
    if scene.size[0] <= native[0] and scene.size[1] <= native[1]:
        return _reflected_frame(whole, native, multiple)
    reach = math.ceil(_GAUSSIAN_REACH * options.mask_blur)
    return _reflected_frame(context_box(visible, scene.size, native, reach), native, multiple)


def native_run(options: ImageOptions, native: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Resolve `height` and `width` to the size (width, height) of a run that defaults to the native one."""
    width = native[0] if options.width is None else options.width
    height = native[1] if options.height is None else options.height
    _check_run((width, height), multiple)
    return width, height


def _reflected_frame(box: Box, native: tuple[int, int], multiple: int) -> Frame:
    width, height = run_size(box.size, native, multiple)
    run = math.ceil(width / multiple) * multiple, math.ceil(height / multiple) * multiple
    return Frame(box, run, Box(0, 0, width, height))
