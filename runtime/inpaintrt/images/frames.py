"""The part of a canvas that runs, where it lies in the run, and how it gets there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inpaintrt.images.masks import Box, binarise, bounding_box, cover, feather_inwards
from inpaintrt.images.regions import context_box, crop_region, fit, run_size
from inpaintrt.images.resizing import reflect_to, resize, stretch_edges
from inpaintrt.images.run_sizes import nearest_size

if TYPE_CHECKING:
    from PIL import Image

    from inpaintrt.images.run_sizes import RunSizes
    from inpaintrt.images.scenes import Scene
    from inpaintrt.options import Options

__all__ = ["Frame", "choose_frame"]

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
        """Pixels of the canvas for one pixel of the run, along the side with the larger number."""
        width, height = self.box.size
        return max(width / self.content.size[0], height / self.content.size[1])

    def part(self, colors: Image.Image) -> Image.Image:
        """Cut the part out of the canvas and bring it to the size of the content."""
        return resize(colors.crop(self.box), self.content.size)

    def mask_run(self, mask: Image.Image) -> Image.Image:
        """Bring the mask to the size of the run, and binarise it without losing a stroke."""
        part, size = mask.crop(self.box), self.content.size
        content = cover(part, size) if self.reduction > 1 else binarise(resize(part, size))
        return binarise(self.surround(content))

    def soft_run(self, mask: Image.Image) -> Image.Image:
        """Bring a mask whose grey values count to the size of the run."""
        return self.surround(resize(mask.crop(self.box), self.content.size))

    def surround(self, content: Image.Image) -> Image.Image:
        """Fill up what is around the content, to the size of the run."""
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


def choose_frame(scene: Scene, options: Options, sizes: RunSizes) -> Frame:
    """Choose the frame of a scene.

    Args:
        scene: The canvas, already stretched if an output size was asked for.
        options: What the caller wants.
        sizes: What checkpoint and engines allow.

    Raises:
        ParameterError: The caller asks for a size that they do not.
    """
    bounds, visible = bounding_box(scene.mask, _HALF), bounding_box(scene.mask, _VISIBLE)
    if options["padding_mask_crop"] is not None and bounds is not None:
        return _cropped_frame(scene, bounds, options, sizes)
    whole = Box(0, 0, *scene.size)
    if options["padding_mask_crop"] is None and (
        options["height"] is not None or options["width"] is not None
    ):
        return Frame(whole, scene.size, whole)
    marked = whole if bounds is None or visible is None else visible
    reach = math.ceil(_GAUSSIAN_REACH * options["mask_blur"])
    frame = _reflected_frame(context_box(marked, scene.size, sizes.native, reach), sizes)
    if sizes.runs(frame.run):
        return frame
    run = nearest_size(frame.run, sizes.built)
    box = crop_region(context_box(marked, scene.size, run, reach), scene.size, run, 0)
    return Frame(box, run, Box(0, 0, *fit(box.size, run).size))


def _cropped_frame(scene: Scene, bounds: Box, options: Options, sizes: RunSizes) -> Frame:
    """The mask's bounding box alone, at the size asked for, else at the native size or the nearest built."""
    if options["height"] is not None or options["width"] is not None or sizes.runs(sizes.native):
        run = sizes.asked(options)
    else:
        run = nearest_size(sizes.native, sizes.built)
    box = crop_region(bounds, scene.size, run, options["padding_mask_crop"] or 0)
    return Frame(box, run, fit(box.size, run), stretched_edges=True)


def _reflected_frame(box: Box, sizes: RunSizes) -> Frame:
    multiple = sizes.multiple
    width, height = run_size(box.size, sizes.native, multiple)
    run = math.ceil(width / multiple) * multiple, math.ceil(height / multiple) * multiple
    return Frame(box, run, Box(0, 0, width, height))
