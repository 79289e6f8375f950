"""Which part of an image runs, and at which size."""

from __future__ import annotations

import math

from inpaintrt.images.masks import Box

__all__ = ["context_box", "crop_region", "fit", "nearest_multiple", "overfill", "run_size"]

_MIN_CONTEXT = 32
_CONTEXT_SHARE = 0.25


def nearest_multiple(side: float, multiple: int) -> int:
    """Round a side to the nearest multiple, but not to 0."""
    return max(multiple, round(side / multiple) * multiple)


def crop_region(bounds: Box, image: tuple[int, int], run: tuple[int, int], padding: int) -> Box:
    """Pad a bounding box, and widen it to the proportions of the run where the image allows.

    Args:
        bounds: The mask's bounding box.
        image: Width and height of the image.
        run: Width and height of the run.
        padding: Pixels around the bounding box.

    diffusers: `VaeImageProcessor.get_crop_region`.
    """
    width, height = image
    left, top = max(bounds.left - padding, 0), max(bounds.top - padding, 0)
    right, bottom = min(bounds.right + padding, width), min(bounds.bottom + padding, height)
    proportion = run[0] / run[1]
    if (right - left) / (bottom - top) > proportion:
        top, bottom = _widen(top, bottom, (right - left) / proportion, height)
    else:
        left, right = _widen(left, right, (bottom - top) * proportion, width)
    return Box(left, top, right, bottom)


def _widen(low: int, high: int, wanted: float, limit: int) -> tuple[int, int]:
    """Widen an interval to `wanted` around its middle, then shift it into [0, limit], then clip it."""
    extra = int(wanted - (high - low))
    low -= extra // 2
    high += extra - extra // 2
    overhang = max(high - limit, 0)
    low, high = low - overhang, high - overhang
    if low < 0:
        low, high = 0, high - low
    return low, min(high, limit)


def context_box(bounds: Box, image: tuple[int, int], native: tuple[int, int], reach: int) -> Box:
    """Choose what of a large image runs: the mask's bounding box and its surroundings.

    On every side 32 pixels, a quarter of the bounding box, or `reach`, whichever is largest, and then more of
    the image until the box has the native size. The box is shifted into the image, and clipped to it.

    Args:
        bounds: The mask's bounding box.
        image: Width and height of the image.
        native: Width and height that the checkpoint was trained at.
        reach: Pixels by which the mask's softness extends.
    """
    box_width, box_height = bounds.size
    left, right = _surround(bounds.left, bounds.right, _context(box_width, reach), native[0], image[0])
    top, bottom = _surround(bounds.top, bounds.bottom, _context(box_height, reach), native[1], image[1])
    return Box(left, top, right, bottom)


def _context(side: int, reach: int) -> int:
    return max(_MIN_CONTEXT, math.ceil(side * _CONTEXT_SHARE), reach)


def _surround(low: int, high: int, context: int, minimum: int, limit: int) -> tuple[int, int]:
    low, high = max(low - context, 0), min(high + context, limit)
    return _widen(low, high, max(minimum, high - low), limit)


def run_size(box: tuple[int, int], native: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Scale a box down to the native area, keeping its proportions; a smaller box keeps its size.

    Args:
        box: Width and height of the box.
        native: Width and height that the checkpoint was trained at.
        multiple: What the sides of a scaled box are multiples of.
    """
    width, height = box
    area = native[0] * native[1]
    if width * height <= area:
        return box
    scale = math.sqrt(area / (width * height))
    return nearest_multiple(width * scale, multiple), nearest_multiple(height * scale, multiple)


def fit(image: tuple[int, int], frame: tuple[int, int]) -> Box:
    """Place an image in the middle of a frame, as large as it fits with its own proportions.

    diffusers: `VaeImageProcessor._resize_and_fill`.
    """
    return _place(image, frame, by_width=frame[0] / frame[1] < image[0] / image[1])


def overfill(image: tuple[int, int], frame: tuple[int, int]) -> Box:
    """Place an image in the middle of a frame, as small as it covers it with its own proportions.

    diffusers: `VaeImageProcessor._resize_and_crop`.
    """
    return _place(image, frame, by_width=frame[0] / frame[1] > image[0] / image[1])


def _place(image: tuple[int, int], frame: tuple[int, int], *, by_width: bool) -> Box:
    if by_width:
        size = frame[0], max(image[1] * frame[0] // image[0], 1)
    else:
        size = max(image[0] * frame[1] // image[1], 1), frame[1]
    left, top = frame[0] // 2 - size[0] // 2, frame[1] // 2 - size[1] // 2
    return Box(left, top, left + size[0], top + size[1])
